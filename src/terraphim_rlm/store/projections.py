"""Tables that are folded from the events, in the transaction that stores them.

Each function takes the event and its data as plain JSON. What a run's own process says is not trusted
to be well formed: fields of another type count as absent.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from typing import Any

from terraphim_rlm.core.events import Event

Data = dict[str, Any]
_SHOWN = 2000
"""Characters of a question or answer kept in the list of runs; the events have all."""
_MAX = 2**62
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
}
"""The folded tables, and the columns that follow from events alone (not who owned a run)."""
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
        (event.run, owner, event.node, event.time, _text(data, "question"), _text(data, "model")),
    )
    db.execute("INSERT OR IGNORE INTO ledger (run) VALUES (?)", (event.run,))


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
        (_count(data, "tokens"), _count(data, "microdollars"), event.run),
    )


def _answer(db: sqlite3.Connection, event: Event, data: Data, owner: int) -> None:
    if event.parent is not None:  # a child node's answer is not the run's
        return
    db.execute(
        "UPDATE runs SET answer = ?, confidence = ?, termination = ?, partial = ? WHERE id = ?",
        (
            _text(data, "text"),
            _text(data, "confidence") or None,
            _text(data, "termination") or None,
            data.get("partial") is True,
            event.run,
        ),
    )


def _error(db: sqlite3.Connection, event: Event, data: Data, owner: int) -> None:
    if event.parent is None:
        shown = json.dumps({name: _text(data, name) for name in ("code", "message", "fix")})
        db.execute("UPDATE runs SET error = ? WHERE id = ? AND finished IS NULL", (shown, event.run))


def _run_finished(db: sqlite3.Connection, event: Event, data: Data, owner: int) -> None:
    status = data.get("status")
    changed = db.execute(
        "UPDATE runs SET status = ?, termination = coalesce(?, termination), finished = ?,"
        " seconds = coalesce(?, max(0, ? - started)) WHERE id = ? AND finished IS NULL",
        (
            status if status in STATUSES else "failed",
            _text(data, "termination") or None,
            event.time,
            _seconds(data),
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
    if execution := _text(data, "execution_id"):
        db.execute(
            "INSERT OR IGNORE INTO executions (id, run, node, turn, language, started) VALUES (?, ?, ?, ?, ?, ?)",
            (
                execution,
                event.run,
                event.node,
                _count(data, "turn"),
                _text(data, "language") or "python",
                event.time,
            ),
        )


def _cell_finished(db: sqlite3.Connection, event: Event, data: Data, owner: int) -> None:
    db.execute(
        "UPDATE executions SET status = ?, finished = ? WHERE id = ? AND run = ? AND finished IS NULL",
        (_text(data, "status") or "unknown", event.time, _text(data, "execution_id"), event.run),
    )


_STEPS: dict[str, Callable[[sqlite3.Connection, Event, Data, int], None]] = {
    "run.started": _run_started,
    "turn.reply": _turn_reply,
    "call.finished": _spend,
    "budget.leased": _leased,
    "answer": _answer,
    "error": _error,
    "run.finished": _run_finished,
    "cell.started": _cell_started,
    "cell.finished": _cell_finished,
}


def _text(data: Data, name: str) -> str:
    value = data.get(name)
    return value[:_SHOWN].encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def _count(data: Data, name: str) -> int:
    value = data.get(name)
    return min(int(value), _MAX) if isinstance(value, int) and value > 0 else 0


def _seconds(data: Data) -> float | None:
    value = data.get("seconds")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 <= value <= _MAX else None


def _usage(data: Data) -> tuple[int, ...] | None:
    usage = data.get("usage")
    return tuple(_count(usage, name) for name in _USAGE) if isinstance(usage, dict) else None
