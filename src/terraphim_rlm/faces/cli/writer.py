"""Output written by a thread of its own, for work that must not wait for a slow reader."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from terraphim_rlm.faces.cli.out import OutputLost

T = TypeVar("T")


class Writer(Generic[T]):
    """Hands items to `write` in order, from its thread. Leaving the block waits for the rest.

    Args:
        write: writes one item.
        on_lost: called from the thread when nobody reads any more; later items are dropped.

    Raises:
        OutputLost: at the end of the block, when the output was lost.
    """

    def __init__(self, write: Callable[[T], None], on_lost: Callable[[], None]) -> None:
        self._write = write
        self._on_lost = on_lost
        self._queue: queue.SimpleQueue[tuple[T] | None] = queue.SimpleQueue()
        self._lost: OutputLost | None = None
        self._thread = threading.Thread(target=self._run, name="output", daemon=True)

    def put(self, item: T) -> None:
        if self._lost is None:
            self._queue.put((item,))

    def _run(self) -> None:
        while (boxed := self._queue.get()) is not None:
            try:
                self._write(boxed[0])
            except OutputLost as error:
                self._lost = error
                self._on_lost()
                return

    def __enter__(self) -> Writer[T]:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._queue.put(None)
        self._thread.join()
        if self._lost is not None:
            raise self._lost
