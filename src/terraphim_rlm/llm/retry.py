"""Trying again: which failures, how often, how long between.

Rejected: stamina. It logs a retried call with its arguments (here the whole prompt) unless its hooks are changed for
the whole process, and its pauses follow the machine's clock, not an injected one.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import anyio

from terraphim_rlm.core.clock import SYSTEM_CLOCK, Clock
from terraphim_rlm.core.errors import ModelError, ModelRateLimited, ModelTimeout, ModelUnreachable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pauses:
    """How one kind of failure is tried again."""

    attempts: int
    """In all, the first one included."""
    first: float
    """Seconds before the second attempt, doubled for each further one."""
    longest: float
    """Seconds; also the most of a provider's Retry-After that is waited for."""


TABLE: dict[type[ModelError], Pauses] = {
    ModelRateLimited: Pauses(attempts=8, first=1.0, longest=60.0),
    ModelUnreachable: Pauses(attempts=4, first=0.3, longest=20.0),
    ModelTimeout: Pauses(attempts=2, first=0.3, longest=5.0),
}
"""Every other failure is final."""


@dataclass(frozen=True, slots=True)
class Retrying:
    """Runs calls, again and again where that makes sense."""

    total: float = 600.0
    """Seconds of all attempts and pauses; no pause begins that would end later."""
    clock: Clock = SYSTEM_CLOCK
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    chance: Callable[[], float] = random.random
    """Of [0, 1): spreads the pauses of many callers."""

    async def run(
        self, attempt: Callable[[], Awaitable[T]], *, may_repeat: Callable[[], bool] = lambda: True
    ) -> T:
        """The first success of `attempt`.

        Args:
            attempt: raises `ModelError`s; those in `TABLE` are tried again.
            may_repeat: asked after a failure; False makes it final.

        Raises:
            ModelError: the last failure, with `details["attempts"]` and `details["elapsed"]`.
        """
        began = self.clock.now()
        failures = 0
        while True:
            try:
                return await attempt()
            except ModelError as error:
                failures += 1
                elapsed = self.clock.now() - began
                pause = self._pause(error, failures, elapsed) if may_repeat() else None
                if pause is None:
                    error.details |= {"attempts": failures, "elapsed": round(elapsed, 3)}
                    raise
            await self.sleep(pause)

    def _pause(self, error: ModelError, failures: int, elapsed: float) -> float | None:
        pauses = TABLE.get(type(error))
        if pauses is None or failures >= pauses.attempts:
            return None
        backoff = min(pauses.first * 2 ** (failures - 1), pauses.longest) * (0.5 + self.chance() / 2)
        asked = float(error.details.get("retry_after") or 0.0)
        pause = max(backoff, asked * (1 + self.chance() / 10))
        return pause if asked <= pauses.longest and elapsed + pause < self.total else None
