"""Whether a piece of code speaks the language of a domain: the judge of the knowledge graph.

A question of vocabulary, not of harm: `rm -rf /` passes where `rm` is a term. What could do harm is the safety rules'.
"""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.core.values import Finding, Verdict
from terraphim_rlm.guard.judging import VOCABULARY
from terraphim_rlm.guard.kg.library import Knowledge, Library
from terraphim_rlm.guard.kg.thesaurus import Found
from terraphim_rlm.guard.kg.words import Word, said, words

Strictness = Literal["permissive", "normal", "strict"]
"""`permissive`: everything runs, and what is odd is told. `normal`: code that says something must name a known term,
and its share of known words must not be too low. `strict`: every word of it must be known, and its concepts connected."""
_LONG = 50_000
"""Characters of code that are looked at in a thread, so that nobody else waits."""
_MOST_WORDS = 8
"""Unknown words of one piece of code for which something is suggested."""
_MOST_UNKNOWN = 50
_MOST_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Strict:
    """How strictly code is held to a knowledge graph."""

    strictness: Strictness = "normal"
    least_ratio: float = 0.1
    """Least share of known words among those that count, from 0 to 1; of `normal` only."""

    def __post_init__(self) -> None:
        if self.strictness not in get_args(Strictness):
            raise InvalidArgument(
                f"The strictness must be {', '.join(get_args(Strictness)[:-1])} or {get_args(Strictness)[-1]}, "
                f"not {str(self.strictness)[:40]!r}.",
                name="strictness",
            )
        ratio = self.least_ratio
        if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0 <= ratio <= 1:
            raise InvalidArgument(
                f"least_ratio must be a number from 0 to 1, not {ratio!r}.", name="least_ratio"
            )


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a piece of code says, in the terms of a knowledge graph."""

    found: tuple[Found, ...]
    known: tuple[Word, ...]
    unknown: tuple[Word, ...]
    connected: bool
    """Whether a path leads from each concept that is named to every other."""

    @property
    def ratio(self) -> float:
        """The share of known words; NaN where no word counts."""
        count = len(self.known) + len(self.unknown)
        return len(self.known) / count if count else math.nan


def look(knowledge: Knowledge, code: str, language: str) -> Vocabulary:
    """Reads a piece of code. It is neither parsed nor run."""
    text = said(code, language)
    found = knowledge.thesaurus.find(text)
    starts = [each.start for each in found]
    known: list[Word] = []
    unknown: list[Word] = []
    for word in words(text):
        before = bisect_right(starts, word.end - 1) - 1
        covered = before >= 0 and found[before].end > word.start
        (known if covered else unknown).append(word)
    connected = knowledge.graph.are_connected(each.concept.id for each in found)
    return Vocabulary(tuple(found), tuple(known), tuple(unknown), connected)


def verdict(knowledge: Knowledge, vocabulary: Vocabulary, strict: Strict = Strict()) -> Verdict:
    """What a vocabulary comes to."""
    findings = _RULES[strict.strictness](knowledge, vocabulary, strict)
    if not findings:
        return Verdict("allow")
    return Verdict("warn" if strict.strictness == "permissive" else "block", tuple(findings))


class KgJudge:
    """Judges code by a knowledge graph.

    Args:
        library: where the graph is; it is read again when it changes.
        strict: how strictly.
    """

    def __init__(self, library: Library, strict: Strict = Strict()) -> None:
        self.library = library
        self.strict = strict

    async def judge(self, code: str, language: str) -> Verdict:
        """The verdict; see `guard.judging.Judge`."""
        knowledge = await self.library.current()
        if len(code) > _LONG:
            return await asyncio.to_thread(self._judged, knowledge, code, language)
        return self._judged(knowledge, code, language)

    def _judged(self, knowledge: Knowledge, code: str, language: str) -> Verdict:
        found = verdict(knowledge, look(knowledge, code, language), self.strict)
        if not self.library.trouble:
            return found
        told = (
            f"The knowledge graph could not be read again, and the one before is used: {self.library.trouble}"
        )
        notice = Finding(f"{VOCABULARY}not-reloaded", "info", 0, 0, told)
        return Verdict("warn" if found.decision == "allow" else found.decision, (*found.findings, notice))

    def warm(self) -> None:
        """Reads the graph, if it is not read yet; returns at once."""
        self.library.warm()

    async def close(self) -> None:
        """Lets go of nothing: the graph is data."""


def _normal(knowledge: Knowledge, vocabulary: Vocabulary, strict: Strict) -> list[Finding]:
    if not vocabulary.known and not vocabulary.unknown:
        return []
    name = knowledge.thesaurus.name
    if not vocabulary.found:
        told = f"It names no term of {name!r}."
        return [
            *_unknown(knowledge, vocabulary),
            _whole("no-known-term", vocabulary, told, _examples(knowledge)),
        ]
    if vocabulary.ratio < strict.least_ratio:
        told = f"Of its words {vocabulary.ratio:.0%} are terms of {name!r}, and {strict.least_ratio:.0%} are the least."
        return [*_unknown(knowledge, vocabulary), _whole("low-ratio", vocabulary, told, _examples(knowledge))]
    return []


def _strict(knowledge: Knowledge, vocabulary: Vocabulary, strict: Strict) -> list[Finding]:
    findings = _unknown(knowledge, vocabulary)
    if not vocabulary.found and vocabulary.unknown:
        told = f"It names no term of {knowledge.thesaurus.name!r}."
        findings.append(_whole("no-known-term", vocabulary, told, _examples(knowledge)))
    if not vocabulary.connected:
        named = ", ".join(dict.fromkeys(each.concept.name for each in vocabulary.found))
        told = f"No path leads between all of these: {named[:300]}."
        findings.append(
            _whole(
                "disconnected",
                vocabulary,
                told,
                "Ask about concepts that belong together, one step at a time.",
            )
        )
    return findings


def _permissive(knowledge: Knowledge, vocabulary: Vocabulary, strict: Strict) -> list[Finding]:
    return _normal(knowledge, vocabulary, strict)


_RULES = {"permissive": _permissive, "normal": _normal, "strict": _strict}


def _unknown(knowledge: Knowledge, vocabulary: Vocabulary) -> list[Finding]:
    """The words that are no terms, each once, with what they may have meant."""
    first: dict[str, Word] = {}
    for word in vocabulary.unknown:
        first.setdefault(word.text.casefold(), word)
    findings = []
    for number, word in enumerate(list(first.values())[:_MOST_UNKNOWN]):
        near = knowledge.near.terms(word.text) if number < _MOST_WORDS else []
        meant = f"Did you mean {_listed(near)}?" if near else ""
        findings.append(
            Finding(f"{VOCABULARY}unknown-term", "low", word.start, word.end, "It is no known term.", meant)
        )
    return findings


def _whole(rule: str, vocabulary: Vocabulary, message: str, suggestion: str) -> Finding:
    """A finding over all that the code says."""
    places: list[Word | Found] = [*vocabulary.known, *vocabulary.unknown, *vocabulary.found]
    start = min((each.start for each in places), default=0)
    end = max((each.end for each in places), default=0)
    return Finding(f"{VOCABULARY}{rule}", "medium", start, end, message, suggestion)


def _examples(knowledge: Knowledge) -> str:
    return f"Use its terms, such as {_listed([each.name for each in knowledge.graph.top(_MOST_EXAMPLES)])}."


def _listed(terms: Sequence[str]) -> str:
    shown = [repr(term) for term in terms]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"
