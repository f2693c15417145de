"""The whole check of a journal, for doctors: structure, every event, every blob, every folded row."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from terraphim_rlm.core.errors import JournalCorrupt
from terraphim_rlm.core.events import Event
from terraphim_rlm.store.blobs import Blobs
from terraphim_rlm.store.database import explained, open_for_reading
from terraphim_rlm.store.encode import Row, decode
from terraphim_rlm.store.migrations import migrate
from terraphim_rlm.store.projections import TABLES, fold

_SHOWN = 100


@dataclass(frozen=True, slots=True)
class Verification:
    """What a whole check found."""

    events: int
    blobs: int
    problems: tuple[str, ...]
    """One sentence each, the first hundred; empty when all is well."""


def verify(path: Path) -> Verification:
    """Reads every byte that the journal holds. A missing journal is a good one without events.

    Raises:
        StoreError: it cannot be opened at all; the error says what to do.
    """
    db = open_for_reading(path)
    if db is None:
        return Verification(0, 0, ())
    blobs = Blobs(path.parent / "blobs")
    problems: list[str] = []
    events = 0
    seen: set[str] = set()
    with contextlib.closing(db), contextlib.closing(_empty()) as again, explained(path):
        problems += [text for (text,) in db.execute(f"PRAGMA integrity_check({_SHOWN})") if text != "ok"]
        for columns in db.execute(f"SELECT {', '.join(Row._fields)} FROM events ORDER BY n"):  # noqa: S608
            row = Row(*columns)
            events += 1
            try:
                event = decode(row, blobs.get)
            except JournalCorrupt as error:
                problems.append(error.message)
                continue
            seen.update(blob["sha256"] for blob in json.loads(row.blobs or "{}").values())
            fold(again, Event(**event), json.dumps(event["data"]), owner=0)
        problems += [
            f"The table {table} is not what the events say."
            for table, columns in TABLES.items()
            if _content(db, table, columns) != _content(again, table, columns)
        ]
    return Verification(events, len(seen), tuple(problems[:_SHOWN]))


def _empty() -> sqlite3.Connection:
    db = sqlite3.connect(":memory:", isolation_level=None)
    migrate(db)
    return db


def _content(db: sqlite3.Connection, table: str, columns: str) -> list[tuple[object, ...]]:
    return db.execute(f"SELECT {columns} FROM {table} ORDER BY 1").fetchall()  # noqa: S608
