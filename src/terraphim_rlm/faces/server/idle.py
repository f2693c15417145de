"""When a daemon has nothing to do any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from terraphim_rlm.core.clock import SYSTEM_CLOCK, Clock


class Idle:
    """Calls `end` when for `seconds` there was no request, and `busy` says no.

    One timer: it goes off once a period, and not at all while requests run.

    Args:
        seconds: 0 = never.
        busy: whether there is anything to stay for besides requests.
    """

    def __init__(
        self, seconds: float, busy: Callable[[], bool], end: Callable[[], None], clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._seconds = seconds
        self._busy = busy
        self._end = end
        self._clock = clock
        self._requests = 0
        self._last = clock.now()
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def request(self) -> Iterator[None]:
        """For as long as a request is worked on."""
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1
            self._last = self._clock.now()
            self.watch()

    def watch(self) -> None:
        """Looks again when the time may be over."""
        if self._seconds and self._timer is None and not self._requests:
            left = self._last + self._seconds - self._clock.now()
            self._timer = asyncio.get_running_loop().call_later(max(0.0, left), self.look)

    def look(self) -> None:
        """Ends the daemon, or goes on waiting. Called by the timer."""
        self._timer = None
        if self._requests:
            return
        if self._busy():
            self._last = self._clock.now()
        elif self._clock.now() - self._last >= self._seconds:
            self._end()
            return
        self.watch()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._seconds = 0
