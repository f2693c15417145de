"""Runs that somebody else waits for: started here, followed by their events, stopped by their id."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from terraphim_rlm.core.errors import (
    Cancelled,
    DaemonUnavailable,
    InternalError,
    RlmError,
    RunNotFound,
    SessionLimit,
)
from terraphim_rlm.core.events import Event, EventSink
from terraphim_rlm.core.values import Answer
from terraphim_rlm.service import runs
from terraphim_rlm.service.ask import AskRequest, ask

MOST_RUNS = 16
"""At once; each has a sandbox of its own and calls models."""
_KEPT = 32
"""Runs that are over whose events stay in memory; those of older ones are read from the journal."""

_BEFORE = ("run.started", "budget.leased")
"""Told before the beginning of a run is committed."""

Ask = Callable[..., Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class RunningStatistics:
    """How the runs of this process stand."""

    live: int
    most: int
    started: int
    failed: int
    cancelled: int


class LiveRun:
    """One run of this process: what has happened so far, and what becomes of it."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.task: asyncio.Task[Answer] | None = None
        self._news = asyncio.Event()

    @property
    def id(self) -> str | None:
        """None until its first event."""
        return self.events[0].run if self.events else None

    @property
    def is_over(self) -> bool:
        return self.task is not None and self.task.done()

    def hear(self, event: Event) -> None:
        self.events.append(event)
        self.wake()

    def wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def begun(self) -> None:
        """Returns when it has an id and its beginning is durable, which the first event of a node tells; or it is over."""
        while not any(event.type not in _BEFORE for event in self.events) and not self.is_over:
            await self._news.wait()

    async def follow(self, after: int) -> AsyncIterator[Event]:
        """Its events with a `seq` beyond `after`, those that happened before included, until it is over."""
        place = 0
        while True:
            news = self._news
            while place < len(self.events):
                event = self.events[place]
                place += 1
                if event.seq > after:
                    yield event
            if self.is_over:
                return
            await news.wait()

    async def answer(self) -> Answer:
        """What it came to, once it has. Whoever leaves does not stop it.

        Raises:
            RlmError: what ended it.
        """
        assert self.task is not None
        await asyncio.wait({self.task})
        if self.task.cancelled():
            raise Cancelled("The run was stopped.", fix="Ask again if that was not meant.")
        failure = self.task.exception()
        if failure is None:
            return self.task.result()
        if isinstance(failure, RlmError):
            raise failure
        raise InternalError(f"{type(failure).__name__}: {failure}"[:1000])


class Running:
    """The runs of one process. Close it, and they are stopped and written down as cancelled.

    Args:
        ask: answers one request, and tells its sinks.
    """

    def __init__(self, ask: Ask = ask, most: int = MOST_RUNS) -> None:
        self._ask = ask
        self._most = most
        self._runs: dict[str, LiveRun] = {}
        self._live: set[LiveRun] = set()
        self._started = self._failed = self._cancelled = 0
        self._closed = False

    async def start(self, request: AskRequest, sinks: Sequence[EventSink] = ()) -> LiveRun:
        """Begins a run; returns when that is durable.

        Raises:
            SessionLimit: as many run as may.
            RlmError: it could not begin.
        """
        if self._closed:
            raise DaemonUnavailable("The daemon is about to end.", fix="Try again soon.", retry_after=1)
        if len(self._live) >= self._most:
            raise SessionLimit(
                f"{self._most} runs are worked on already.", fix="Try again soon.", retry_after=5
            )
        found = LiveRun()
        found.task = asyncio.ensure_future(self._work(request, found, sinks))
        self._live.add(found)
        found.task.add_done_callback(lambda task: self._over(found, task))
        try:
            await found.begun()
        except asyncio.CancelledError:
            found.task.cancel()
            raise
        if found.id is None:
            await found.answer()  # raises why
            raise InternalError("A run ended without an event.")
        self._runs[found.id] = found
        self._started += 1
        return found

    async def _work(self, request: AskRequest, found: LiveRun, sinks: Sequence[EventSink]) -> Answer:
        return await self._ask(request, sinks=(found.hear, *sinks))

    def _over(self, found: LiveRun, task: asyncio.Task[Answer]) -> None:
        self._live.discard(found)
        self._cancelled += task.cancelled()
        self._failed += not task.cancelled() and task.exception() is not None
        found.wake()
        over = [id for id, each in self._runs.items() if each.is_over]
        for id in over[: max(0, len(over) - _KEPT)]:
            del self._runs[id]

    def get(self, run: str) -> LiveRun | None:
        """The run of this process that is meant; None when its events are only in the journal, if anywhere."""
        return self._runs.get(run)

    def stop(self, run: str) -> None:
        """Stops a run.

        Raises:
            RunNotFound: none of this id is worked on here.
        """
        found = self._runs.get(run)
        if found is None or found.task is None or found.task.done():
            raise RunNotFound(
                f"No run {run[:80]!r} is worked on here.", fix="It may have ended: `trlm runs show` shows it."
            )
        found.task.cancel()

    async def events(self, run: str, after: int) -> AsyncIterator[dict[str, Any]]:
        """Events of any run as JSON, with a `seq` beyond `after`: from memory as they come, or from the journal.

        Raises:
            RunNotFound: there is no such run.
        """
        found = self.get(run)
        if found is not None:
            async for event in found.follow(after):
                yield event.to_json()
            return
        lines = await asyncio.to_thread(runs.events_of, run, after)
        for line in lines:
            yield line

    def statistics(self) -> RunningStatistics:
        return RunningStatistics(len(self._live), self._most, self._started, self._failed, self._cancelled)

    def refuse(self) -> None:
        """Takes no new runs."""
        self._closed = True

    async def idle(self) -> None:
        """Returns when no run is worked on."""
        while self._live:
            await asyncio.wait({found.task for found in self._live if found.task is not None})

    async def close(self) -> None:
        """Stops all; returns when they are written down."""
        self.refuse()
        for found in set(self._live):
            if found.task is not None:
                found.task.cancel()
        await self.idle()
