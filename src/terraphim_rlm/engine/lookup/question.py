"""A question becomes a plan: the concepts that a supporting sentence should hold, and the kind of answer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.engine.lookup.words import ASKING, IRREGULAR, LIGHT, STOP, like
from terraphim_rlm.guest.retrieve import stem

Want = Literal["number", "time", "name", "place", "any"]
MAX_QUESTION = 2000
"""Characters; a longer text is not a question but an input."""
MAX_CONCEPTS = 16
LIKENESS = 1.6
"""Times the cosine of two words is the weight of the one for the other; at most 0.9, the own word having 1."""

_TOKEN = re.compile(r"[^\W_][\w]*(?:[.\-'\u2019/]\w+)*|--?\w[\w-]*|_\w+")
_PART = re.compile(r"[^\W_]+(?:_\w+)?|_\w+")
_HEADS = frozenset(
    [
        "year",
        "day",
        "date",
        "month",
        "time",
        "hour",
        "town",
        "city",
        "place",
        "country",
        "colour",
        "color",
        "person",
        "man",
        "woman",
        "number",
        "amount",
        "kind",
        "type",
        "name",
        "thing",
        "street",
        "building",
        "material",
        "animal",
        "word",
        "value",
        "price",
        "size",
    ]
)


@dataclass(frozen=True, slots=True)
class Concept:
    """One thing that the question is about."""

    word: str
    forms: tuple[tuple[str, float], ...]
    """Stems and weights; the question's own word and its inflections weigh 1."""
    anchor: bool = False
    """A name, number or identifier: nothing else can stand for it."""
    hint: bool = False
    """Says what kind of answer is wanted ("which town"), and may be missing from a true sentence."""

    @property
    def own(self) -> frozenset[str]:
        return frozenset(form for form, weight in self.forms if weight >= 1)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to look for."""

    question: str
    concepts: tuple[Concept, ...]
    want: Want = "any"

    def to_guest(self, limit: int = 8) -> dict[str, Any]:
        """The plan as plain JSON values, for `guest.retrieve.search`."""
        concepts = [{"forms": [[form, weight] for form, weight in c.forms]} for c in self.concepts]
        return {"concepts": concepts, "limit": limit}


_WANTS: tuple[tuple[str, Want], ...] = (
    (r"\bhow (?:many|much|far|long|tall|high|deep|wide|old|heavy|fast|big|large|often|hot|cold)\b", "number"),
    (r"\b(?:what|which) (?:\w+ )?(?:number|amount|price|weight|height|length|depth|size|distance|temperature|percentage|speed|cost|fee)\b", "number"),
    (r"\bwhen\b|\b(?:what|which) (?:\w+ )?(?:year|time|date|day|hour|month|century)\b", "time"),
    (r"\bwho(?:m|se)?\b", "name"),
    (r"\bwhere\b|\b(?:what|which) (?:town|city|place|country|village|island|port|street|region)\b", "place"),
)  # fmt: skip


def analyse(question: str, *, likeness: bool = True) -> Plan:
    """The plan of a question.

    Args:
        question: one question in plain words, at most `MAX_QUESTION` characters.
        likeness: whether words of like meaning count too.

    Raises:
        InvalidArgument: the question is empty, too long, or holds no word to look for.
    """
    if not question.strip() or len(question) > MAX_QUESTION:
        raise InvalidArgument(
            f"A question has 1 to {MAX_QUESTION} characters, this one {len(question)}.",
            fix="Ask one short question, and give long text as the input.",
        )
    concepts: dict[str, Concept] = {}
    before = ""
    for index, match in enumerate(_TOKEN.finditer(question)):
        token = match.group()
        for part in _PART.findall(token):
            concept = _concept(part, token, first=index == 0, before=before, likeness=likeness)
            if concept and (concept.word not in concepts or concept.anchor):
                concepts[concept.word] = concept
        before = token.lower()
    if not concepts:
        raise InvalidArgument(
            "The question holds no word to look for.",
            fix="Name the thing that you ask about.",
            question=question,
        )
    return Plan(question.strip(), tuple(concepts.values())[:MAX_CONCEPTS], _wanted(question))


def _wanted(question: str) -> Want:
    for pattern, want in _WANTS:
        if re.search(pattern, question, re.IGNORECASE):
            return want
    return "any"


def _concept(part: str, token: str, *, first: bool, before: str, likeness: bool) -> Concept | None:
    word = part.lower()
    named = part[:1].isupper() and not first
    if (first and word in ASKING) or (word in STOP and not (named and len(word) > 3)):
        return None
    if len(word) < 2 and not word.isdigit() and not named:
        return None
    odd = any(c.isdigit() or c in "._/" for c in token) or part[1:] != part[1:].lower()
    anchor = odd or named
    own = {stem(word): 1.0}
    for form in IRREGULAR.get(word, ()):
        own.setdefault(stem(form), 1.0)
    if likeness and not anchor:
        for form in tuple(own):
            for other, cosine in like(form):
                own[other] = max(own.get(other, 0.0), round(min(LIKENESS * cosine, 0.9), 2))
    hint = before in ("what", "which") or word in _HEADS or word in LIGHT
    return Concept(stem(word), tuple(own.items()), anchor, hint and not anchor)
