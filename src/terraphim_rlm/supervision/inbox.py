"""What a supervisor has still to deal with, in order: ends of children, retries, and calls that somebody waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")
Message = Callable[[], Awaitable[None]]


class Inbox:
    """One worker takes messages out of it, one after the other."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Message] = asyncio.Queue()

    def post(self, message: Message) -> None:
        self._queue.put_nowait(message)

    async def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` gives or raises, once it is its turn. A caller that leaves before that has begun nothing."""
        call = _Call(work)
        self.post(call)
        result: T = await call.answer
        return result

    async def next(self) -> Message:
        return await self._queue.get()

    def wake(self) -> None:
        self.post(_nothing)

    def refuse_all(self, error: Callable[[], Exception]) -> None:
        """Nothing of it is dealt with any more; whoever waits is told."""
        while not self._queue.empty():
            refuse(self._queue.get_nowait(), error())

    @property
    def is_empty(self) -> bool:
        return self._queue.empty()


def refuse(message: Message, error: Exception) -> None:
    """Drops a message; if somebody waits for it, with `error`."""
    if isinstance(message, _Call) and not message.answer.done():
        message.answer.set_exception(error)


class _Call:
    def __init__(self, work: Callable[[], Awaitable[Any]]) -> None:
        self._work = work
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> None:
        if self.answer.done():
            return
        try:
            result = await self._work()
        except Exception as error:
            refuse(self, error)
        else:
            if not self.answer.done():
                self.answer.set_result(result)


async def _nothing() -> None: ...
