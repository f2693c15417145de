"""The sandboxes of a run: its own, and those of children that want one each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from terraphim_rlm.sandbox.sandbox import Sandbox

MOST_ISOLATED = 4
"""Sandboxes of one level's children at once; more wait. Counted by level, so that none waits for its own child's."""


@dataclass(frozen=True, slots=True)
class Boxes:
    """Where the sandboxes of one run come from."""

    own: Callable[[], Awaitable[Sandbox]]
    """The run's, when it turns out that one is needed."""
    new: Callable[[], Awaitable[Sandbox]]
    """One more; whoever takes it closes it."""


class Isolated:
    """Sandboxes for the isolated children of one run."""

    def __init__(
        self, new: Callable[[], Awaitable[Sandbox]], later: Callable[[Awaitable[None]], None]
    ) -> None:
        self._new = new
        self._later = later
        self._levels: dict[int, asyncio.Semaphore] = {}

    @asynccontextmanager
    async def one(self, depth: int) -> AsyncIterator[Sandbox]:
        """A sandbox for a node of this depth. Its end is handed to `later`, and only then may another one begin.

        Raises:
            RlmError: none could be started.
        """
        level = self._levels.setdefault(depth, asyncio.Semaphore(MOST_ISOLATED))
        await level.acquire()
        try:
            box = await self._new()
        except BaseException:
            level.release()
            raise
        try:
            yield box
        finally:
            self._later(_closed(box, level))


async def _closed(box: Sandbox, level: asyncio.Semaphore) -> None:
    try:
        await box.close()
    finally:
        level.release()
