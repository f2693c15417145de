"""When the next sandbox may be started, after others did not start."""

from __future__ import annotations

from typing import Literal

from terraphim_rlm.core.clock import Clock
from terraphim_rlm.sandbox.pool.config import PoolConfig

_MOST_DOUBLINGS = 60  # past any wait that is allowed


class Breaker:
    """Each failure in a row makes the next start wait longer; after some there is none at all for a while.

    Then a single start tries: it closes the breaker again, or opens it for as long once more.
    """

    def __init__(self, config: PoolConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._probing = False
        self.failures = 0
        """In a row."""
        self.next_try = 0.0
        """On the clock; nothing is started before."""
        self.last: Exception | None = None
        """What the latest failure was."""

    @property
    def state(self) -> Literal["closed", "open", "half-open"]:
        if self.failures < self._config.breaker_failures:
            return "closed"
        return "half-open" if self._probing or self._clock.now() >= self.next_try else "open"

    def room(self) -> int | None:
        """How many further starts may begin now; None = any number."""
        if self.state == "closed":
            return None if self._clock.now() >= self.next_try else 0
        return int(self.state == "half-open" and not self._probing)

    def began(self) -> None:
        self._probing = self.state == "half-open"

    def succeeded(self) -> None:
        self._probing = False
        self.failures, self.next_try = 0, 0.0

    def gave_up(self) -> None:
        """A start was stopped before it had come to anything."""
        self._probing = False

    def failed(self, error: Exception) -> None:
        own = self._config
        self._probing = False
        self.failures += 1
        self.last = error
        pause = own.backoff_seconds * 2 ** min(self.failures - 1, _MOST_DOUBLINGS)
        pause = min(pause, own.backoff_most_seconds)
        if self.failures >= own.breaker_failures:
            pause = own.breaker_seconds
        self.next_try = self._clock.now() + pause
