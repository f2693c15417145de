"""A sub-call from a cell: what it asks, and the one answer it may get."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

from terraphim_rlm.core.errors import BudgetExceeded, RlmError
from terraphim_rlm.guest import frames


class Call:
    """One request of a running cell. Answer it at once or later, with `reply` or `fail`; a second answer is dropped."""

    __slots__ = ("_answered", "_send", "args", "number", "op", "task")

    def __init__(
        self, number: int, op: str, args: Mapping[str, Any], send: Callable[[int, int, bytes], None]
    ) -> None:
        self.number = number
        self.op = op
        self.args = args
        self.task: asyncio.Task[None] | None = None
        """The work that will answer; cancelled when the execution ends first."""
        self._send = send
        self._answered = False

    def reply(self, value: Any) -> None:
        self._answer(frames.REPLY, value)

    def fail(self, error: Exception) -> None:
        """Raises `error` in the cell, by name and message. A bug of ours is not shown in detail."""
        self._answer(frames.FAIL, described(error))

    def refuse(self, said: Mapping[str, Any]) -> None:
        """As `fail`, with an error that `described` before."""
        self._answer(frames.FAIL, dict(said))

    def _answer(self, kind: int, value: Any) -> None:
        if self._answered:
            return
        self._answered = True
        try:
            body = json.dumps(value).encode("utf-8", "surrogatepass")
            self._send(kind, self.number, body)
        except ValueError as error:  # larger than a frame
            self._send(
                frames.FAIL, self.number, json.dumps({"type": "ValueError", "message": str(error)}).encode()
            )

    def abandon(self) -> None:
        """The execution is over; nobody waits any more."""
        self._answered = True
        if self.task is not None:
            self.task.cancel()


CallHandler = Callable[[Call], None]
"""Answers the sub-calls of one execution. Runs in the reader's callback: it must not block."""


def described(error: Exception) -> dict[str, Any]:
    """An error as the cell sees it."""
    if not isinstance(error, RlmError):
        return {"type": "InternalError", "message": "The host failed; this is not the fault of your code."}
    return {
        "type": type(error).__name__,
        "message": f"{error.message} {error.fix}".strip(),
        "budget": isinstance(error, BudgetExceeded),
    }


LATE = json.dumps(
    {
        "type": "ExecutionOver",
        "message": "The cell that this call belongs to has ended. Wait for your calls in the cell that makes them.",
    }
).encode()
"""What a call is answered when nothing runs: whoever made it has outlived its execution."""


def refuse(call: Call) -> None:
    """The handler of executions that have no model behind them."""
    from terraphim_rlm.core.errors import NotSupported

    call.fail(
        NotSupported(
            "This sandbox was opened without a model, so it has no sub-calls.",
            fix="Ask through `Rlm(model=..).ask(..)`.",
        )
    )
