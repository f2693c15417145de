"""One sandbox kept ready, so that the next run starts at once. A used one never comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from terraphim_rlm.sandbox.sandbox import Sandbox


@dataclass(frozen=True, slots=True)
class SpareStatistics:
    """How often the spare was there when it was wanted."""

    handed_out: int
    ready: int
    failures: int


class Spare:
    """Makes one sandbox ahead, with its Python interpreter started. `close` it last.

    Before `open`, and so for those who need one sandbox only, `take` just makes one.
    """

    def __init__(self, make: Callable[[], Awaitable[Sandbox]]) -> None:
        self._make = make
        self._refills = False
        self._task: asyncio.Task[Sandbox] | None = None
        self._handed_out = self._ready = self._failures = 0

    def open(self) -> None:
        """Begins to make the spare, in the background, and again after each `take`."""
        self._refills = True
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._prepared())

    async def take(self) -> Sandbox:
        """The spare, or a fresh sandbox when it is not ready; the next spare is begun."""
        task, self._task = self._task, None
        self._handed_out += 1
        self._ready += task is not None and task.done() and task.exception() is None
        box = None
        if task is not None:
            try:
                box = await task
            except Exception:
                self._failures += 1  # tried again below, where the error is the caller's
        if box is None or not box.guest.is_open:
            box = await self._prepared()
        if self._refills:
            self.open()
        return box

    async def wait_ready(self) -> None:
        """Returns when the spare is ready, or could not be made."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _prepared(self) -> Sandbox:
        box = await self._make()
        try:
            await box.python.start()
        except BaseException:
            await box.close()
            raise
        return box

    def statistics(self) -> SpareStatistics:
        return SpareStatistics(self._handed_out, self._ready, self._failures)

    async def close(self) -> None:
        """Ends the spare. Idempotent."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        result = (await asyncio.gather(task, return_exceptions=True))[0]
        if isinstance(result, Sandbox):
            await result.close()
