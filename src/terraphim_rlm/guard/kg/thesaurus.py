"""The words of a domain: terms, and the concept that each of them means."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from terraphim_rlm.guard.kg.matcher import Match, Matcher, key

MOST_TERMS = 1_000_000
LEAST_TERM, MOST_TERM = 2, 200
"""Characters of a term. One of a single character would be found in nearly every text."""
_MOST_TOLD = 20
"""Oddities that are told one by one."""


@dataclass(frozen=True, slots=True)
class Concept:
    """What several terms mean."""

    id: int
    """Unique in its thesaurus."""
    name: str
    """The normalised term (`nterm`)."""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """A concept at a place; `start` and `end` count characters."""

    concept: Concept
    term: str
    start: int
    end: int


@dataclass(frozen=True)
class Thesaurus:
    """Terms and their concepts. Made by `Writer`, which sees to it that each term is usable and means one thing."""

    name: str
    terms: Mapping[str, Concept]
    oddities: tuple[str, ...] = ()
    """What was left out or changed on reading, one sentence each."""

    @cached_property
    def matcher(self) -> Matcher:
        return Matcher(self.terms)

    @cached_property
    def _concepts(self) -> tuple[Concept, ...]:
        """Of each term, in the matcher's order."""
        return tuple(self.terms.values())

    @cached_property
    def _by_key(self) -> dict[str, Concept]:
        return {key(term): concept for term, concept in self.terms.items()}

    @cached_property
    def concepts(self) -> tuple[Concept, ...]:
        """All concepts, each once."""
        return tuple({concept.id: concept for concept in self.terms.values()}.values())

    @cached_property
    def by_id(self) -> dict[int, Concept]:
        return {concept.id: concept for concept in self.concepts}

    def find(self, text: str) -> list[Found]:
        """Each concept that a text names, in order."""
        return [self._found(match) for match in self.matcher.find(text)]

    def _found(self, match: Match) -> Found:
        return Found(self._concepts[match.index], match.term, match.start, match.end)

    def concept(self, term: str) -> Concept | None:
        """The one that a term means, whatever its case."""
        return self._by_key.get(key(term))

    def synonyms(self, concept: Concept) -> tuple[str, ...]:
        """All terms that mean a concept."""
        return tuple(self._synonyms.get(concept.id, ()))

    @cached_property
    def _synonyms(self) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        for term, concept in self.terms.items():
            found.setdefault(concept.id, []).append(term)
        return found

    def to_json(self) -> dict[str, Any]:
        """In Terraphim's own shape."""
        data = {
            term: {
                "id": concept.id,
                "nterm": concept.name,
                **({"url": concept.url} if concept.url else {}),
            }
            for term, concept in self.terms.items()
        }
        return {"name": self.name, "data": data}


@dataclass
class Writer:
    """Gathers terms for a thesaurus; what cannot be one is left out, and said."""

    name: str
    terms: dict[str, Concept] = field(default_factory=dict)
    _by_name: dict[str, Concept] = field(default_factory=dict)
    _ids: set[int] = field(default_factory=set)
    _keys: dict[str, str] = field(default_factory=dict)
    _oddities: list[str] = field(default_factory=list)
    _left_out: int = 0
    _next: int = 1

    def concept(self, name: str, id: int | None = None, url: str = "") -> Concept:
        """The concept of a name; the first one that is given its id keeps it."""
        name = " ".join(name.split())
        known = self._by_name.get(key(name))
        if known is not None:
            if id is not None and id != known.id:
                self.odd(f"{name!r} has two ids; {known.id} is kept.")
            return known
        if id is None or id in self._ids:
            if id is not None:
                self.odd(f"The id {id} belongs to another concept than {name!r}, which gets one of its own.")
            while self._next in self._ids:
                self._next += 1
            id = self._next
        self._ids.add(id)
        made = self._by_name[key(name)] = Concept(id, name, url)
        return made

    def add(self, term: str, concept: Concept) -> None:
        """Lets a term mean a concept."""
        term = " ".join(term.split())
        if (why := unusable(term)) is not None:
            self.odd(f"{term[:60]!r} is left out: {why}.")
            return
        same = self._keys.setdefault(key(term), term)
        if same in self.terms:
            if self.terms[same].id != concept.id:
                self.odd(
                    f"{term!r} means {self.terms[same].name!r} already; {concept.name!r} does not get it."
                )
            return
        self.terms[term] = concept

    def add_all(self, terms: Iterable[str], concept: Concept) -> None:
        for term in terms:
            self.add(term, concept)

    def odd(self, said: str) -> None:
        self._left_out += 1
        if len(self._oddities) < _MOST_TOLD:
            self._oddities.append(said)

    def thesaurus(self) -> Thesaurus:
        more = self._left_out - len(self._oddities)
        said = [*self._oddities, *([f"And {more:,} more like these."] if more else [])]
        return Thesaurus(self.name, self.terms, tuple(said))


def unusable(term: str) -> str | None:
    """Why a text cannot be a term; None when it can."""
    if len(term) < LEAST_TERM:
        return f"it has fewer than {LEAST_TERM} characters"
    if len(term) > MOST_TERM:
        return f"it has more than {MOST_TERM} characters"
    if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in term):
        return "it holds control characters or lone surrogates"
    if not any(sign.isalnum() for sign in term):
        return "it has neither letters nor digits"
    return None
