"""The pool against its invariants, in any order of callers, starts, deaths and times."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pool_kit import FakeBackend, FakeMachine, pool_of, spin

from terraphim_rlm.core.clock import ManualClock
from terraphim_rlm.core.errors import PoolExhausted, SandboxStartFailed
from terraphim_rlm.sandbox.sandbox import Sandbox

WHICH = st.integers(0, 50)


class PoolMachine(RuleBasedStateMachine):
    """Callers come and leave, sandboxes start, fail to, die and fall silent, and time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.backend = FakeBackend(self.clock, slow_ends=True)
        self.callers: list[asyncio.Task[Sandbox]] = []
        """In the order of their coming, those that still wait."""
        self.came: dict[asyncio.Task[Sandbox], float] = {}
        self.taken: list[FakeMachine] = []
        self.refused = self.errors = 0

    @initialize(
        sizes=st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 2)),
        overflow=st.integers(0, 2),
        starts=st.integers(1, 3),
        policy=st.sampled_from(["wait", "create"]),
        refill=st.sampled_from([None, 0.0, 1.0]),
        breaker=st.sampled_from([2, 5]),
    )
    def begin(
        self, sizes: tuple[int, int, int], overflow: int, starts: int, policy: str, refill: Any, breaker: int
    ) -> None:
        least, target, most = sizes[0], sizes[0] + sizes[1], max(1, sum(sizes))
        self.config: dict[str, Any] = {
            "min": least, "target": target, "max": most, "overflow": overflow, "starts": starts, "policy": policy,
            "wait_seconds": 20.0, "idle_seconds": 50.0, "max_age_seconds": 30.0, "refill_seconds": refill,
            "breaker_failures": breaker, "breaker_seconds": 10.0, "backoff_seconds": 1.0, "scale_up_at": 3,
        }  # fmt: skip
        self.pool = pool_of(self.backend, **self.config)

    def turn(self, act: Callable[[], Any] = lambda: None) -> None:
        async def acted() -> None:
            act()
            await spin()

        self.loop.run_until_complete(acted())
        for caller in [each for each in self.callers if each.done()]:
            self.served(caller)

    def served(self, caller: asyncio.Task[Sandbox]) -> None:
        before = self.callers[: self.callers.index(caller)]
        self.callers.remove(caller)
        if caller.cancelled():
            return
        error = caller.exception()
        if error is not None:
            assert isinstance(error, (PoolExhausted, SandboxStartFailed))
            self.refused += isinstance(error, PoolExhausted)
            self.errors += not isinstance(error, PoolExhausted)
            return
        assert all(each.done() or each in self.backend.unlucky for each in before), "somebody was overtaken"
        machine: Any = caller.result().machine
        assert machine not in self.taken, "it was handed out twice"
        assert machine.is_open, "it is dead"
        assert not machine.mute, "it says nothing"
        assert self.clock.now() - machine.born < 30.0, "it is too old"
        self.taken.append(machine)

    @rule(count=st.integers(1, 4))
    def come(self, count: int) -> None:
        self.arrive(count)
        self.turn()

    def arrive(self, count: int) -> None:
        for _ in range(count):
            caller = self.loop.create_task(self.pool.take())
            self.callers.append(caller)
            self.came[caller] = self.clock.now()

    @rule(count=st.integers(1, 2), which=WHICH, rounds=st.integers(0, 6))
    def come_and_leave(self, count: int, which: int, rounds: int) -> None:
        """More come, and a caller is cancelled some steps later."""
        self.arrive(count)
        self.loop.run_until_complete(spin(rounds))
        self.callers[which % len(self.callers)].cancel()
        self.turn()

    @precondition(lambda self: self.backend.starts)
    @rule()
    def all_starts_succeed(self) -> None:
        for _ in self.backend.starts:
            self.backend.finish()
        self.turn()

    @precondition(lambda self: self.backend.starts)
    @rule(which=WHICH, ill=st.sampled_from([False, False, False, True]), leaver=st.none() | WHICH)
    def start_is_over(self, which: int, ill: bool, leaver: int | None) -> None:
        over = self.backend.fail if ill else self.backend.finish
        over(which % len(self.backend.starts))
        if leaver is not None and self.callers:
            self.loop.run_until_complete(spin(leaver % 5))
            self.callers[leaver % len(self.callers)].cancel()
        self.turn()

    @precondition(lambda self: self.standing())
    @rule(which=WHICH, how=st.sampled_from(["die", "mute"]))
    def goes_wrong(self, which: int, how: str) -> None:
        machine = self.standing()[which % len(self.standing())]
        machine.die() if how == "die" else setattr(machine, "mute", True)

    @precondition(lambda self: self.backend.ends)
    @rule()
    def ends_are_over(self) -> None:
        self.backend.end_all()
        self.turn()

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0, 5.0, 12.0, 31.0, 60.0]), looks=st.booleans())
    def time_passes(self, seconds: float, looks: bool) -> None:
        """The timer may be late by as much as it likes, as long as nobody waits for it."""
        self.clock.advance(seconds)
        self.turn(self.pool.look if looks or self.callers else lambda: None)

    @rule(count=st.none() | st.integers(0, 8))
    def warm(self, count: int | None) -> None:
        self.turn(lambda: self.pool.warm(count))

    @rule()
    def drain(self) -> None:
        draining = self.loop.create_task(self.pool.drain())
        self.turn()
        while self.backend.ends:
            self.backend.end_all()
            self.turn()
        assert draining.done()
        if not self.callers:
            assert not self.backend.starts
            assert self.standing() == []

    def standing(self) -> list[FakeMachine]:
        """What the pool has."""
        return [each for each in self.backend.living() if each not in self.taken]

    @invariant()
    def never_more_than_there_may_be(self) -> None:
        if not hasattr(self, "pool"):
            return
        own = self.config
        beyond = own["overflow"] if own["policy"] == "create" else 0
        assert len(self.standing()) + len(self.backend.starts) <= own["max"] + beyond
        assert len(self.backend.starts) <= own["starts"] + beyond

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        if not hasattr(self, "pool") or not self.callers:
            return
        assert all(self.came[each] + 20.0 > self.clock.now() for each in self.callers)
        stands = self.pool.statistics()
        waits_on = self.backend.starts or self.backend.ends or self.pool._breaker.room() == 0
        assert waits_on, stands
        assert stands.ready == 0 or any(each.mute for each in self.standing())

    @invariant()
    def the_statistics_are_true(self) -> None:
        if not hasattr(self, "pool"):
            return
        said = self.pool.statistics()
        good = [each for each in self.standing() if each.is_open]
        assert (said.ready, said.starting) == (len(good), len(self.backend.starts))
        assert said.waiting == len(self.callers)
        assert said.checking == 0
        assert said.ending == len(self.backend.ends)
        assert said.made == len(self.backend.machines)
        assert (said.handed_out, said.refused) == (len(self.taken), self.refused)
        undiscovered = sum(not each.box.is_open for each in self.pool._ready)
        assert said.made == said.handed_out + sum(said.discarded.values()) + said.ready + undiscovered
        assert said.failed >= self.errors
        assert said.hits <= said.handed_out

    def teardown(self) -> None:
        try:
            if hasattr(self, "pool"):
                self.end()
            assert not asyncio.all_tasks(self.loop), "a task outlived the pool"
        finally:
            for task in asyncio.all_tasks(self.loop):  # of an example that failed
                task.cancel()
            if hasattr(self, "pool"):
                self.pool._closed = True
            self.loop.run_until_complete(spin())
            self.loop.close()

    def end(self) -> None:
        for _ in range(100):
            if not self.callers:
                break
            for _ in range(len(self.backend.starts)):
                self.backend.finish()
            self.backend.end_all()
            self.clock.advance(2.0)
            self.turn(self.pool.look)
        assert not self.callers, "somebody was forgotten"
        closing = self.loop.create_task(self.pool.close())
        while not closing.done():
            self.backend.end_all()
            self.turn()
        assert self.standing() == []
        assert not self.backend.starts
        with suppress(PoolExhausted):
            self.loop.run_until_complete(self.pool.take())
            raise AssertionError("a closed pool handed one out")


PoolMachine.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],  # on a loaded machine
)
TestPool = PoolMachine.TestCase
