"""The tables of sessions: `sessions`, `snapshots`, and their rows in `executions`. See `projections`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable

from terraphim_rlm.core.events import Event
from terraphim_rlm.store.fields import Data, count, number, text


def _created(db: sqlite3.Connection, event: Event, data: Data, owner: int) -> None:
    resources, packages = data.get("resources"), data.get("packages")
    db.execute(
        "INSERT OR IGNORE INTO sessions (id, owner, status, name, once, backend, resources, packages, origin,"
        " snapshot, created, expires, used) VALUES (?, ?, 'live', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            event.run,
            owner,
            text(data, "name") or None,
            data.get("once") is True,
            text(data, "backend"),
            json.dumps(resources if isinstance(resources, dict) else {}),
            json.dumps([each for each in packages if isinstance(each, str)] if isinstance(packages, list) else []),
            text(data, "origin") or None,
            text(data, "snapshot") or None,
            event.time,
            number(data, "expires") or event.time,
            event.time,
        ),
    )  # fmt: skip


def _extended(db: sqlite3.Connection, event: Event, data: Data, owner: int) -> None:
    db.execute(
        "UPDATE sessions SET expires = coalesce(?, expires), extensions = ? WHERE id = ? AND ended IS NULL",
        (number(data, "expires"), count(data, "extensions"), event.run),
    )


def _ended(db: sqlite3.Connection, event: Event, data: Data, owner: int) -> None:
    """The session, what still ran in it, and its snapshots."""
    status = event.type.removeprefix("session.")
    changed = db.execute(
        "UPDATE sessions SET status = ?, ended = ? WHERE id = ? AND ended IS NULL",
        (status, event.time, event.run),
    ).rowcount
    if changed:
        cut_off = db.execute(
            "UPDATE executions SET status = 'interrupted', finished = ?, seconds = max(0, ? - started)"
            " WHERE run = ? AND finished IS NULL",
            (event.time, event.time, event.run),
        ).rowcount
        db.execute("UPDATE sessions SET failures = failures + ? WHERE id = ?", (cut_off, event.run))
        db.execute(
            "UPDATE snapshots SET status = 'lost', ended = ? WHERE run = ? AND ended IS NULL",
            (event.time, event.run),
        )


def _started(db: sqlite3.Connection, event: Event, data: Data, owner: int) -> None:
    execution = text(data, "execution_id")
    if not execution:
        return
    changed = db.execute(
        "INSERT OR IGNORE INTO executions (id, run, node, language, started, code, begun)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            execution,
            event.run,
            event.node,
            text(data, "language"),
            event.time,
            text(data, "code"),
            event.seq,
        ),
    ).rowcount
    if changed:
        db.execute(
            "UPDATE sessions SET executions = executions + 1, used = ? WHERE id = ?", (event.time, event.run)
        )


def _finished(db: sqlite3.Connection, event: Event, data: Data, owner: int) -> None:
    error, phases = data.get("error"), data.get("duration_ms")
    milliseconds = number(phases, "run") if isinstance(phases, dict) else None
    status, code = text(data, "status") or "unknown", data.get("exit_code")
    names = ("type", "message", "traceback")
    changed = db.execute(
        "UPDATE executions SET status = ?, exit_code = ?, finished = ?, seconds = coalesce(?, max(0, ? - started)),"
        " stdout = ?, stderr = ?, error = ?, state_after = ?, done = ?"
        " WHERE id = ? AND run = ? AND finished IS NULL",
        (
            status,
            code if isinstance(code, int) and -(2**31) <= code < 2**31 else None,
            event.time,
            None if milliseconds is None else milliseconds / 1000,
            event.time,
            text(data, "stdout"),
            text(data, "stderr"),
            json.dumps({name: text(error, name) for name in names}) if isinstance(error, dict) else None,
            text(data, "state_after") or None,
            event.seq,
            text(data, "execution_id"),
            event.run,
        ),
    ).rowcount
    if changed:
        db.execute(
            "UPDATE sessions SET used = ?, failures = failures + ? WHERE id = ?",
            (event.time, status != "ok", event.run),
        )


def _snapshot_created(db: sqlite3.Connection, event: Event, data: Data, owner: int) -> None:
    if snapshot := text(data, "id"):
        db.execute(
            "INSERT OR IGNORE INTO snapshots (id, run, seq, name, status, created, data)"
            " VALUES (?, ?, ?, ?, 'kept', ?, ?)",
            (snapshot, event.run, event.seq, text(data, "name"), event.time, json.dumps(data)),
        )
        _used(db, event)


def _snapshot_ended(db: sqlite3.Connection, event: Event, data: Data, owner: int) -> None:
    db.execute(
        "UPDATE snapshots SET status = ?, ended = ? WHERE id = ? AND run = ? AND ended IS NULL",
        (event.type.removeprefix("snapshot."), event.time, text(data, "id"), event.run),
    )
    _used(db, event)


def _rolled_back(db: sqlite3.Connection, event: Event, data: Data, owner: int) -> None:
    db.execute(
        "UPDATE snapshots SET rollbacks = rollbacks + 1 WHERE id = ? AND run = ?",
        (text(data, "id"), event.run),
    )
    _used(db, event)


def _used(db: sqlite3.Connection, event: Event) -> None:
    db.execute("UPDATE sessions SET used = ? WHERE id = ? AND ended IS NULL", (event.time, event.run))


STEPS: dict[str, Callable[[sqlite3.Connection, Event, Data, int], None]] = {
    "session.created": _created,
    "session.extended": _extended,
    "session.expired": _ended,
    "session.destroyed": _ended,
    "session.lost": _ended,
    "execution.started": _started,
    "execution.finished": _finished,
    "snapshot.created": _snapshot_created,
    "snapshot.forgotten": _snapshot_ended,
    "snapshot.lost": _snapshot_ended,
    "snapshot.rolled_back": _rolled_back,
    "snapshot.restored": _rolled_back,
}
