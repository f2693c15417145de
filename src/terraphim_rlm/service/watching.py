"""A run of any process, followed while it works: its events from the journal, in order, without a gap."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from terraphim_rlm.core.errors import InvalidArgument, RunUnreachable
from terraphim_rlm.core.paths import data_dir
from terraphim_rlm.service.door import knock
from terraphim_rlm.service.runs import RunSummary, show_run
from terraphim_rlm.store.database import FILE_NAME
from terraphim_rlm.store.reader import JournalReader

LOOK_SECONDS = 0.05
"""Between two looks into the journal; what is new there is at most a few milliseconds old."""
_MOST = 1_000
_ENDING_SECONDS = 10.0
_OPEN = ("accepted", "running")


async def watch(
    run: str, *, after: int = 0, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> AsyncIterator[dict[str, Any]]:
    """A run's events behind number `after`, until its end; each as the journal gives it, long fields described.

    Raises:
        RunNotFound, InvalidArgument: there is none, or several begin so; `after` is negative.
        StoreError: the journal cannot be read.
    """
    if after < 0:
        raise InvalidArgument(f"after must be at least 0, not {after}.", name="after")
    found = (await asyncio.to_thread(show_run, run, max_events=0)).summary
    with JournalReader(data_dir() / FILE_NAME) as reader:
        while True:
            ended = (
                reader.status(found.id) not in _OPEN
            )  # asked first: what is written after it is seen next time
            events = reader.events(found.id, after=after, limit=_MOST)
            for event in events:
                after = event["seq"]
                yield event
            if events:
                continue
            if ended:
                return
            await sleep(LOOK_SECONDS)


async def cancel(run: str) -> RunSummary:
    """Stops a run of any process of this user; returns when it has ended, as it then stands.

    Raises:
        RunNotFound, InvalidArgument: there is none, or several begin so; or it has ended.
        RunUnreachable: its process cannot be reached.
    """
    found = (await asyncio.to_thread(show_run, run, max_events=0)).summary
    if found.status not in _OPEN:
        raise InvalidArgument(
            f"{found.id} has ended already ({found.status}).",
            fix=f"Look at it: `trlm runs show {found.id}`.",
            run=found.id,
        )
    try:
        await knock(found.id, _ENDING_SECONDS)
    except RunUnreachable:
        now = (await asyncio.to_thread(show_run, found.id, max_events=0)).summary
        if now.status in _OPEN:  # else it ended of itself meanwhile
            raise
    return (await asyncio.to_thread(show_run, found.id, max_events=0)).summary
