"""Work that is done whole or not at all, also when its caller is cancelled in the middle of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def undivided(work: Coroutine[Any, Any, T], *, undo: Callable[[T], Awaitable[None]] | None = None) -> T:
    """Does the work to its end. A caller that is cancelled meanwhile waits for that end, and for `undo` of its result.

    However often it is cancelled: anyio's scopes do it again at each wait.
    """
    task = asyncio.ensure_future(work)
    cancelled = await _over(task)
    if cancelled is None:
        return task.result()
    if not task.cancelled() and task.exception() is None and undo is not None:
        await _over(asyncio.ensure_future(undo(task.result())))
    raise cancelled


async def _over(task: asyncio.Future[Any]) -> asyncio.CancelledError | None:
    """Waits for its end; a cancellation that came meanwhile."""
    cancelled = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if not task.cancelled():
        task.exception()  # seen: whoever was cancelled is told of that, and of nothing else
    return cancelled
