"""Events as faces get them: each once it is stored, so that nothing that was shown is lost in a crash."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from terraphim_rlm.core.events import Event, EventSink
from terraphim_rlm.store.journal import Journal


class Shown:
    """A sink for `EventLog` that gives each event to the journal, and to `sinks` when it is stored, in order.

    Belongs to the running event loop. A context manager: at its end what is left is handed on, also what could not be
    stored, and what a sink raised is raised.
    """

    def __init__(self, journal: Journal, sinks: Sequence[EventSink]) -> None:
        self._journal = journal
        self._sinks = tuple(sinks)
        self._loop = asyncio.get_running_loop()
        self._error: Exception | None = None
        self._waiting: deque[tuple[int, Event]] = deque()
        if sinks:
            journal.listeners.add(self._stored)

    def __call__(self, event: Event) -> None:
        """Raises what a sink raised of an earlier event, once: whoever tells something then gets to know it."""
        self._journal.append(event)
        if self._sinks:
            self._waiting.append((self._journal.position, event))
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._journal.listeners.discard(self._stored)
        self._hand_on(self._journal.position)
        if self._error is not None:
            raise self._error

    def _stored(self, count: int) -> None:
        """From the writer's thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._hand_on, count)

    def _hand_on(self, count: int) -> None:
        while self._waiting and self._waiting[0][0] <= count:
            event = self._waiting.popleft()[1]
            try:
                for sink in self._sinks:
                    sink(event)
            except Exception as error:
                self._error = self._error or error
