"""A knowledge graph on disk: read when it is first needed, read again when it changes, kept when what changed is bad."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from terraphim_rlm.core.clock import SYSTEM_CLOCK, Clock
from terraphim_rlm.core.errors import InputUnreadable, PathNotFound, RlmError
from terraphim_rlm.guard.kg.graph import RoleGraph
from terraphim_rlm.guard.kg.near import Near
from terraphim_rlm.guard.kg.pages import prose
from terraphim_rlm.guard.kg.reading import (
    MOST_JSON,
    from_parsed,
    pages,
    parsed,
    read_bytes,
    read_pages,
    read_thesaurus,
)
from terraphim_rlm.guard.kg.thesaurus import Thesaurus

_LOOK_SECONDS = 1.0
"""Between two looks at whether the files have changed."""
_MOST_EDGES = 10_000_000


@dataclass(frozen=True)
class Knowledge:
    """A graph with what is made of it once."""

    graph: RoleGraph

    @property
    def thesaurus(self) -> Thesaurus:
        return self.graph.thesaurus

    @cached_property
    def near(self) -> Near:
        return Near(self.thesaurus)


def read(path: Path) -> Knowledge:
    """A graph that `trlm kg build` wrote, a thesaurus in JSON, or a folder of Markdown files with `synonyms::` lines.

    A bare thesaurus has no documents, and so no connections; a folder's files are its documents.

    Raises:
        PathNotFound, InputUnreadable, InputEmpty: there is none to be had from it; why.
    """
    if path.is_dir():
        graph = RoleGraph(read_thesaurus(path))
        for name, text in read_pages(path):
            graph.add(name, prose(text))
    elif path.suffix.lower() in (".md", ".markdown"):
        graph = RoleGraph(read_thesaurus(path))
    else:
        table = parsed(read_bytes(path, MOST_JSON), path)
        graph = RoleGraph(from_parsed(table, path))
        if "graph" in table:
            _fill(graph, table["graph"], path)
    graph.thesaurus.matcher  # noqa: B018 - compiled now, not at the first verdict
    return Knowledge(graph)


def _fill(graph: RoleGraph, written: Any, path: Path) -> None:
    """Takes in what `RoleGraph.to_json` wrote.

    Raises:
        InputUnreadable: it is not of that shape, or names concepts that are not there.
    """
    known = graph.thesaurus.by_id
    try:
        table = dict(written)
        if len(table["edges"]) > _MOST_EDGES:
            raise ValueError(f"it has more than {_MOST_EDGES:,} edges")
        edges = {_edge(edge, known): _count(edge[2]) for edge in table["edges"]}
        for number, document in enumerate(table["documents"]):
            about = dict(document)
            named = {_known(int(id), known): _count(count) for id, count in dict(about["concepts"]).items()}
            graph.add_counted(_name(about["path"]), named, edges if number == 0 else {})
        if edges and not table["documents"]:
            raise ValueError("it has edges and no documents")
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise InputUnreadable(
            f'The "graph" of {path} is not as `trlm kg build` writes it: {error}.',
            fix="Build it again: trlm kg build FOLDER.",
            path=str(path),
        ) from None


def _edge(edge: Any, known: Mapping[int, Any]) -> tuple[int, int]:
    one, other, _ = edge
    if _known(one, known) >= _known(other, known):
        raise ValueError("an edge does not lead from the lower id to the higher one")
    return one, other


def _known(id: Any, known: Mapping[int, Any]) -> int:
    if type(id) is not int or id not in known:
        raise ValueError(f"there is no concept {str(id)[:20]}")
    return id


def _count(value: Any) -> int:
    if type(value) is not int or not 0 < value < 1 << 53:
        raise ValueError(f"{str(value)[:20]} is no count")
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a document has no path")
    return value


def written(graph: RoleGraph) -> bytes:
    """A graph as a file's bytes; `read` reads it."""
    return (json.dumps(graph.to_json(), ensure_ascii=False, separators=(",", ":")) + "\n").encode()


class Library:
    """Gives the graph that is on disk now.

    Args:
        path: see `read`.
        clock: by which it is looked, once a second at most, whether something has changed.
        on_change: is told of a graph that was read again, and of one that could not be.
    """

    def __init__(
        self, path: Path, *, clock: Clock = SYSTEM_CLOCK, on_change: Callable[[str], None] | None = None
    ) -> None:
        self.path = path
        self.trouble = ""
        """Why the last change could not be taken in; empty when it was."""
        self._clock = clock
        self._on_change = on_change
        self._knowledge: Knowledge | None = None
        self._signature: object = None
        self._looked = float("-inf")
        self._reading: asyncio.Task[Knowledge] | None = None

    async def current(self) -> Knowledge:
        """The graph. A change that cannot be read leaves the one before in place, and `trouble` says why.

        Raises:
            RlmError: it could never be read.
        """
        now = self._clock.now()
        if self._knowledge is not None and now - self._looked < _LOOK_SECONDS:
            return self._knowledge
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._again())
            self._reading.add_done_callback(self._read)
        return await asyncio.shield(self._reading)

    @property
    def latest(self) -> Knowledge | None:
        """The graph as it was read last; None before it is."""
        return self._knowledge

    def _read(self, task: asyncio.Task[Knowledge]) -> None:
        self._reading = None
        if not task.cancelled():
            task.exception()  # seen: whoever asked may have left

    async def _again(self) -> Knowledge:
        signature = await asyncio.to_thread(_signature, self.path)
        if self._knowledge is None or signature != self._signature:
            try:
                knowledge = await asyncio.to_thread(read, self.path)
            except RlmError as error:
                if self._knowledge is None:
                    raise
                self._told(error.message)
            else:
                again = self._knowledge is not None
                self._knowledge = knowledge
                self._told("", again=again)
            self._signature = signature
        self._looked = self._clock.now()
        return self._knowledge

    def _told(self, trouble: str, *, again: bool = True) -> None:
        self.trouble = trouble
        if self._on_change is not None and again:
            self._on_change(trouble or f"{self.path} was read again.")

    def warm(self) -> None:
        """Begins to read, where that has not been done; returns at once."""
        if self._knowledge is None and self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._again())
            self._reading.add_done_callback(self._read)


def _signature(path: Path) -> object:
    """What is another when the files are; None when they cannot be looked at."""
    try:
        if path.is_dir():
            return tuple((name, _stamp(page)) for name, page in pages(path))
        return _stamp(path)
    except (OSError, PathNotFound, InputUnreadable):
        return None


def _stamp(path: Path) -> tuple[int, ...]:
    found = os.stat(path)
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
