"""How often restarts may happen."""

from __future__ import annotations

from collections import deque

from terraphim_rlm.core.clock import Clock


class Intensity:
    """Restarts within a sliding window, in whole seconds of the monotonic clock, as OTP counts them.

    The wall clock was rejected: when it is set, a storm would be forgotten or a calm hour be taken for one. Measuring
    from the last restart was, too: slow crashes would add up for ever.
    """

    def __init__(self, most: int, period: int, clock: Clock) -> None:
        self._most = most
        self._period = period
        self._clock = clock
        self._times: deque[int] = deque()

    def restart(self) -> bool:
        """Counts one; whether it is still borne."""
        now = int(self._clock.now())
        self._forget(now)
        self._times.append(now)
        return len(self._times) <= self._most

    @property
    def count(self) -> int:
        """Restarts within the period that ends now."""
        self._forget(int(self._clock.now()))
        return len(self._times)

    def _forget(self, now: int) -> None:
        while self._times and self._times[0] < now - self._period:  # one exactly a period old still counts
            self._times.popleft()
