"""What the host lets through: a quote that it read itself, and that supports the question's terms.

A sentence supports a concept by the question's own word (1), by a word of like meaning (0.4 to 0.9) or, for
a name, by the paragraph or path around it (0.5). Two ways lead to an answer. *Literal*: the sentence shares words with the
question; then nearly everything else must be shared too, because an author who repeats most words of a
question and not the last is talking of something else. *Paraphrase*: nothing is shared; then likeness and the
model must speak for the sentence, and the answer is never `verified`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from terraphim_rlm.engine.lookup.question import Plan
from terraphim_rlm.guest.retrieve import stems

ReadSpan = Callable[[str, int, int], bytes | None]
"""`read(path, start, end)`: the host's own bytes of a span, None when there is no such span."""

MAX_PASSAGES = 64
MAX_QUOTE = 2400
"""Bytes of one quote."""
AROUND = 400
"""Bytes before a quote in which a name may stand for it."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Calibrated on facts that the benchmark does not use; see `testing/bench/needles_data`."""

    missing: float = 0.2
    """Most of the needed concepts that a literal sentence may lack, as a share of them, rounded down."""
    breadth: float = 0.1
    """Least share of all concepts that a paraphrase must support, and never fewer than two."""
    worth: float = 0.4
    """Least breadth plus lead that lets a paraphrase through."""
    alone: float = 0.5
    """Least breadth that does so when the model cannot say how likely the question is."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A span that the host has read, and what it says about the question."""

    path: str
    start: int
    end: int
    quote: str
    support: tuple[float, ...]
    """By concept of the plan, 0 to 1."""
    own: int
    """Needed concepts that are there by the question's own word; a hint is not needed."""
    like: int
    """Needed concepts that are there by a word of like meaning or, for a name, right around the quote."""
    needed: int
    named: bool
    """Every name, number and identifier of the question is there or right around it."""

    @property
    def text(self) -> str:
        return " ".join(self.quote.split())

    @property
    def complete(self) -> bool:
        """Every needed concept is there by the question's own word."""
        return self.own == self.needed > 0

    @property
    def breadth(self) -> float:
        """Support of all concepts, hints too, as a share of the most there could be."""
        return sum(self.support) / len(self.support)

    def literal(self, thresholds: Thresholds) -> bool:
        """Says what is asked, for the most part in the question's own words."""
        missing = self.needed - self.own - self.like
        firm = self.own >= 2 or self.complete
        return (
            self.named
            and firm
            and 2 * self.own >= self.needed
            and missing <= int(thresholds.missing * self.needed)
        )

    def paraphrase(self, thresholds: Thresholds) -> bool:
        """May say what is asked in other words. Half in the same words, the rest missing, is a near miss instead."""
        other_words = 2 * self.own < self.needed or self.own + self.like == self.needed
        several = sum(value > 0 for value in self.support) >= 2
        return other_words and several and self.breadth >= thresholds.breadth


def candidates(plan: Plan, findings: Any, read: ReadSpan) -> tuple[Candidate, ...]:
    """The findings of a sandbox, each read again from the host's own copy; whatever is malformed is dropped."""
    passages = findings.get("passages") if isinstance(findings, dict) else None
    found: dict[str, Candidate] = {}
    for passage in passages[:MAX_PASSAGES] if isinstance(passages, list) else ():
        if candidate := _candidate(plan, passage, read):
            found.setdefault(candidate.text, candidate)
    return tuple(found.values())


def _candidate(plan: Plan, passage: Any, read: ReadSpan) -> Candidate | None:
    if not isinstance(passage, dict):
        return None
    path, start, end = passage.get("path"), passage.get("start"), passage.get("end")
    if not isinstance(path, str) or type(start) is not int or type(end) is not int:
        return None
    if not 0 <= start < end <= start + MAX_QUOTE or not (raw := read(path, start, end)):
        return None
    before = (read(path, max(0, start - AROUND), start) or b"").rpartition(b"\n\n")[2]
    return assess(plan, path, (start, end), raw, before + b" " + path.encode("utf-8", "replace"))


def assess(plan: Plan, path: str, span: tuple[int, int], raw: bytes, around: bytes) -> Candidate:
    """What the bytes `raw` at `span`, with the bytes `around` them, say about the question."""
    held, near = stems(raw), stems(around)
    support = []
    for concept in plan.concepts:
        value = max((weight for form, weight in concept.forms if form in held), default=0.0)
        support.append(0.5 if not value and concept.anchor and concept.own & near else value)
    needed = [(c, s) for c, s in zip(plan.concepts, support, strict=True) if not c.hint]
    own = sum(s == 1.0 for _, s in needed)
    return Candidate(
        path, *span, raw.decode("utf-8", "replace"), tuple(support), own=own,
        like=sum(s > 0 for _, s in needed) - own, needed=len(needed),
        named=all(s > 0 for c, s in needed if c.anchor),
    )  # fmt: skip


_NEGATION = re.compile(
    r"\b(?:not|never|no longer|neither|nor|without|except|instead of|rather than|\w+n't)\b", re.I
)
_OPPOSITE = (("from", "to"), ("before", "after"), ("above", "below"), ("with", "without"), ("over", "under"))
_PHRASE = re.compile(r"(?<=\s)[A-Z][\w'-]*(?:\s+[A-Z][\w'-]*)+")
_KINDS = {
    "number": re.compile(
        r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|\w+ty|hundred|thousand|"
        r"million|half|dozen|once|twice)\b", re.I),
    "time": re.compile(
        r"\d|\b(?:\w+day|january|february|march|april|may|june|july|august|september|october|november|december|"
        r"spring|summer|autumn|winter|noon|midnight|dawn|dusk|morning|evening|night|century|when|after|before)\b", re.I),
    "name": re.compile(r"(?<!^)\b[A-Z]\w+|^[A-Z]\w+"),
    "place": re.compile(r"[A-Z]\w+|\b(?:in|at|on|under|behind|above|near|inside|over|beside|below)\b"),
    "any": re.compile(r""),
}  # fmt: skip


_NAME = re.compile(
    r"(?<![.!?] )(?<!^)\b[A-Z][\w'-]*(?:\s+[A-Z][\w'-]*)*|^(?!(?:The|A|An|In|It|On|At|After|Before)\b)[A-Z][\w'-]*"
)
_FIGURE = re.compile(
    r"\d[\d:.,]*\d|\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|hundred|thousand|million|"
    r"half|dozen|(?:[Mm]on|[Tt]ues|[Ww]ednes|[Tt]hurs|[Ff]ri|[Ss]atur|[Ss]un)day|[Jj]anuary|[Ff]ebruary|[Mm]arch|April|"
    r"May|June|July|August|September|October|November|December|spring|summer|autumn|winter|noon|midnight|dawn|dusk)\b"
)
_SINGLE = {"number": _FIGURE, "time": _FIGURE, "name": _NAME}


def states_kind(plan: Plan, candidate: Candidate) -> bool:
    """Whether the sentence holds, besides the question's own words, something of the kind that is asked for."""
    return bool(_KINDS[plan.want].search(_besides(plan, candidate)))


def settled(plan: Plan, candidate: Candidate, value: str) -> bool:
    """Whether `value` holds the one thing in the sentence, besides the question's words, that can be the answer."""
    pattern = _SINGLE.get(plan.want)
    found = set(pattern.findall(_besides(plan, candidate))) if pattern else set()
    return len(found) == 1 and found.pop() in value


def _besides(plan: Plan, candidate: Candidate) -> str:
    own = set().union(*(c.own for c in plan.concepts))
    return re.sub(
        r"[^\W_]+", lambda m: m.group() if not stems(m.group().encode()) & own else " ", candidate.text
    )


def certain(plan: Plan, candidate: Candidate, others: Sequence[Candidate]) -> bool:
    """Whether the host itself can vouch: every term is in the quote, the kind fits, nothing else claims the same."""
    question, text = plan.question, candidate.text
    if not candidate.complete or not states_kind(plan, candidate):
        return False
    if _NEGATION.search(text) and not _NEGATION.search(question):
        return False
    if any(phrase not in text for phrase in (" ".join(m.split()) for m in _PHRASE.findall(question))):
        return False
    if any(_turned(question, text, pair) for pair in _OPPOSITE):
        return False
    return not any(other.complete and other.text != text and states_kind(plan, other) for other in others)


def _turned(question: str, text: str, pair: tuple[str, str]) -> bool:
    """Whether a word follows one preposition in the question and its opposite in the text."""
    for here, there in (pair, pair[::-1]):
        for word in re.findall(rf"\b{here}\s+(?:the\s+|a\s+)?(\w+)", question, re.I):
            opposite = re.search(rf"\b{there}\s+(?:the\s+|a\s+)?{re.escape(word)}\b", text, re.I)
            if opposite and not re.search(rf"\b{here}\s+(?:the\s+|a\s+)?{re.escape(word)}\b", text, re.I):
                return True
    return False
