"""Callers who wait for a sandbox, in the order in which they came."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Waiter(Generic[T]):
    """One caller.

    Args:
        deadline: on the pool's clock; infinity = none.
    """

    def __init__(self, order: int, deadline: float) -> None:
        self.order = order
        self.deadline = deadline
        self.again()

    def again(self) -> None:
        """What it got was no good."""
        self.got: asyncio.Future[T] = asyncio.get_running_loop().create_future()


class Waiters(Generic[T]):
    """A queue that a caller may come back to, at its old place."""

    def __init__(self) -> None:
        self._waiters: list[Waiter[T]] = []
        self.last = 0
        """The order of who came last."""

    def new(self, deadline: float) -> Waiter[T]:
        self.last += 1
        return Waiter(self.last, deadline)

    def enter(self, waiter: Waiter[T]) -> None:
        self._waiters.append(waiter)
        self._waiters.sort(key=lambda each: each.order)

    def leave(self, waiter: Waiter[T]) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)

    def first(self) -> Waiter[T] | None:
        return self._waiters[0] if self._waiters else None

    def give(self, thing: T) -> None:
        """To the first."""
        self._waiters.pop(0).got.set_result(thing)

    def refuse(self, waiter: Waiter[T], error: Exception) -> None:
        self.leave(waiter)
        waiter.got.set_exception(error)

    def due(self, now: float) -> list[Waiter[T]]:
        """Those whose time is over."""
        return [each for each in self._waiters if each.deadline <= now]

    def next_deadline(self) -> float:
        return min((each.deadline for each in self._waiters), default=math.inf)

    def __len__(self) -> int:
        return len(self._waiters)

    def __iter__(self) -> Iterator[Waiter[T]]:
        return iter(tuple(self._waiters))
