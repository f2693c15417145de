"""What a pool promises, one thing at a time, over a backend that does what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from pool_kit import FakeBackend, later, left, pool_of, spin

from terraphim_rlm.core.clock import ManualClock
from terraphim_rlm.core.errors import InvalidArgument, PoolExhausted, SandboxStartFailed
from terraphim_rlm.sandbox.pool.config import PoolConfig
from terraphim_rlm.sandbox.pool.pool import Pool

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def backend(clock: ManualClock) -> FakeBackend:
    return FakeBackend(clock, at_once=True)


@pytest.fixture
async def pool(backend: FakeBackend) -> AsyncIterator[Pool]:
    async with pool_of(backend) as made:
        yield made
    assert [each for each in backend.living() if each.is_open] == []


async def took(pool: Pool) -> Any:
    """What was taken, as the backend's machine; closed again."""
    box = await pool.take()
    machine = box.machine
    await box.close()
    return machine


async def refused(pool: Pool) -> PoolExhausted:
    with pytest.raises(PoolExhausted) as caught:
        await pool.take()
    return caught.value


async def test_nothing_is_made_before_somebody_asks(pool: Pool, backend: FakeBackend) -> None:
    await later(pool, backend.clock, 1000)
    assert backend.machines == []
    assert pool.statistics().state == "cold"


async def test_after_the_first_caller_others_stand_ready_and_are_handed_out_the_oldest_first(
    pool: Pool, backend: FakeBackend
) -> None:
    await took(pool)
    await later(pool, backend.clock, 0.01)
    assert (pool.statistics().state, pool.statistics().ready) == ("ready", 4)
    assert await took(pool) is backend.machines[1]
    assert pool.statistics().hits == 1


async def test_a_sandbox_that_died_or_says_nothing_is_never_handed_out(
    pool: Pool, backend: FakeBackend
) -> None:
    pool.warm()
    await pool.wait_ready()
    backend.machines[0].die()
    backend.machines[1].mute = True
    assert await took(pool) is backend.machines[2]
    assert pool.statistics().discarded == {"dead": 2}
    await later(pool, backend.clock, 0.01)
    assert pool.statistics().ready == 4


async def test_one_that_answers_too_late_for_its_age_is_not_handed_out(
    pool: Pool, backend: FakeBackend
) -> None:
    pool.warm()
    await pool.wait_ready()
    backend.clock.advance(3600)
    machine = await took(pool)
    assert machine not in backend.machines[:4]
    assert pool.statistics().discarded == {"old": 4}


async def test_a_burst_is_served_in_the_order_of_coming_with_no_more_starts_than_there_may_be(
    clock: ManualClock,
) -> None:
    backend = FakeBackend(clock)
    async with pool_of(backend) as pool:
        served: list[int] = []

        async def come(number: int) -> None:
            box = await pool.take()
            served.append(number)
            await box.close()

        callers = [asyncio.create_task(come(number)) for number in range(20)]
        most = 0
        while len(served) < 20:
            await spin()
            most = max(most, len(backend.starts))
            if not backend.starts:
                break
            backend.finish()
        await asyncio.gather(*callers)
        assert served == list(range(20))
        assert most == 4


async def test_a_caller_whose_time_is_over_gets_a_clear_error_and_leaves_nothing(clock: ManualClock) -> None:
    backend = FakeBackend(clock)
    async with pool_of(backend, target=0, min=0) as pool:
        caller = asyncio.create_task(pool.take())
        await spin()
        await later(pool, clock, 60)
        with pytest.raises(PoolExhausted, match="No sandbox came in 60 s: 1 callers wait, 1 sandboxes start"):
            await caller
        await spin()
        assert backend.starts == []
        assert pool.statistics().refused == 1


async def test_whoever_waited_for_a_start_that_fails_gets_its_error_and_the_others_wait_on(
    clock: ManualClock,
) -> None:
    backend = FakeBackend(clock)
    async with pool_of(backend, starts=1) as pool:
        first, second = (asyncio.create_task(pool.take()) for _ in range(2))
        await spin()
        backend.fail(why="There is no room.")
        with pytest.raises(SandboxStartFailed, match="There is no room"):
            await first
        assert backend.starts == []
        await later(pool, clock, 0.1)
        backend.finish()
        await (await second).close()


async def test_whoever_comes_while_a_start_fails_that_began_before_has_a_try_of_his_own(
    clock: ManualClock,
) -> None:
    backend = FakeBackend(clock)
    async with pool_of(backend, min=1, target=1) as pool:
        pool.warm()
        caller = asyncio.create_task(pool.take())
        await spin()
        backend.fail()
        await spin()
        await later(pool, clock, 0.1)
        backend.finish()
        await (await caller).close()


async def test_after_some_failures_in_a_row_the_pool_is_failing_and_then_one_start_tries_again(
    clock: ManualClock,
) -> None:
    backend = FakeBackend(clock)
    async with pool_of(backend) as pool:
        pool.warm()
        while pool.statistics().state != "failing":
            await later(pool, clock, 5)
            while backend.starts:
                backend.fail(why="KVM is gone.")
                await spin()
        assert (pool.statistics().state, pool.statistics().retry_seconds) == ("failing", 30.0)
        error = await refused(pool)
        assert "KVM is gone" in error.message
        assert error.details["retry_after"] == 30
        began = len(backend.began)
        await later(pool, clock, 30)
        assert len(backend.began) == began + 1
        backend.fail()
        await spin()
        await later(pool, clock, 29)
        assert len(backend.began) == began + 1
        await later(pool, clock, 1)
        backend.finish()
        await spin()
        await later(pool, clock, 0.01)
        assert pool.statistics().state == "filling"
        assert len(backend.starts) == 3


async def test_starts_that_fail_come_ever_more_rarely(clock: ManualClock) -> None:
    backend = FakeBackend(clock)
    async with pool_of(backend, min=1, target=1, max=1, breaker_failures=99) as pool:
        pool.warm()
        for _ in range(3000):
            await spin(6)
            if backend.starts:
                backend.fail()
                await spin(6)
            clock.advance(0.01)
            pool.look()
        pauses = [later - before for before, later in zip(backend.began, backend.began[1:], strict=False)]
        assert pauses[:6] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2], abs=0.03)
        assert pauses[6:] == pytest.approx([5.0] * len(pauses[6:]), abs=0.03)


async def test_ready_sandboxes_are_handed_out_also_while_none_start(clock: ManualClock) -> None:
    backend = FakeBackend(clock, at_once=True)
    async with pool_of(backend, breaker_failures=1) as pool:
        pool.warm()
        await pool.wait_ready()
        backend.at_once = False
        await took(pool)
        await later(pool, clock, 0.01)
        backend.fail()
        await spin()
        assert pool.statistics().state == "failing"
        for _ in range(3):
            await took(pool)
        await refused(pool)


async def test_an_idle_pool_shrinks_to_its_target_and_then_to_the_least(
    pool: Pool, backend: FakeBackend
) -> None:
    pool.warm(10)
    await pool.wait_ready()
    for seconds, ready in ((299, 10), (1, 4), (299, 4), (1, 2), (1000, 2)):
        await later(pool, backend.clock, seconds)
        assert pool.statistics().ready == ready
    assert pool.statistics().discarded == {"surplus": 8}
    await took(pool)
    await later(pool, backend.clock, 0.01)
    assert pool.statistics().ready == 4


async def test_draining_ends_all_and_the_next_caller_is_served_all_the_same(
    pool: Pool, backend: FakeBackend
) -> None:
    pool.warm()
    await pool.wait_ready()
    await pool.drain()
    assert backend.living() == []
    assert pool.statistics().state == "cold"
    await took(pool)


async def test_draining_takes_nothing_from_who_waits_and_stops_what_starts_for_nobody(
    clock: ManualClock,
) -> None:
    backend = FakeBackend(clock)
    async with pool_of(backend) as pool:
        pool.warm()
        caller = asyncio.create_task(pool.take())
        await spin()
        assert len(backend.starts) == 4
        await pool.drain()
        assert len(backend.starts) == 1
        backend.finish()
        await (await caller).close()


@pytest.mark.parametrize("rounds", range(8))
async def test_a_caller_cancelled_at_any_moment_leaves_nothing_and_what_it_had_got_is_there_for_the_next(
    backend: FakeBackend, pool: Pool, rounds: int
) -> None:
    pool.warm()
    await pool.wait_ready()
    caller = asyncio.create_task(pool.take())
    await spin(rounds)
    if caller.done():
        await caller.result().close()
    else:
        await left(caller)
        assert pool.statistics().ready == 4
        assert await took(pool) is backend.machines[0]


async def test_closing_refuses_who_waits_and_ends_what_starts(clock: ManualClock) -> None:
    backend = FakeBackend(clock)
    pool = pool_of(backend)
    caller = asyncio.create_task(pool.take())
    await spin()
    await pool.close()
    with pytest.raises(PoolExhausted, match="closed"):
        await caller
    await refused(pool)
    assert backend.starts == []
    assert pool.statistics().state == "closed"


async def test_closing_takes_a_sandbox_from_who_is_about_to_get_it(backend: FakeBackend) -> None:
    pool = pool_of(backend)
    pool.warm()
    await pool.wait_ready()
    caller = asyncio.create_task(pool.take())
    await asyncio.sleep(0)
    assert pool.statistics().checking == 1
    await pool.close()
    with pytest.raises(PoolExhausted, match="closed"):
        await caller
    assert backend.living() == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"min": -1}, {"min": 5}, {"target": 11}, {"max": 0, "target": 0, "min": 0}, {"starts": 0}, {"overflow": -1},
        {"wait_seconds": -1.0}, {"ping_seconds": float("nan")}, {"idle_seconds": float("inf")}, {"scale_up_at": 0},
    ],
)  # fmt: skip
def test_figures_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        PoolConfig(**wrong)


# Each field of the configuration: what is measured, the value that it is changed to, and what comes then.


async def _ready_after(pool: Pool, backend: FakeBackend, seconds: float) -> int:
    await later(pool, backend.clock, seconds)
    return pool.statistics().ready


async def _idle_long(pool: Pool, backend: FakeBackend) -> int:
    pool.warm()
    await pool.wait_ready()
    return await _ready_after(pool, backend, 299.5)


async def _aged(pool: Pool, backend: FakeBackend) -> int:
    pool.warm()
    await pool.wait_ready()
    backend.clock.advance(400)
    return backend.machines.index(await took(pool))


async def _first_caller(pool: Pool, backend: FakeBackend) -> int:
    await took(pool)
    return await _ready_after(pool, backend, 0.01)


async def _all_warm(pool: Pool, backend: FakeBackend) -> int:
    pool.warm(99)
    await pool.wait_ready()
    return pool.statistics().ready


async def _starts_for_twenty(pool: Pool, backend: FakeBackend) -> int:
    backend.at_once = False
    callers = [asyncio.create_task(pool.take()) for _ in range(20)]
    await spin()
    found = len(backend.starts)
    await asyncio.gather(*(left(caller) for caller in callers))
    return found


async def _goal_with_four_waiting(pool: Pool, backend: FakeBackend) -> int:
    backend.at_once = False
    callers = [asyncio.create_task(pool.take()) for _ in range(4)]
    await spin()
    found = pool.statistics().goal
    await asyncio.gather(*(left(caller) for caller in callers))
    return found


async def _refused_at_once(pool: Pool, backend: FakeBackend) -> int:
    backend.at_once = False
    caller = asyncio.create_task(pool.take())
    await spin()
    found = pool.statistics().refused
    await asyncio.gather(caller, return_exceptions=True) if found else await left(caller)
    return found


async def _refused_in_a_minute(pool: Pool, backend: FakeBackend) -> int:
    backend.at_once = False
    caller = asyncio.create_task(pool.take())
    await spin()
    await later(pool, backend.clock, 60)
    found = pool.statistics().refused
    await asyncio.gather(caller, return_exceptions=True) if found else await left(caller)
    return found


async def _pinged_for(pool: Pool, backend: FakeBackend) -> float:
    pool.warm()
    await pool.wait_ready()
    return (await took(pool)).pings[0]


def _tries(failures: int, pause: float) -> Callable[[Pool, FakeBackend], Awaitable[float]]:
    async def counted(pool: Pool, backend: FakeBackend) -> float:
        """How many starts there were in all after so many failed, one after another, with such pauses."""
        backend.at_once = False
        pool.warm(1)
        for time in range(failures):
            await later(pool, backend.clock, pause if time else 0.0)
            if backend.starts:
                backend.fail()
            await spin()
        return len(backend.began)

    return counted


@pytest.mark.parametrize(
    ("measured", "before", "change", "after"),
    [
        (_idle_long, 4, {"idle_seconds": 299.0}, 2),
        (_aged, 0, {"max_age_seconds": 399.0}, 4),
        (_first_caller, 4, {"target": 3}, 3),
        (_first_caller, 4, {"refill_seconds": 1.0}, 0),
        (_first_caller, 4, {"refill_seconds": None}, 0),
        (_all_warm, 10, {"max": 7}, 7),
        (_starts_for_twenty, 4, {"starts": 2}, 2),
        (_starts_for_twenty, 4, {"policy": "create"}, 7),
        (_refused_at_once, 0, {"policy": "fail"}, 1),
        (_refused_in_a_minute, 1, {"wait_seconds": 61.0}, 0),
        (_refused_in_a_minute, 1, {"wait_seconds": None}, 0),
        (_goal_with_four_waiting, 4, {"scale_up_at": 4}, 10),
        (_pinged_for, 1.0, {"ping_seconds": 0.5}, 0.5),
        (_tries(2, 0.1), 2, {"backoff_seconds": 0.2}, 1),
        (_tries(4, 0.2), 3, {"backoff_most_seconds": 0.1}, 4),
        (_tries(9, 5.0), 5, {"breaker_failures": 3}, 4),
        (_tries(9, 5.0), 5, {"breaker_seconds": 5.0}, 9),
    ],
)
async def test_each_figure_has_its_effect(
    backend: FakeBackend, measured: Any, before: float, change: dict[str, Any], after: float
) -> None:
    for options, expected in (({}, before), (change, after)):
        one = FakeBackend(ManualClock(), at_once=True)
        async with pool_of(one, **options) as pool:
            assert await measured(pool, one) == expected, options


async def test_the_least_and_the_overflow_have_their_effects(backend: FakeBackend) -> None:
    async def shrunk(pool: Pool, one: FakeBackend) -> int:
        pool.warm()
        await pool.wait_ready()
        return await _ready_after(pool, one, 300)

    for measured, options, expected in (
        (shrunk, {"idle_seconds": 300.0}, 2),
        (shrunk, {"min": 1}, 1),
        (_starts_for_twenty, {"policy": "create"}, 7),
        (_starts_for_twenty, {"policy": "create", "overflow": 1}, 5),
    ):
        one = FakeBackend(ManualClock(), at_once=True)
        async with pool_of(one, **options) as pool:
            assert await measured(pool, one) == expected, options


def test_no_figure_is_left_out_above() -> None:
    (mark,) = (each for each in test_each_figure_has_its_effect.pytestmark if each.name == "parametrize")
    shown = {name for row in mark.args[1] for name in row[2]}
    assert shown | {"min", "overflow"} == set(PoolConfig.__dataclass_fields__)
