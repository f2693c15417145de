"""How the concepts of a domain hang together: what documents name together is connected."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from terraphim_rlm.guard.kg.thesaurus import Concept, Thesaurus

_BREAK = re.compile(r"\n[ \t\r]*\n")


@dataclass(frozen=True, slots=True)
class Node:
    """A concept in the graph."""

    concept: Concept
    rank: int
    """How often the documents name it."""
    documents: int
    """How many of them do."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A document that a search found."""

    path: str
    rank: int
    """How often it names what was searched, and what that is connected with."""
    concepts: tuple[str, ...]
    """Those of the search that it names."""


@dataclass
class RoleGraph:
    """Concepts as nodes; an edge for two that follow one another in a paragraph, with how often they do.

    Only neighbours are joined and not all pairs of a paragraph, so that work grows with the text and not with its
    square; which concepts are connected is the same.
    """

    thesaurus: Thesaurus
    documents: dict[str, Counter[int]] = field(default_factory=dict)
    """Path -> concept id -> how often it is named there."""
    edges: Counter[tuple[int, int]] = field(default_factory=Counter)
    """(lower id, higher id) -> how often they follow one another."""
    _near: dict[int, set[int]] = field(default_factory=dict)
    _above: dict[int, int] = field(default_factory=dict)
    """Each concept that occurs -> another of its component; of the root itself."""
    _ranks: Counter[int] = field(default_factory=Counter)

    def add(self, path: str, text: str) -> None:
        """Takes a document in; one of the same path must not be in already."""
        self.add_counted(path, *counted(self.thesaurus, text))

    def add_counted(
        self, path: str, named: Mapping[int, int], following: Mapping[tuple[int, int], int]
    ) -> None:
        """As `add`, what was counted in a document before."""
        self.documents[path] = Counter(named)
        self._ranks.update(named)
        for id in named:
            self._above.setdefault(id, id)
        for (one, other), count in following.items():
            self.edges[one, other] += count
            self._near.setdefault(one, set()).add(other)
            self._near.setdefault(other, set()).add(one)
            self._above[self._root(one)] = self._root(other)

    def _root(self, id: int) -> int:
        """The concept that stands for a component; paths are halved on the way."""
        above = self._above
        above.setdefault(id, id)
        while above[id] != id:
            above[id] = above[above[id]]
            id = above[id]
        return id

    def node(self, concept: Concept) -> Node:
        named = sum(1 for counts in self.documents.values() if concept.id in counts)
        return Node(concept, self._ranks[concept.id], named)

    def top(self, most: int) -> list[Concept]:
        """The concepts that the documents name most; without documents, the first ones."""
        if not self._ranks:
            return list(self.thesaurus.concepts[:most])
        ranks = self._ranks
        return sorted(self.thesaurus.concepts, key=lambda concept: -ranks[concept.id])[:most]

    def is_connected(self, terms: Iterable[str]) -> bool:
        """Whether a path through the graph leads from each term to every other. Linear in the number of terms.

        True of fewer than two concepts; false when a term is unknown, or none of several is in any document.
        """
        ids = set()
        for term in terms:
            concept = self.thesaurus.concept(term)
            if concept is None:
                return False
            ids.add(concept.id)
        return self.are_connected(ids)

    def are_connected(self, ids: Iterable[int]) -> bool:
        """As `is_connected`, for concepts by their ids."""
        wanted = set(ids)
        return (
            len(wanted) < 2 or len({self._root(id) if id in self._above else -id - 1 for id in wanted}) == 1
        )

    def path(self, one: Concept, other: Concept) -> list[Concept]:
        """A shortest path between two concepts, ends included; empty when there is none. Linear in the edges."""
        before: dict[int, int] = {one.id: one.id}
        waiting = deque([one.id])
        while waiting and other.id not in before:
            here = waiting.popleft()
            for there in sorted(self._near.get(here, ())):
                if there not in before:
                    before[there] = here
                    waiting.append(there)
        if other.id not in before:
            return []
        steps = [other.id]
        while steps[-1] != one.id:
            steps.append(before[steps[-1]])
        known = self.thesaurus.by_id
        return [known[id] for id in reversed(steps)]

    def related(self, concept: Concept, most: int) -> list[tuple[Concept, int]]:
        """What a concept is named beside, most often first, with how often."""
        known = self.thesaurus.by_id
        counted = [
            (known[id], self.edges[min(id, concept.id), max(id, concept.id)])
            for id in self._near.get(concept.id, ())
        ]
        return sorted(counted, key=lambda each: (-each[1], each[0].name))[:most]

    def search(self, query: str, most: int = 10) -> list[Hit]:
        """The documents that name the query's concepts, best first: those that name more of them, then by rank.

        A document's rank is how often it names them, and each neighbour of theirs once.
        """
        wanted = {found.concept.id: found.concept.name for found in self.thesaurus.find(query)}
        near = set().union(*(self._near.get(id, set()) for id in wanted)) - set(wanted)
        hits = []
        for path, named in self.documents.items():
            here = [id for id in wanted if id in named]
            if here:
                rank = sum(named[id] for id in here) + len(near & named.keys())
                hits.append(Hit(path, rank, tuple(wanted[id] for id in here)))
        return sorted(hits, key=lambda hit: (-len(hit.concepts), -hit.rank, hit.path))[:most]

    def components(self) -> list[int]:
        """How many concepts each connected part has, largest first."""
        return sorted(Counter(map(self._root, list(self._above))).values(), reverse=True)

    def to_json(self) -> dict[str, Any]:
        """The thesaurus in Terraphim's shape, and beside it `graph`, which its readers pass over."""
        documents = [
            {"path": path, "concepts": {str(id): count for id, count in named.items()}}
            for path, named in self.documents.items()
        ]
        edges = [[one, other, count] for (one, other), count in sorted(self.edges.items())]
        return {**self.thesaurus.to_json(), "graph": {"documents": documents, "edges": edges}}


def counted(thesaurus: Thesaurus, text: str) -> tuple[Counter[int], Counter[tuple[int, int]]]:
    """What a document names, and what follows one another in its paragraphs, by concept id."""
    named: Counter[int] = Counter()
    following: Counter[tuple[int, int]] = Counter()
    for ids in _by_paragraph(thesaurus, text):
        named.update(ids)
        for one, other in pairwise(ids):
            if one != other:
                following[min(one, other), max(one, other)] += 1
    return named, following


def _by_paragraph(thesaurus: Thesaurus, text: str) -> Iterator[Sequence[int]]:
    """The ids of the concepts of each paragraph, in order."""
    ends = [match.start() for match in _BREAK.finditer(text)]
    ids: dict[int, list[int]] = {}
    for found in thesaurus.find(text):
        ids.setdefault(bisect_right(ends, found.start), []).append(found.concept.id)
    yield from ids.values()
