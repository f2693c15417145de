"""Who may use a machine when: first come, first served, as far as things can be done at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from terraphim_rlm.core.errors import SandboxBusy

_WIDTH = 1


@dataclass(frozen=True, slots=True)
class QueueStatistics:
    """How full it is."""

    running: int
    waiting: int
    turns: int
    """Granted so far."""
    refused: int
    """Those whose time to wait was over."""


@dataclass(eq=False, slots=True)
class _Turn:
    line: int
    lane: str | None
    granted: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Queue:
    """Turns at one machine.

    Two turns overlap when they are of the same line of work, neither is exclusive, and their lane has room for both. No turn
    overtakes one that came before it, unless that one only waits for room in another lane.

    Args:
        widths: lane -> turns at once; a lane that is not named has room for one.
    """

    def __init__(self, widths: Mapping[str, int] | None = None) -> None:
        self._widths = dict(widths or {})
        self._running: list[_Turn] = []
        self._waiting: list[_Turn] = []
        self._turns = self._refused = 0

    @asynccontextmanager
    async def turn(
        self, lane: str | None, *, line: int = 0, wait: float | None = None
    ) -> AsyncIterator[None]:
        """Waits for a turn and holds it for the block.

        Args:
            lane: what runs one after another; None = nothing else at all meanwhile.
            line: turns of different lines of work never overlap.
            wait: most seconds to wait; None = as long as it takes, 0 = not at all.

        Raises:
            SandboxBusy: the time to wait was over; nothing was done.
        """
        own = _Turn(line, lane)
        self._waiting.append(own)
        self._grant()
        try:
            await self._granted(own, wait)
            yield
        finally:
            for turns in (self._running, self._waiting):
                if own in turns:
                    turns.remove(own)
            self._grant()

    async def _granted(self, own: _Turn, wait: float | None) -> None:
        if own.granted.done():
            return
        if wait is None or wait > 0:
            # Awaiting it would cancel it along with its caller, and then it could not be granted any more.
            await asyncio.wait({own.granted}, timeout=wait)
        if not own.granted.done():
            self._refused += 1
            raise SandboxBusy(
                f"The sandbox is busy: {len(self._running)} running, {len(self._waiting) - 1} waiting.",
                waited=wait,
            )

    def _grant(self) -> None:
        full: set[str | None] = set()
        for turn in list(self._waiting):
            if any(turn.line != other.line or None in (turn.lane, other.lane) for other in self._running):
                return  # and what came later must not get ahead of it
            if turn.lane in full or not self._has_room(turn.lane):
                full.add(turn.lane)
                continue
            self._waiting.remove(turn)
            self._running.append(turn)
            self._turns += 1
            turn.granted.set_result(None)

    def _has_room(self, lane: str | None) -> bool:
        taken = sum(other.lane == lane for other in self._running)
        return taken < (self._widths.get(lane, _WIDTH) if lane is not None else _WIDTH)

    def statistics(self) -> QueueStatistics:
        return QueueStatistics(len(self._running), len(self._waiting), self._turns, self._refused)
