"""One execution in flight: its clock, its sub-calls, its answer, and its end, which comes exactly once.

The cell's clock stands still while it waits for sub-calls; the caller's own deadline is the absolute cap.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from terraphim_rlm.sandbox.link.calls import Call, CallHandler
from terraphim_rlm.sandbox.link.channel import ChannelBroken, decode
from terraphim_rlm.sandbox.link.guest import Exit

_GRACE = 1.0
"""Seconds that an interrupted cell has to yield."""
_MOST_NESTING = 64
_MOST_CALLS = 20_000
"""Calls of one cell in flight."""
_MOST_CALL_BYTES = 128 << 20
"""Of their bodies together: the host holds them until they are answered."""


@dataclass(frozen=True, slots=True)
class Final:
    """What a cell gave as the answer."""

    value: Any
    is_json: bool
    repr: str
    source: str
    evidence: tuple[tuple[str, int, int], ...] = ()
    """Spans that the cell cites: path, first byte, last byte + 1. Not checked here."""


@dataclass(slots=True)
class CellEnd:
    """How a cell ended, before it is a result."""

    cause: str = "done"
    """`done`, `timeout` (interrupted and yielded), `timeout_killed`, `lost`, `broken`."""
    report: Mapping[str, Any] = field(default_factory=dict)
    exit: Exit | None = None
    note: str = ""
    fresh: bool = False
    """The interpreter before had ended without anybody being told; this execution ran in a new one."""
    final: Final | None = None
    stdout: bytes = b""
    stderr: bytes = b""
    truncated: bool = False
    seconds: float = 0.0
    compiling: float | None = None
    """Seconds that its compiler took before; 0 when the program lay there already, None when nothing is compiled."""
    ran: bool = True
    """False when it did not compile."""
    notes: tuple[str, ...] = ()
    """What else is to be said of it, as whole sentences."""
    oom: bool = False
    """The kernel killed something in the sandbox for memory while it ran."""


class Owner(Protocol):
    """The interpreter that an execution runs in."""

    def send(self, kind: int, number: int, body: bytes) -> None: ...

    def interrupt(self) -> None: ...

    def kill(self) -> None: ...

    def take_output(self, end: CellEnd) -> None: ...

    def settled(self, running: Running) -> None: ...


class Running:
    """One execution in flight; its owner tells it what the cell said and how the interpreter ended."""

    def __init__(self, owner: Owner, number: int, timeout: float | None, handler: CallHandler) -> None:
        self._owner = owner
        self.number = number
        self.end = CellEnd()
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self._loop.create_future()
        self._handler = handler
        self._left = timeout
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._cap: asyncio.TimerHandle | None = None
        self.final: bytes | None = None
        """The last answer that the cell gave, not yet decoded: a flood of them must cost nothing."""
        self._calls: dict[int, tuple[Call, int]] = {}
        self._call_bytes = 0
        self._error: BaseException | None = None
        self._stopping = ""
        self._doomed = False
        self._ended = False

    def arm(self, cap: float | None) -> None:
        if cap is not None:
            self._cap = self._loop.call_later(cap, self.stop, "timeout")
        self._wind()

    def _wind(self) -> None:
        """Lets the cell's clock run. At its end it stops at once: a next call could wind it for ever."""
        if self._left is None or self._stopping or self._ended:
            return
        if self._left <= 0:
            self.stop("timeout")
            return
        self._since = self._loop.time()
        self._timer = self._loop.call_later(self._left, self.stop, "timeout")

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            if self._left is not None and not self._stopping:
                self._left -= self._loop.time() - self._since

    def call(self, number: int, body: bytes) -> None:
        if self._stopping or self._ended:
            return
        message = decode(body)
        op = message.pop("op", None)
        if not isinstance(op, str) or number in self._calls:
            raise ChannelBroken("it sent a call without a name, or with the number of another")
        self._call_bytes += len(body)
        if len(self._calls) >= _MOST_CALLS or self._call_bytes > _MOST_CALL_BYTES:
            raise ChannelBroken(
                f"it had more than {_MOST_CALLS:,} calls or {_MOST_CALL_BYTES:,} bytes of them in flight"
            )
        call = Call(number, op, message, self._answer)
        self._calls[number] = call, len(body)
        try:
            self._handler(call)
        except Exception as error:
            self._fail(error)
            return
        if call.task is not None:
            call.task.add_done_callback(self._worked)
        if len(self._calls) == 1 and number in self._calls:
            self._disarm()

    def _worked(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """The host could not do its part (a full disk, a bug): whoever ran the cell gets to know it."""
        self._error = self._error or error
        self.stop("cancelled")

    def _answer(self, kind: int, number: int, body: bytes) -> None:
        found = self._calls.pop(number, None)
        if found is None:
            return
        self._call_bytes -= found[1]
        self._owner.send(kind, number, body)
        if not self._calls and self._timer is None:
            self._wind()

    def stop(self, why: str) -> None:
        """Interrupts the cell; kills it when it does not yield."""
        if self._ended or self._stopping:
            return
        self._stopping = why
        self._disarm()
        self._abandon()
        self._owner.interrupt()
        self._timer = self._loop.call_later(_GRACE, self._give_up)

    def _give_up(self) -> None:
        self._doomed = True
        self._owner.kill()

    def finish(self, report: Mapping[str, Any]) -> None:
        """The cell said that it is done. Said after the order to kill it, that is worth nothing: `lost` follows."""
        if self._doomed:
            return
        if self.final is not None:
            self.end.final = final_of(decode(self.final))
        self.end.cause = self._stopping or "done"
        self.end.report = report
        self._over()

    def lost(self, reason: str | None, end: Exit) -> None:
        """The interpreter is gone."""
        self.end.exit = end
        self.end.note = reason or ""
        self.end.cause = f"{self._stopping}_killed" if self._stopping else "broken" if reason else "lost"
        self._over()

    def _over(self) -> None:
        if self._ended:
            return
        self._ended = True
        self._disarm()
        if self._cap is not None:
            self._cap.cancel()
        self._abandon()
        self._owner.take_output(self.end)
        if not self.done.done():  # else the caller was cancelled and has left
            if self._error is None:
                self.done.set_result(None)
            else:
                self.done.set_exception(self._error)
        self._owner.settled(self)

    def _abandon(self) -> None:
        for call, _ in self._calls.values():
            call.abandon()
        self._calls.clear()


def final_of(body: Mapping[str, Any]) -> Final:
    """What a cell says of a final value; nothing in it is believed but its types.

    A value nested deeper than anybody can walk is taken as none that JSON carries.
    """
    evidence, value = body.get("evidence"), body.get("value")
    is_json = body.get("json") is True and _is_shallow(value, _MOST_NESTING)
    spans = [
        (item[0], item[1], item[2])
        for item in (evidence if isinstance(evidence, list) else [])[:1000]
        if isinstance(item, list) and [type(part) for part in item] == [str, int, int]
    ]
    return Final(
        value if is_json else None,
        is_json,
        str(body.get("repr", "")),
        str(body.get("source", "")),
        tuple(spans),
    )


def _is_shallow(value: Any, nesting: int) -> bool:
    if isinstance(value, dict):
        return nesting > 0 and all(_is_shallow(item, nesting - 1) for item in value.values())
    if isinstance(value, list):
        return nesting > 0 and all(_is_shallow(item, nesting - 1) for item in value)
    return True
