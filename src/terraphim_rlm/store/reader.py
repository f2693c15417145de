"""The journal as readers see it: runs in a list, one run as a tree. Reading never writes.

A run whose process died is shown as interrupted at once; the next writer records it.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from terraphim_rlm.core.values import SCHEMA_VERSION, RunStatus, Usage, to_json
from terraphim_rlm.store.blobs import Blobs
from terraphim_rlm.store.database import explained, open_for_reading
from terraphim_rlm.store.encode import Row, decode
from terraphim_rlm.store.owners import living_owners

_SUMMARIES = "SELECT r.*, l.* FROM runs r JOIN ledger l ON l.run = r.id"
_MAY_HAVE_STATUS = "(r.status = ifnull(?, r.status) OR r.finished IS NULL)"
AFTER_ALL = "~"
"""Sorts after every character of an id."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run on one line."""

    id: str
    status: RunStatus
    question: str
    """Its first 2,000 characters."""
    model: str
    started: float
    """Seconds since the epoch."""
    seconds: float | None
    """None while it runs, and when nobody knows."""
    turns: int
    """Replies of the root node."""
    termination: str | None
    confidence: str | None
    partial: bool
    answer: str | None
    """Its first 2,000 characters."""
    error: Mapping[str, str] | None
    """{code, message, fix} of what ended it."""
    usage: Usage
    """What its replies are known to have cost."""
    spent_tokens: int
    """What counts as spent: for an interrupted run what it had leased, if that is more than is known."""
    spent_microdollars: int


@dataclass(frozen=True, slots=True)
class RunNode:
    """A node of a run: what happened in it, in order, and the nodes it started."""

    id: str
    events: list[dict[str, Any]] = field(default_factory=list)
    children: list[RunNode] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RunDetail:
    """A run with its events."""

    summary: RunSummary
    nodes: list[RunNode]
    """The root node; more only if the journal lacks events between."""
    events_total: int
    """Events the run has; more than in `nodes` when it has more than were asked for."""

    def to_json(self) -> dict[str, Any]:
        return {"schema_version": SCHEMA_VERSION, **to_json(self)}


class JournalReader:
    """An open journal. A context manager; without a journal it reads as one without runs.

    Raises:
        StoreError: a leaf that says what is wrong and what to do.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db = open_for_reading(path)
        if self._db is not None:
            self._db.row_factory = sqlite3.Row
        self._blobs = Blobs(path.parent / "blobs")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def runs(self, *, limit: int, status: RunStatus | None = None) -> list[RunSummary]:
        """The latest runs, newest first."""
        found: list[RunSummary] = []
        before = AFTER_ALL
        while len(found) < limit:  # a page at a time: whether an unfinished run counts, its owner decides
            query = f"{_SUMMARIES} WHERE r.id < ? AND {_MAY_HAVE_STATUS} ORDER BY r.id DESC LIMIT ?"
            page = self._rows(query, before, status, limit)
            found += [run for run in self._summaries(page) if status in (None, run.status)]
            if len(page) < limit:
                break
            before = page[-1]["id"]
        return found[:limit]

    def ids(self, prefix: str, *, limit: int) -> list[str]:
        """Ids of runs that begin with `prefix`, newest first."""
        query = "SELECT id FROM runs WHERE id >= ? AND id < ? ORDER BY id DESC LIMIT ?"
        return [row["id"] for row in self._rows(query, prefix, prefix + AFTER_ALL, limit)]

    def run(self, run: str, *, max_events: int, whole: bool = False) -> RunDetail | None:
        """One run by its whole id; None when there is none.

        Args:
            max_events: the first so many events are given.
            whole: fetch long outputs; without it a long field is `{"blob": sha256, "bytes": n}`.

        Raises:
            JournalCorrupt: an event or a blob of it is damaged.
        """
        with self._snapshot():
            found = self._summaries(self._rows(f"{_SUMMARIES} WHERE r.id = ?", run))
            if not found:
                return None
            total = self._rows("SELECT count(*) AS n FROM events WHERE run = ?", run)[0]["n"]
            query = f"SELECT {', '.join(Row._fields)} FROM events WHERE run = ? ORDER BY seq, n LIMIT ?"  # noqa: S608
            rows = self._rows(query, run, max_events)
            get = self._blobs.get if whole else None
            with explained(self._path):
                return RunDetail(found[0], _tree(decode(Row(*row), get) for row in rows), total)

    def status(self, run: str) -> RunStatus | None:
        """How a run stands; None when there is none."""
        found = self._summaries(self._rows(f"{_SUMMARIES} WHERE r.id = ?", run))
        return found[0].status if found else None

    def events(self, run: str, *, after: int, limit: int) -> list[dict[str, Any]]:
        """A run's events behind number `after`, in order; long fields are described."""
        query = (
            f"SELECT {', '.join(Row._fields)} FROM events WHERE run = ? AND seq > ? ORDER BY seq, n LIMIT ?"  # noqa: S608
        )
        rows = self._rows(query, run, after, limit)
        with explained(self._path):
            return [decode(Row(*row)) for row in rows]

    def _summaries(self, rows: list[Any]) -> list[RunSummary]:
        open_runs = {row["owner"] for row in rows if row["finished"] is None}
        living = living_owners(self._path.parent, open_runs)
        return [
            _summary(row, orphaned=row["finished"] is None and row["owner"] not in living) for row in rows
        ]

    def _rows(self, query: str, *values: Any) -> list[Any]:
        if self._db is None:
            return []
        with explained(self._path):
            return self._db.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _snapshot(self) -> Iterator[None]:
        """One state of the journal for several queries, whatever is written meanwhile."""
        if self._db is None:
            yield
            return
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")


def _summary(row: sqlite3.Row, *, orphaned: bool) -> RunSummary:
    usage = Usage(
        **{f.name: row[f.name] for f in fields(Usage) if f.name != "estimated"},
        estimated=bool(row["estimated"]),
    )
    status: RunStatus = "interrupted" if orphaned else row["status"]
    leased = status == "interrupted"
    return RunSummary(
        id=row["id"],
        status=status,
        question=row["question"],
        model=row["model"],
        started=row["started"],
        seconds=row["seconds"],
        turns=row["turns"],
        termination="error" if orphaned else row["termination"],
        confidence=row["confidence"],
        partial=bool(row["partial"]),
        answer=row["answer"],
        error=None if row["error"] is None else json.loads(row["error"]),
        usage=usage,
        spent_tokens=max(usage.tokens, row["leased_tokens"] if leased else 0),
        spent_microdollars=max(usage.microdollars, row["leased_microdollars"] if leased else 0),
    )


def _tree(events: Iterator[dict[str, Any]]) -> list[RunNode]:
    """Nodes below the node that started them; a node is placed by its first event."""
    tops: list[RunNode] = []
    nodes: dict[str, RunNode] = {}
    for event in events:
        if (node := nodes.get(event["node"])) is None:
            parent = nodes.get(event["parent"] or "")
            node = nodes[event["node"]] = RunNode(event["node"])
            (tops if parent is None else parent.children).append(node)
        node.events.append(event)
    return tops
