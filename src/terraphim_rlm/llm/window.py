"""How many calls to one provider may be under way: as many as it bears.

Nothing is known before the provider complains, so all of `CEILING` may fly. Its first 429 starts the search: from
one call, doubling with every round that succeeds, up to half of what flew when it complained; beyond that one more
each round. Every later 429 halves. The rules are those of TCP's congestion control (RFC 5681), with 429 for a
lost packet.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

CEILING = 256


@dataclass(frozen=True, slots=True)
class WindowStatistics:
    """A provider's window at one moment."""

    limit: int
    in_flight: int
    waiting: int
    rate_limited: int
    """429s that changed the limit."""


@dataclass(slots=True)
class Slot:
    """One call's place in the window."""

    epoch: int


class Window:
    """Hands out slots, first come first served. For one event loop at a time."""

    def __init__(self, ceiling: int = CEILING) -> None:
        self._ceiling = ceiling
        self._limit = ceiling
        self._threshold = ceiling
        self._successes = 0
        self._epoch = 0
        self._in_flight = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[Slot]:
        """A place for one attempt, not for the pause between two."""
        await self._enter()
        try:
            yield Slot(self._epoch)
        finally:
            self._leave()

    def succeeded(self) -> None:
        """A call got its reply: doubles (slow start) or adds one to the limit, for each full round."""
        if self._epoch == 0:
            return
        self._successes += 1
        if self._limit < self._threshold:
            self._limit += 1
        elif self._successes >= self._limit:
            self._limit += 1
            self._successes = 0
        self._limit = min(self._limit, self._ceiling)
        self._wake()

    def rate_limited(self, slot: Slot) -> None:
        """A call got a 429. Calls of the same burst cut only once: those begun before the last cut do not count."""
        if slot.epoch != self._epoch:
            return
        self._threshold = max(1, min(self._in_flight, self._limit) // 2)
        self._limit = 1 if self._epoch == 0 else self._threshold
        self._successes = 0
        self._epoch += 1

    def statistics(self) -> WindowStatistics:
        return WindowStatistics(self._limit, self._in_flight, len(self._waiting), self._epoch)

    async def _enter(self) -> None:
        if self._in_flight < self._limit and not self._waiting:
            self._in_flight += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave()
            else:
                self._waiting.remove(turn)
            raise

    def _leave(self) -> None:
        self._in_flight -= 1
        self._wake()

    def _wake(self) -> None:
        while self._waiting and self._in_flight < self._limit:
            turn = self._waiting.popleft()
            self._in_flight += 1
            turn.set_result(None)


_windows: weakref.WeakValueDictionary[str, Window] = weakref.WeakValueDictionary()


def window_for(base_url: str) -> Window:
    """The window that all clients of one provider share while any of them lives."""
    window = _windows.get(base_url)
    if window is None:
        window = _windows[base_url] = Window()
    return window
