"""One sandbox kept ready, so that the next run starts at once. A used one never comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from terraphim_rlm.sandbox.sandbox import Sandbox

_WARM_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class SpareStatistics:
    """How often the spare was there when it was wanted."""

    handed_out: int
    ready: int
    failures: int


class Spare:
    """Makes one sandbox ahead, with its Python interpreter started. `close` it last.

    It begins to be made at `open`, which the owner calls again when the one that took it is done: making it at
    once would slow down the very run that it was taken for.
    """

    def __init__(self, make: Callable[[], Awaitable[Sandbox]]) -> None:
        self._make = make
        self._task: asyncio.Task[Sandbox] | None = None
        self._closed = False
        self._handed_out = self._ready = self._failures = 0

    def open(self) -> None:
        """Begins to make the spare, in the background, if there is none. After `close`, nothing."""
        if self._task is None and not self._closed:
            self._task = asyncio.get_running_loop().create_task(self._prepared(warm=True))

    async def take(self) -> Sandbox:
        """The spare, or a fresh sandbox when there is none."""
        task, self._task = self._task, None
        self._handed_out += 1
        self._ready += task is not None and task.done() and task.exception() is None
        box = None
        if task is not None:
            try:
                box = await task
            except Exception:
                self._failures += 1  # tried again below, where the error is the caller's
        if box is not None and not box.is_open:
            await box.close()
            box = None
        return box or await self._prepared(warm=False)

    async def wait_ready(self) -> None:
        """Returns when the spare is ready, or could not be made."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _prepared(self, *, warm: bool) -> Sandbox:
        box = await self._make()
        try:
            await box.python.start()
            if warm:
                await asyncio.wait_for(box.python.warm.wait(), _WARM_SECONDS)
        except BaseException:
            await box.close()
            raise
        return box

    def statistics(self) -> SpareStatistics:
        return SpareStatistics(self._handed_out, self._ready, self._failures)

    async def close(self) -> None:
        """Ends the spare. Idempotent."""
        self._closed = True
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        result = (await asyncio.gather(task, return_exceptions=True))[0]
        if isinstance(result, Sandbox):
            await result.close()
