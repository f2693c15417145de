"""So many a second and no more, with a store for short rushes."""

from __future__ import annotations

import asyncio


class Rate:
    """A bucket of tokens. One event loop."""

    def __init__(self, per_second: float, burst: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._tokens = burst
        self._filled = asyncio.get_running_loop().time()

    async def wait(self) -> None:
        """Takes a token; waits until there is one."""
        now = asyncio.get_running_loop().time()
        self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._per_second)
        self._filled = now
        self._tokens -= 1
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / self._per_second)
