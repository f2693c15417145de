"""Tables that are folded from the events, in the transaction that stores them.

Each function takes the event and its data as plain JSON. What a run's own process says is not trusted
to be well formed: fields of another type count as absent.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable

from terraphim_rlm.core.events import Event
from terraphim_rlm.store import session_projections
from terraphim_rlm.store.fields import Data, count, number, text

_USAGE = (
    "tokens_in",
    "tokens_cached",
    "tokens_out",
    "tokens_reasoning",
    "calls",
    "microdollars",
    "estimated",
)
TABLES = {
    "runs": "id, node, status, started, finished, seconds, question, model, turns, termination, confidence,"
    " partial, answer, error",
    "executions": "*",
    "ledger": "*",
    "sessions": "id, status, name, once, backend, resources, packages, origin, snapshot, created, expires,"
    " extensions, ended, executions, failures, used",
    "snapshots": "*",
}
"""The folded tables, and the columns that follow from events alone (not who owned a run or a session)."""
STATUSES = frozenset({"done", "failed", "cancelled", "interrupted"})


def fold(db: sqlite3.Connection, event: Event, data: str, owner: int) -> None:
    """Brings the tables up to `event`; most types change nothing."""
    if (step := _STEPS.get(event.type)) is not None:
        plain = json.loads(data)
        step(db, event, plain if isinstance(plain, dict) else {}, owner)


def _run_started(db: sqlite3.Connection, event: Event, data: Data, owner: int) -> None:
    db.execute(
        "INSERT OR IGNORE INTO runs (id, owner, node, status, started, question, model)"
        " VALUES (?, ?, ?, 'running', ?, ?, ?)",
        (event.run, owner, event.node, event.time, text(data, "question"), text(data, "model")),
    )
    db.execute("INSERT OR IGNORE INTO ledger (run) VALUES (?)", (event.run,))


def _run_resumed(db: sqlite3.Connection, event: Event, data: Data, owner: int) -> None:
    db.execute(
        "UPDATE runs SET status = 'running', owner = ?, finished = NULL, seconds = NULL, termination = NULL,"
        " error = NULL WHERE id = ?",
        (owner, event.run),
    )
    db.execute("DELETE FROM executions WHERE run = ? AND status = 'interrupted'", (event.run,))


def _turn_reply(db: sqlite3.Connection, event: Event, data: Data, owner: int) -> None:
    if event.parent is None:
        db.execute("UPDATE runs SET turns = turns + 1 WHERE id = ?", (event.run,))
    _spend(db, event, data, owner)


def _spend(db: sqlite3.Connection, event: Event, data: Data, owner: int) -> None:
    usage = _usage(data)
    if usage is None:
        return
    db.execute("INSERT OR IGNORE INTO ledger (run) VALUES (?)", (event.run,))
    db.execute(
        "UPDATE ledger SET tokens_in = tokens_in + ?, tokens_cached = tokens_cached + ?,"
        " tokens_out = tokens_out + ?, tokens_reasoning = tokens_reasoning + ?, calls = calls + ?,"
        " microdollars = microdollars + ?, estimated = max(estimated, ?) WHERE run = ?",
        (*usage, event.run),
    )


def _leased(db: sqlite3.Connection, event: Event, data: Data, owner: int) -> None:
    db.execute("INSERT OR IGNORE INTO ledger (run) VALUES (?)", (event.run,))
    db.execute(
        "UPDATE ledger SET leased_tokens = max(leased_tokens, ?),"
        " leased_microdollars = max(leased_microdollars, ?) WHERE run = ?",
        (count(data, "tokens"), count(data, "microdollars"), event.run),
    )


def _answer(db: sqlite3.Connection, event: Event, data: Data, owner: int) -> None:
    if event.parent is not None:  # a child node's answer is not the run's
        return
    db.execute(
        "UPDATE runs SET answer = ?, confidence = ?, termination = ?, partial = ? WHERE id = ?",
        (
            text(data, "text"),
            text(data, "confidence") or None,
            text(data, "termination") or None,
            data.get("partial") is True,
            event.run,
        ),
    )


def _error(db: sqlite3.Connection, event: Event, data: Data, owner: int) -> None:
    if event.parent is None:
        shown = json.dumps({name: text(data, name) for name in ("code", "message", "fix")})
        db.execute("UPDATE runs SET error = ? WHERE id = ? AND finished IS NULL", (shown, event.run))


def _run_finished(db: sqlite3.Connection, event: Event, data: Data, owner: int) -> None:
    status = data.get("status")
    changed = db.execute(
        "UPDATE runs SET status = ?, termination = coalesce(?, termination), finished = ?,"
        " seconds = coalesce(?, max(0, ? - started)) WHERE id = ? AND finished IS NULL",
        (
            status if status in STATUSES else "failed",
            text(data, "termination") or None,
            event.time,
            number(data, "seconds"),
            event.time,
            event.run,
        ),
    ).rowcount
    usage = _usage(data)
    if changed and usage is not None:  # the ledger's own sum wins over the replies seen
        assignments = ", ".join(f"{name} = ?" for name in _USAGE)
        db.execute(f"UPDATE ledger SET {assignments} WHERE run = ?", (*usage, event.run))  # noqa: S608
    if changed:
        db.execute(
            "UPDATE executions SET status = 'interrupted', finished = ? WHERE run = ? AND finished IS NULL",
            (event.time, event.run),
        )


def _cell_started(db: sqlite3.Connection, event: Event, data: Data, owner: int) -> None:
    if execution := text(data, "execution_id"):
        db.execute(
            "INSERT OR IGNORE INTO executions (id, run, node, turn, language, started) VALUES (?, ?, ?, ?, ?, ?)",
            (
                execution,
                event.run,
                event.node,
                count(data, "turn"),
                text(data, "language") or "python",
                event.time,
            ),
        )


def _cell_finished(db: sqlite3.Connection, event: Event, data: Data, owner: int) -> None:
    db.execute(
        "UPDATE executions SET status = ?, finished = ? WHERE id = ? AND run = ? AND finished IS NULL",
        (text(data, "status") or "unknown", event.time, text(data, "execution_id"), event.run),
    )


def _usage(data: Data) -> tuple[int, ...] | None:
    usage = data.get("usage")
    return tuple(count(usage, name) for name in _USAGE) if isinstance(usage, dict) else None


_STEPS: dict[str, Callable[[sqlite3.Connection, Event, Data, int], None]] = {
    "run.started": _run_started,
    "run.resumed": _run_resumed,
    "turn.reply": _turn_reply,
    "call.finished": _spend,
    "speculation.finished": _spend,
    "budget.leased": _leased,
    "answer": _answer,
    "error": _error,
    "run.finished": _run_finished,
    "cell.started": _cell_started,
    "cell.finished": _cell_finished,
    **session_projections.STEPS,
}
