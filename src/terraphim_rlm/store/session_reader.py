"""The journal as readers see sessions: in a list, with their history and their snapshots. Reading never writes.

A session whose owner died is shown as lost at once; the next writer records it.
"""

# ruff: noqa: S608 - queries are put together from constants of this module
from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Any

from terraphim_rlm.core.network import AccessRecord
from terraphim_rlm.core.sessions import ExecutionRecord, Session, SessionStatus, SnapshotRecord
from terraphim_rlm.store.encode import Row, decode
from terraphim_rlm.store.owners import living_owners
from terraphim_rlm.store.reader import AFTER_ALL, JournalReader

# What a row is now, whatever its dead owner left it as. `{living}` are marks for the owners that live.
_ORPHANED = "(s.ended IS NULL AND s.owner NOT IN ({living}))"
_SESSION = f"CASE WHEN {_ORPHANED} THEN 'lost' ELSE s.status END"
_EXECUTION = (
    f"CASE WHEN e.finished IS NOT NULL THEN e.status WHEN {_ORPHANED} THEN 'interrupted' ELSE 'running' END"
)
_SNAPSHOT = f"CASE WHEN n.status = 'kept' AND {_ORPHANED} THEN 'lost' ELSE n.status END"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which executions of a history."""

    session: str | None = None
    """A whole id; None = those of every session."""
    failures: bool = False
    """Only those that ended in another way than `ok`."""
    limit: int = 100
    whole: bool = False
    """With code and result in full."""


class SessionReader(JournalReader):
    """An open journal; see `JournalReader`."""

    def sessions(
        self, *, limit: int, status: SessionStatus | None = None, once: bool = False
    ) -> list[Session]:
        """The latest sessions, newest first.

        Args:
            once: also those that were made for one execution.
        """
        query = (
            f"SELECT * FROM (SELECT s.*, {_SESSION} AS now FROM sessions s WHERE s.once <= ?)"
            " WHERE now = ifnull(?, now) ORDER BY id DESC LIMIT ?"
        )
        return [_session(row) for row in self._judged(query, once, status, limit)]

    def session(self, session: str) -> Session | None:
        """One session by its whole id."""
        found = self._judged(f"SELECT s.*, {_SESSION} AS now FROM sessions s WHERE s.id = ?", session)
        return _session(found[0]) if found else None

    def beginning(self, prefix: str, *, limit: int) -> list[Session]:
        """Sessions whose ids begin with `prefix`; those that live before all that do not, then the newest."""
        query = (
            f"SELECT s.*, {_SESSION} AS now FROM sessions s WHERE s.id >= ? AND s.id < ?"
            " ORDER BY now = 'live' DESC, s.id DESC LIMIT ?"
        )
        return [_session(row) for row in self._judged(query, prefix, prefix + AFTER_ALL, limit)]

    def named(self, name: str) -> Session | None:
        """The latest session of that name; one that lives before all that do not."""
        query = (
            f"SELECT s.*, {_SESSION} AS now FROM sessions s WHERE s.name = ?"
            " ORDER BY now = 'live' DESC, s.id DESC LIMIT 1"
        )
        found = self._judged(query, name)
        return _session(found[0]) if found else None

    def history(self, wanted: Wanted) -> list[ExecutionRecord]:
        """Executions in sessions, newest first.

        Raises:
            JournalCorrupt: an event or a blob of one is damaged (with `whole`).
        """
        of_one = wanted.session is not None
        query = (
            f"SELECT * FROM (SELECT e.*, {_EXECUTION} AS now FROM executions e JOIN sessions s ON s.id = e.run"
            f" WHERE e.begun IS NOT NULL{' AND e.run = ?' if of_one else ''})"
            f" WHERE (? = 0 OR now NOT IN ('ok', 'running')) ORDER BY {'begun' if of_one else 'id'} DESC LIMIT ?"
        )
        with self._snapshot():
            rows = self._judged(query, *([wanted.session] if of_one else []), wanted.failures, wanted.limit)
            return [_record(row, self._whole(row) if wanted.whole else {}) for row in rows]

    def accesses(self, session: str, *, refused: bool, limit: int) -> list[AccessRecord]:
        """What a session's code reached, or was refused, newest first.

        Raises:
            JournalCorrupt: an event is damaged.
        """
        query = (
            f"SELECT {', '.join(Row._fields)} FROM events WHERE run = ? AND type >= ? AND type < 'network.~'"
            " AND (? = 0 OR type = 'network.refused') ORDER BY seq DESC LIMIT ?"
        )
        rows = self._rows(query, session, "network.", refused, limit)
        return [_access(decode(Row(*row), self._blobs.get)) for row in rows]

    def snapshots(self, session: str) -> list[SnapshotRecord]:
        """Those of a session, oldest first; also those that are no longer there."""
        query = (
            f"SELECT n.*, {_SNAPSHOT} AS now FROM snapshots n LEFT JOIN sessions s ON s.id = n.run"
            " WHERE n.run = ? ORDER BY n.seq"
        )
        return [_snapshot(row) for row in self._judged(query, session)]

    def _judged(self, query: str, *values: Any) -> list[Any]:
        """Rows of a query that asks which owners live."""
        owners = {
            row["owner"] for row in self._rows("SELECT DISTINCT owner FROM sessions WHERE ended IS NULL")
        }
        living = sorted(living_owners(self._path.parent, owners))
        return self._rows(query.replace("{living}", ", ".join(map(str, living))), *values)

    def _whole(self, row: sqlite3.Row) -> dict[str, Any]:
        query = f"SELECT {', '.join(Row._fields)} FROM events WHERE run = ? AND seq IN (?, ?) ORDER BY seq"
        begun, *done = (
            decode(Row(*each), self._blobs.get)["data"]
            for each in self._rows(query, row["run"], row["begun"], row["done"])
        )
        return {**begun, "result": done[0] if done else None}


def _session(row: sqlite3.Row) -> Session:
    return Session(
        id=row["id"],
        status=row["now"],
        name=row["name"],
        backend=row["backend"],
        resources=json.loads(row["resources"]),
        packages=tuple(json.loads(row["packages"])),
        origin=row["origin"],
        snapshot=row["snapshot"],
        created=row["created"],
        expires=row["expires"],
        extensions=row["extensions"],
        ended=row["ended"],
        executions=row["executions"],
        failures=row["failures"],
        used=row["used"],
        once=bool(row["once"]),
    )


def _record(row: sqlite3.Row, whole: dict[str, Any]) -> ExecutionRecord:
    return ExecutionRecord(
        id=row["id"],
        session=row["run"],
        language=row["language"] or "",
        code=row["code"] or "",
        status=row["now"],
        exit_code=row["exit_code"],
        started=row["started"],
        finished=row["finished"],
        seconds=row["seconds"],
        stdout=row["stdout"] or "",
        stderr=row["stderr"] or "",
        error=None if row["error"] is None else json.loads(row["error"]),
        state_after=row["state_after"],
        whole=whole,
    )


def _access(event: dict[str, Any]) -> AccessRecord:
    data = dict(event["data"])
    return AccessRecord(event["run"], event["time"], data.pop("execution_id", None), data)


def _snapshot(row: sqlite3.Row) -> SnapshotRecord:
    return SnapshotRecord(
        id=row["id"],
        session=row["run"],
        name=row["name"],
        status=row["now"],
        created=row["created"],
        ended=row["ended"],
        rollbacks=row["rollbacks"],
        data=json.loads(row["data"]),
    )
