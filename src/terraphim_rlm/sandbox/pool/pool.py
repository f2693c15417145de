"""A pool of sandboxes that are all made the same way."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from terraphim_rlm.core.clock import SYSTEM_CLOCK, Clock
from terraphim_rlm.core.errors import PoolExhausted, RlmError
from terraphim_rlm.sandbox.pool.breaker import Breaker
from terraphim_rlm.sandbox.pool.config import PoolConfig
from terraphim_rlm.sandbox.pool.making import Make, answers, warmed
from terraphim_rlm.sandbox.pool.statistics import PoolState, PoolStatistics, Tally, Why
from terraphim_rlm.sandbox.pool.waiting import Waiter, Waiters
from terraphim_rlm.sandbox.sandbox import Sandbox


@dataclass(eq=False, slots=True)
class _Member:
    """A sandbox that no caller has had yet."""

    box: Sandbox
    since: float
    stood: bool = False
    """Whether it was ready before anybody asked for it; else it has only just been seen alive."""


class Pool:
    """Keeps sandboxes ready, with their Python interpreter started. An async context manager, of one event loop.

    Nothing is made before the first caller, or `warm`. Each start and each end is a task of the pool's own: whoever
    is cancelled leaves nothing half done, and `close` waits for all of them. Leaving the pool ends what it holds, and
    not what it handed out: that belongs to whoever took it, who closes it, and it never comes back.

    Args:
        make: gives a started sandbox. It is cancelled when that is not wanted any more, and then leaves nothing.
    """

    def __init__(
        self,
        make: Make,
        config: PoolConfig | None = None,
        *,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._make = make
        self.config = config or PoolConfig()
        self._clock = clock
        self._breaker = Breaker(self.config, clock)
        self._waiters: Waiters[_Member] = Waiters()
        self._ready: deque[_Member] = deque()
        """The oldest first."""
        self._checking: set[_Member] = set()
        """On their way to a caller."""
        self._starting: list[asyncio.Task[None]] = []
        self._ending: set[asyncio.Task[None]] = set()
        """Tasks that end a sandbox, or a start that is not wanted any more."""
        self._goal = 0
        self._refill_at = math.inf
        """When what is missing may be made without anybody waiting for it."""
        self._wanted = clock.now()
        """When somebody last asked."""
        self._tally = Tally()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def take(self) -> Sandbox:
        """One that nobody has used, which the caller closes.

        Raises:
            PoolExhausted: none came in time, none is ready and the policy is `fail`, or they do not start at present.
            Exception: what `make` raised, for a start that this caller waited for.
        """
        own, began = self.config, self._clock.now()
        self._check_open()
        self._wanted = began
        self._aim(own.target)
        waiter = self._waiters.new(math.inf if own.wait_seconds is None else began + own.wait_seconds)
        try:
            member = await self._alive(waiter)
        except PoolExhausted:
            self._tally.refused += 1
            raise
        finally:
            self._refill_later()
        self._tally.hand_out(self._clock.now() - began, hit=member.stood)
        return member.box

    def _refill_later(self) -> None:
        """A refill that is pending already is not put off: else callers who come fast enough would prevent it."""
        now, pause = self._clock.now(), self.config.refill_seconds
        if pause is None:
            self._refill_at = math.inf
        elif not now < self._refill_at < math.inf:
            self._refill_at = now + pause
        self._settle()

    async def _alive(self, waiter: Waiter[_Member]) -> _Member:
        """The next one that answers."""
        while True:
            member = await self._next(waiter)
            try:
                # One that has only just started has shown that it lives.
                alive = member.box.is_open and (
                    not member.stood or await answers(member.box, self.config.ping_seconds)
                )
            except BaseException:
                if self._unchecked(member):
                    self._put_back(member)
                raise
            if not self._unchecked(member):
                raise _closed()
            if alive:
                return member
            self._discard(member, "dead")
            waiter.again()

    def _unchecked(self, member: _Member) -> bool:
        """False when `close` has taken it meanwhile."""
        known = member in self._checking
        self._checking.discard(member)
        return known

    async def _next(self, waiter: Waiter[_Member]) -> _Member:
        """Waits for the caller's turn, and a sandbox."""
        self._waiters.enter(waiter)
        if self.config.scale_up_at is not None and len(self._waiters) >= self.config.scale_up_at:
            self._aim(self.config.max)
        self._settle()
        if self.config.policy == "fail" and not waiter.got.done():
            self._waiters.refuse(waiter, PoolExhausted("No sandbox stands ready."))
        try:
            await asyncio.wait({waiter.got})  # which, other than awaiting it, does not cancel it
        except asyncio.CancelledError:
            self._waiters.leave(waiter)
            given = waiter.got.done() and waiter.got.exception() is None
            if given and self._unchecked(waiter.got.result()):
                self._put_back(waiter.got.result())
            raise
        return waiter.got.result()

    def _give(self, member: _Member) -> None:
        self._checking.add(member)
        self._waiters.give(member)

    def _put_back(self, member: _Member) -> None:
        """Nobody has used it."""
        member.stood = True
        self._ready.appendleft(member)
        self._settle()

    def warm(self, count: int | None = None) -> None:
        """Begins to make what is missing of `count` (None: of `target`), and keeps as many ready from then on."""
        self._check_open()
        self._wanted = self._clock.now()
        self._refill_at = self._clock.now()
        self._goal = min(self.config.target if count is None else count, self.config.max)
        self._settle()

    async def wait_ready(self) -> None:
        """Returns when all that should be are ready, or a start has failed."""
        failed = self._tally.failed
        while self._starting and len(self._ready) < self._goal and self._tally.failed == failed:
            await asyncio.wait(self._starting, return_when=asyncio.FIRST_COMPLETED)

    async def drain(self) -> None:
        """Ends what is ready and what starts for nobody; returns when it is gone. The next caller fills it again."""
        self._goal = 0
        self._settle()
        while self._ending:
            await asyncio.wait(set(self._ending))

    def look(self) -> None:
        """Does what is due by now. Called by a timer; for tests, too."""
        idle = self._clock.now() - self._wanted >= self.config.idle_seconds
        if idle and self._goal > self.config.min:
            self._wanted = self._clock.now()
            self._goal = self.config.target if self._goal > self.config.target else self.config.min
        self._settle()

    @property
    def is_open(self) -> bool:
        return not self._closed

    def _aim(self, goal: int) -> None:
        self._goal = max(self._goal, goal)

    def _settle(self) -> None:
        """Does all that can be done now. Every change ends here."""
        if self._closed:
            return
        now = self._clock.now()
        self._sort_out(now)
        while self._ready and self._waiters:
            self._give(self._ready.popleft())
        for waiter in self._waiters.due(now):
            self._waiters.refuse(waiter, self._too_late())
        if self._breaker.state == "open":
            for waiter in self._waiters:
                self._waiters.refuse(waiter, self._failing())
        for _ in range(self._missing(now)):
            self._start()
        self._wind(now)

    def _sort_out(self, now: float) -> None:
        """Ends what is dead, too old, or more than what is wanted."""
        for member in tuple(self._ready):
            old = now - member.since >= self.config.max_age_seconds
            if old or not member.box.is_open:
                self._ready.remove(member)
                self._discard(member, "old" if old else "dead")
        surplus = len(self._ready) + len(self._starting) - self._goal - len(self._waiters)
        for task in self._starting[-surplus:] if surplus > 0 else []:
            self._starting.remove(task)
            self._ending.add(task)
            task.cancel()
            surplus -= 1
        for _ in range(surplus):
            self._discard(self._ready.popleft(), "surplus")

    def _missing(self, now: float) -> int:
        """How many starts may begin now."""
        own = self.config
        more = min(own.overflow, len(self._waiters)) if own.policy == "create" else 0
        ahead = self._goal if now >= self._refill_at else 0
        held = len(self._ready) + len(self._starting) + len(self._checking)
        room = min(
            own.starts + more - len(self._starting),
            own.max + more - held - len(self._ending),
            ahead + len(self._waiters) - held,
        )
        allowed = self._breaker.room()
        return max(0, room if allowed is None else min(room, allowed))

    def _start(self) -> None:
        self._breaker.began()
        task = asyncio.get_running_loop().create_task(self._started(self._waiters.last))
        self._starting.append(task)
        task.add_done_callback(self._start_over)

    async def _started(self, last: int) -> None:
        """One start, from its beginning to what became of it.

        Args:
            last: whoever came later has not waited for this one.
        """
        try:
            box = await warmed(self._make, lambda: len(self._waiters) > 0)
        except asyncio.CancelledError:
            self._breaker.gave_up()
            raise
        except Exception as error:
            self._leaves()
            self._breaker.failed(error)
            self._tally.failed += 1
            first = self._waiters.first()
            if first is not None and first.order <= last:
                self._waiters.refuse(first, error)
        else:
            self._breaker.succeeded()
            self._tally.made += 1
            member = _Member(box, self._clock.now())
            if self._leaves() and self._waiters:
                self._give(member)
            else:
                member.stood = True
                self._ready.append(member)
        self._settle()

    def _leaves(self) -> bool:
        """The running start is over; False when it was not wanted any more."""
        before = len(self._starting)
        self._starting = [task for task in self._starting if task is not asyncio.current_task()]
        return len(self._starting) < before

    def _start_over(self, task: asyncio.Task[None]) -> None:
        if task in self._starting:
            self._starting.remove(task)
        self._over(task)

    def _discard(self, member: _Member, why: Why) -> None:
        self._tally.discarded[why] += 1
        task = asyncio.get_running_loop().create_task(member.box.close())
        self._ending.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # The kernel has not let go of it; its backend goes on trying.
            self._breaker.last = error if isinstance(error, Exception) else self._breaker.last
        self._settle()

    def _wind(self, now: float) -> None:
        """Sets the one timer to when something is due again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        short = len(self._ready) + len(self._starting) < self._goal + len(self._waiters)
        times = [self._waiters.next_deadline()]
        times += [self._refill_at, self._breaker.next_try] if short else []
        times += [member.since + self.config.max_age_seconds for member in self._ready]
        times += [self._wanted + self.config.idle_seconds] if self._goal > self.config.min else []
        due = min((each for each in times if each > now), default=math.inf)
        if due < math.inf:
            self._timer = asyncio.get_running_loop().call_later(due - now, self.look)

    def _check_open(self) -> None:
        if self._closed:
            raise _closed()

    def _too_late(self) -> PoolExhausted:
        return PoolExhausted(
            f"No sandbox came in {self.config.wait_seconds:g} s: {len(self._waiters)} callers wait, "
            f"{len(self._starting)} sandboxes start."
        )

    def _failing(self) -> PoolExhausted:
        last, left = self._breaker.last, max(0.0, self._breaker.next_try - self._clock.now())
        said = last.message if isinstance(last, RlmError) else f"{type(last).__name__}: {last}"
        return PoolExhausted(
            f"Sandboxes do not start at present, {self._breaker.failures} times in a row. The last time: {said}",
            fix=last.fix if isinstance(last, RlmError) else "",
            retry_after=math.ceil(left),
        )

    @property
    def _state(self) -> PoolState:
        if self._closed:
            return "closed"
        if self._breaker.state != "closed":
            return "failing"
        if not self._goal:
            return "cold"
        return "ready" if self._alive_ready() >= self._goal else "filling"

    def _alive_ready(self) -> int:
        return sum(member.box.is_open for member in self._ready)

    def statistics(self) -> PoolStatistics:
        tally, last, failing = self._tally, self._breaker.last, self._state == "failing"
        return PoolStatistics(
            state=self._state,
            goal=self._goal,
            ready=self._alive_ready(),
            starting=len(self._starting),
            checking=len(self._checking),
            ending=len(self._ending),
            waiting=len(self._waiters),
            made=tally.made,
            failed=tally.failed,
            handed_out=tally.handed_out,
            hits=tally.hits,
            refused=tally.refused,
            discarded=dict(tally.discarded),
            handout_ms=tally.handout_ms(),
            last_error=None if last is None else f"{type(last).__name__}: {last}",
            retry_seconds=max(0.0, self._breaker.next_try - self._clock.now()) if failing else None,
        )

    async def close(self) -> None:
        """Refuses who waits, and ends everything the pool holds; returns when it is gone. Idempotent."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for waiter in self._waiters:
            self._waiters.refuse(waiter, _closed())
        for task in self._starting:
            task.cancel()
        while self._starting or self._ready or self._checking or self._ending:
            for member in (*self._ready, *self._checking):
                self._discard(member, "surplus")
            self._ready.clear()
            self._checking.clear()
            await asyncio.wait({*self._starting, *self._ending})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _closed() -> PoolExhausted:
    return PoolExhausted("The pool is closed: its owner is about to end.", fix="Try again.")
