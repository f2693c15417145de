"""One start of a child, and asking after its health from then on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from terraphim_rlm.core.errors import ChildError
from terraphim_rlm.supervision.reports import Slot
from terraphim_rlm.supervision.spec import Child, Health, Later

_GIVE_UP_SECONDS = 1.0


async def started(slot: Slot, stopping: asyncio.Event) -> Child | None:
    """The started child of `slot`; None when it does not want to run.

    Raises:
        ChildError: `stopping` was set before it was there; a child that comes all the same is killed.
        Exception: what its start raised.
    """
    starting = asyncio.ensure_future(_awaited(slot.spec.start(*slot.arguments)))
    stopped = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting}, timeout=_GIVE_UP_SECONDS)
    except asyncio.CancelledError:
        starting.add_done_callback(_not_wanted)
        starting.cancel()
        raise
    finally:
        stopped.cancel()
    if not starting.done() or starting.cancelled():
        starting.add_done_callback(_not_wanted)
        raise ChildError("its start was given up", state="over")
    return starting.result()


async def unhealthy(health: Health, later: Later) -> str:
    """Asks until a running child is unhealthy, and says why."""
    failures, why = 0, ""
    while failures < health.failures:
        await later(health.every)
        why = await _asked(health)
        failures = failures + 1 if why else 0
    return why


async def _asked(health: Health) -> str:
    """Why a child is not healthy; empty when it is."""
    try:
        async with asyncio.timeout(health.timeout):
            return "" if await health.check() else "it said no"
    except TimeoutError:
        return f"no answer in {health.timeout:g} s"
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:500]


async def _awaited(work: Awaitable[Child | None]) -> Child | None:
    return await work


def _not_wanted(starting: asyncio.Future[Child | None]) -> None:
    if not starting.cancelled() and starting.exception() is None:
        child = starting.result()
        if child is not None:
            child.kill()
