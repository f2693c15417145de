"""What becomes of runs and sessions whose process died."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from terraphim_rlm.core.clock import Clock
from terraphim_rlm.core.events import Event
from terraphim_rlm.store.encode import encode
from terraphim_rlm.store.owners import Owners
from terraphim_rlm.store.projections import fold

# What counts as spent is the more of what a run's replies cost and what it had leased.
_ORPHANS = """
    SELECT r.id, r.node, (SELECT max(seq) FROM events e WHERE e.run = r.id),
        (SELECT max(time) FROM events e WHERE e.run = r.id) - r.started,
        max(l.leased_tokens, l.tokens_in + l.tokens_out), max(l.leased_microdollars, l.microdollars)
    FROM runs r JOIN ledger l ON l.run = r.id
    WHERE r.finished IS NULL AND r.owner IN ({marks})
"""


_LOST = """
    SELECT s.id, (SELECT max(seq) FROM events e WHERE e.run = s.id)
    FROM sessions s WHERE s.ended IS NULL AND s.owner IN ({marks})
"""
_OPEN = "SELECT owner FROM runs WHERE finished IS NULL UNION SELECT owner FROM sessions WHERE ended IS NULL"


@dataclass(frozen=True, slots=True)
class Orphans:
    """What opening a journal has ended."""

    runs: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()


def end_orphans(db: sqlite3.Connection, owners: Owners, clock: Clock) -> Orphans:
    """Ends the runs and the sessions that no living process owns, each by an event.

    Only those without an end are looked at, and nothing is written when all their owners live.
    """
    dead = [owner for (owner,) in db.execute(_OPEN).fetchall() if not owners.alive(owner)]
    if not dead:
        return Orphans()
    marks = ", ".join("?" * len(dead))
    db.execute("BEGIN IMMEDIATE")
    try:
        runs = db.execute(_ORPHANS.format(marks=marks), dead).fetchall()
        for run, node, seq, seconds, tokens, microdollars in runs:
            spent = {"tokens": tokens, "microdollars": microdollars}
            data = {"status": "interrupted", "termination": "error", "seconds": seconds, "spent": spent}
            _store(db, Event("run.finished", run, node, None, seq + 1, clock.wall(), data))
        sessions = db.execute(_LOST.format(marks=marks), dead).fetchall()
        for session, seq in sessions:
            why = {"why": "The process that kept it died."}
            _store(db, Event("session.lost", session, session, None, seq + 1, clock.wall(), why))
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return Orphans(tuple(row[0] for row in runs), tuple(row[0] for row in sessions))


def _store(db: sqlite3.Connection, event: Event) -> None:
    row, data = encode(event, put=lambda _: "")
    insert(db, row)
    fold(db, event, data, owner=0)


def insert(db: sqlite3.Connection, row: tuple[object, ...]) -> bool:
    """Adds a row to `events`; False when it is there already, from a transaction that was retried."""
    return (
        db.execute(
            "INSERT OR IGNORE INTO events (id, run, node, parent, seq, time, type, data, blobs, crc)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        ).rowcount
        == 1
    )
