"""Work that Ctrl-C ends: once to stop it cleanly, twice to leave at once."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from terraphim_rlm.core.errors import Cancelled
from terraphim_rlm.faces.cli.out import complain

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")
_SHOW_CURSOR = "\x1b[?25h"


class Work(Generic[T]):
    """One coroutine on an event loop of its own, which signals and other threads may stop.

    The first SIGINT or SIGTERM cancels it; its clean-up runs to its end. The second ends this process on the
    spot: the keeper then ends the sandboxes, and the journal shows the run as interrupted.

    Args:
        make: makes the coroutine.
        stopped: makes the error that says what was stopped and what is kept.
        on_stop: called on the loop when a signal stops it.
    """

    def __init__(
        self,
        make: Callable[[], Coroutine[Any, Any, T]],
        stopped: Callable[[], Cancelled],
        on_stop: Callable[[], None] = lambda: None,
    ) -> None:
        self._make = make
        self._stopped = stopped
        self._on_stop = on_stop
        self._signals = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[T] | None = None

    def run(self) -> T:
        """Runs it to its end.

        Raises:
            Cancelled: it was stopped.
        """
        import asyncio

        try:
            return self._run()
        except asyncio.CancelledError:
            raise self._stopped() from None

    def _run(self) -> T:
        import asyncio

        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            self._task = self._loop.create_task(self._make())
            with _heard(self._loop, self._signalled):
                try:
                    return self._loop.run_until_complete(self._task)
                finally:
                    runner.close()  # waits for threads, so the second Ctrl-C must still be heard

    def cancel(self) -> None:
        """Stops it; from any thread."""
        self._soon(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _signalled(self, signum: int, frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals > 1:
            _leave()
        self._soon(self._on_stop)
        self._soon(self._cancel)

    def _soon(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: there is nothing left to stop
            if self._loop is not None:
                self._loop.call_soon_threadsafe(call)


@contextlib.contextmanager
def _heard(
    loop: asyncio.AbstractEventLoop, handler: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """Lets `handler` have SIGINT and SIGTERM, also while the loop sleeps.

    A signal that comes just before the loop goes to sleep would wait for it to wake: the wake-up descriptor wakes
    it. `loop.add_signal_handler` was rejected: it waits for a loop that is busy, and the second Ctrl-C must not.
    """
    woken, waker = socket.socketpair()
    with woken, waker:
        woken.setblocking(False)
        waker.setblocking(False)
        loop.add_reader(woken, lambda: woken.recv(4096))
        wakeup = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        before = {each: signal.signal(each, handler) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for each, old in before.items():
                signal.signal(each, old)
            signal.set_wakeup_fd(wakeup)
            if not loop.is_closed():
                loop.remove_reader(woken)


def _leave() -> None:
    if sys.stderr is not None and sys.stderr.isatty():
        complain(_SHOW_CURSOR)
    os._exit(130)
