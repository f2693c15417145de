"""The use cases of a knowledge graph by itself: build one, look at it, hold a text to it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from terraphim_rlm.core.errors import DiskFull, InputUnreadable, InvalidArgument, PathDenied
from terraphim_rlm.core.values import SCHEMA_VERSION, Verdict, to_json
from terraphim_rlm.guard.kg.build import MOST_CONCEPTS, Built, OnStep, build
from terraphim_rlm.guard.kg.library import Knowledge, read, written
from terraphim_rlm.guard.kg.reading import MOST_JSON, parsed, read_bytes
from terraphim_rlm.guard.kg.thesaurus import Concept
from terraphim_rlm.guard.kg.vocabulary import Strict, Strictness, look, verdict

_MOST_RELATED = 8
_MOST_TOP = 12


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """A folder of Markdown documents, and where its graph goes."""

    folder: str
    out: str | None = None
    """The file; None = the folder's name with `.kg.json`, here."""
    name: str | None = None
    least_documents: int = 2
    most_concepts: int = MOST_CONCEPTS
    force: bool = False
    """A file that is no knowledge graph may be overwritten."""


def build_graph(request: BuildRequest, on_step: OnStep = lambda *_: None) -> dict[str, Any]:
    """Builds it, writes it whole or not at all, and says what it came to.

    Raises:
        PathNotFound, InputUnreadable, InputEmpty: there is nothing to build from.
        InvalidArgument, PathDenied, DiskFull: it cannot be written there.
    """
    for name, value in (("least", request.least_documents), ("most", request.most_concepts)):
        if value < 1:
            raise InvalidArgument(f"--{name} must be at least 1, not {value}.", name=name)
    folder = Path(request.folder).expanduser()
    out = Path(request.out or f"{folder.resolve().name or 'root'}.kg.json").expanduser()
    if not request.force:
        _check_free(out)
    built = build(
        folder,
        name=request.name,
        least_documents=request.least_documents,
        most_concepts=request.most_concepts,
        on_step=on_step,
    )
    _write(out, written(built.graph))
    return {"path": str(out), **_about(Knowledge(built.graph)), **_oddities(built)}


def _check_free(out: Path) -> None:
    """An older graph may be overwritten, and nothing else."""
    if not out.exists():
        return
    if out.is_file():
        try:
            if "graph" in parsed(read_bytes(out, MOST_JSON), out):
                return
        except InputUnreadable:
            pass
    raise InvalidArgument(
        f"{out} is there, and is no knowledge graph that was built before.",
        fix="Name another file with --out, or say --force.",
        path=str(out),
    )


def _write(out: Path, data: bytes) -> None:
    draft = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        draft.write_bytes(data)
        draft.replace(out)
    except OSError as error:
        draft.unlink(missing_ok=True)
        if error.errno in (28, 122):  # ENOSPC, EDQUOT
            raise DiskFull(f"{out} could not be written: {error.strerror}.") from error
        raise PathDenied(
            f"{out} cannot be written: {error.strerror}.", fix="Name another file with --out.", path=str(out)
        ) from error


def _oddities(built: Built) -> dict[str, Any]:
    return {"left_out": list(built.left_out), "oddities": list(built.graph.thesaurus.oddities)}


def _about(knowledge: Knowledge) -> dict[str, Any]:
    graph, thesaurus = knowledge.graph, knowledge.thesaurus
    return {
        "schema_version": SCHEMA_VERSION,
        "name": thesaurus.name,
        "documents": len(graph.documents),
        "concepts": len(thesaurus.concepts),
        "terms": len(thesaurus.terms),
        "edges": len(graph.edges),
        "components": graph.components()[:_MOST_TOP],
        "top": [{"concept": each.name, "rank": graph.node(each).rank} for each in graph.top(_MOST_TOP)],
    }


def check_text(
    graph: str, text: str, language: str, strictness: Strictness, least_ratio: float
) -> tuple[dict[str, Any], Verdict]:
    """What a text says in a graph's terms, and the verdict on it.

    Args:
        language: of code; `text` looks at every word.
    """
    strict = Strict(strictness, least_ratio)
    knowledge = read(Path(graph).expanduser())
    vocabulary = look(knowledge, text, language)
    said = verdict(knowledge, vocabulary, strict)
    found = [
        {"term": each.term, "concept": each.concept.name, "start": each.start, "end": each.end}
        for each in vocabulary.found
    ]
    data = {
        "schema_version": SCHEMA_VERSION,
        "decision": said.decision,
        "strictness": strictness,
        "ratio": round(vocabulary.ratio, 4) if vocabulary.known or vocabulary.unknown else None,
        "connected": vocabulary.connected,
        "found": found,
        "unknown": [{"word": each.text, "start": each.start, "end": each.end} for each in vocabulary.unknown],
        "findings": to_json(said.findings),
    }
    return data, said


def search_graph(graph: str, query: str, most: int) -> dict[str, Any]:
    """The documents that name a query's concepts, and what those are named beside.

    Raises:
        InvalidArgument: the query names no concept; the fix says which are near.
    """
    if most < 1:
        raise InvalidArgument(f"--limit must be at least 1, not {most}.", name="limit")
    knowledge = read(Path(graph).expanduser())
    named = {each.concept.id: each.concept for each in knowledge.thesaurus.find(query)}
    if not named:
        raise _unknown(knowledge, query)
    hits = knowledge.graph.search(query, most)
    return {
        "schema_version": SCHEMA_VERSION,
        "query": query,
        "concepts": [_described(knowledge, concept) for concept in named.values()],
        "documents": [{"path": hit.path, "rank": hit.rank, "concepts": list(hit.concepts)} for hit in hits],
    }


def _described(knowledge: Knowledge, concept: Concept) -> dict[str, Any]:
    node = knowledge.graph.node(concept)
    return {
        "concept": concept.name,
        "id": concept.id,
        "url": concept.url or None,
        "terms": list(knowledge.thesaurus.synonyms(concept)),
        "rank": node.rank,
        "documents": node.documents,
        "related": [
            {"concept": other.name, "count": count}
            for other, count in knowledge.graph.related(concept, _MOST_RELATED)
        ],
    }


def connect_terms(graph: str, terms: Sequence[str]) -> dict[str, Any]:
    """Whether terms are connected, and the shortest path from each to the next.

    Raises:
        InvalidArgument: fewer than two terms, or one that is unknown; the fix says which are near.
    """
    if len(terms) < 2:
        raise InvalidArgument("Two terms at least can be connected.", fix="Name another one.")
    knowledge = read(Path(graph).expanduser())
    concepts = []
    for term in terms:
        concept = knowledge.thesaurus.concept(term)
        if concept is None:
            raise _unknown(knowledge, term)
        concepts.append(concept)
    steps = [
        {"from": one.name, "to": other.name, "path": [each.name for each in knowledge.graph.path(one, other)]}
        for one, other in pairwise(concepts)
    ]
    return {
        "schema_version": SCHEMA_VERSION,
        "terms": list(terms),
        "connected": knowledge.graph.are_connected(each.id for each in concepts),
        "paths": steps,
    }


def _unknown(knowledge: Knowledge, said: str) -> InvalidArgument:
    near = knowledge.near.terms(said)
    top = [each.name for each in knowledge.graph.top(5)]
    fix = (
        f"Did you mean {' or '.join(map(repr, near))}?"
        if near
        else f"Its terms are such as {', '.join(top)}."
    )
    return InvalidArgument(
        f"{said[:80]!r} names no concept of {knowledge.thesaurus.name!r}.", fix=fix, near=near
    )
