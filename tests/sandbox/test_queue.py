"""Turns at one machine: fair, bounded, and never two at once that must not meet."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from terraphim_rlm import open_sandbox
from terraphim_rlm.core.errors import SandboxBusy
from terraphim_rlm.sandbox.queue import Queue

LANES = st.sampled_from([None, "python", "bash", "sh"])
WIDTHS = {"sh": 3}


@given(asked=st.lists(st.tuples(LANES, st.integers(0, 1), st.integers(0, 3), st.booleans()), max_size=20))
@settings(deadline=None, max_examples=150)
def test_turns_that_must_not_meet_never_do_and_every_turn_comes(
    asked: list[tuple[str | None, int, int, bool]],
) -> None:
    """Each: its lane, its view, how many rounds it works, and whether its caller gives up while it waits."""

    async def all_of_them() -> None:
        queue = Queue(WIDTHS)
        running: list[tuple[str | None, int]] = []
        order: list[tuple[str | None, int, int]] = []

        async def one(number: int, lane: str | None, view: int, rounds: int) -> None:
            async with queue.turn(lane, line=view):
                order.append((lane, view, number))
                running.append((lane, view))
                assert len({each for _, each in running}) == 1, "two views at once"
                assert lane is not None or len(running) == 1, "something beside an exclusive turn"
                assert not any(each is None for each, _ in running) or len(running) == 1
                taken = sum(each == lane for each, _ in running)
                assert taken <= WIDTHS.get(lane or "", 1)
                for _ in range(rounds):
                    await asyncio.sleep(0)
                running.remove((lane, view))

        tasks = []
        for number, (lane, view, rounds, gives_up) in enumerate(asked):
            task = asyncio.ensure_future(one(number, lane, view, rounds))
            tasks.append((task, gives_up))
            await asyncio.sleep(0)
            if gives_up and not any(each[2] == number for each in order):
                task.cancel()
        await asyncio.wait_for(asyncio.gather(*(task for task, _ in tasks), return_exceptions=True), 5)
        for lane, view in {(lane, view) for lane, view, _ in order}:
            numbers = [number for *of, number in order if tuple(of) == (lane, view) and lane not in WIDTHS]
            assert numbers == sorted(numbers), "one overtook another of its lane"
        statistics = queue.statistics()
        assert (statistics.running, statistics.waiting) == (0, 0)
        assert statistics.turns >= len(order)  # one may be granted in the moment it is given up

    asyncio.run(all_of_them())


async def test_who_may_not_wait_is_refused_at_once_and_who_may_is_refused_in_time() -> None:
    queue = Queue()
    async with queue.turn("python"):
        for wait in (0, 0.01):
            with pytest.raises(SandboxBusy, match="1 running"):
                async with queue.turn("python", wait=wait):
                    pytest.fail("it got a turn")
        async with queue.turn("bash", wait=0):
            pass
    async with queue.turn("python", wait=0):
        pass
    assert queue.statistics().refused == 2


async def test_an_exclusive_turn_is_not_starved_by_those_that_come_after_it() -> None:
    queue = Queue({"sh": 32})
    order: list[str] = []

    async def turn(name: str, lane: str | None) -> None:
        async with queue.turn(lane):
            order.append(name)
            await asyncio.sleep(0)

    async with queue.turn("sh"):
        tasks = [asyncio.ensure_future(turn("all", None))]
        await asyncio.sleep(0)
        tasks += [asyncio.ensure_future(turn(f"sh{number}", "sh")) for number in range(3)]
        await asyncio.sleep(0)
        assert order == []
    await asyncio.gather(*tasks)
    assert order[0] == "all"


@pytest.mark.sandbox
async def test_sixteen_tasks_with_fifty_executions_each_run_in_the_order_of_their_calls() -> None:
    async with open_sandbox("bubblewrap") as box:
        await box.run("seen = []")
        asked: list[tuple[int, int]] = []

        async def fifty(task: int) -> None:
            for number in range(50):
                asked.append((task, number))
                result = await box.run(f"seen.append(({task}, {number}))")
                assert result.status == "ok"
                for _ in range((task * 7 + number) % 3):
                    await asyncio.sleep(0)

        await asyncio.gather(*(fifty(task) for task in range(16)))
        assert (await box.run("seen")).stdout == f"{asked}\n"


@pytest.mark.sandbox
async def test_many_tasks_open_and_use_sandboxes_at_once() -> None:
    async def one(number: int) -> str:
        async with open_sandbox("bubblewrap") as box:
            return (await box.run(f"{number} * 2")).stdout

    assert await asyncio.gather(*map(one, range(6))) == [f"{number * 2}\n" for number in range(6)]


async def test_a_turn_ends_well_although_the_next_one_in_line_is_cancelled_in_the_same_step() -> None:
    queue, served = Queue(), []

    async def waits(number: int) -> None:
        async with queue.turn("a"):
            served.append(number)

    async with queue.turn("a"):
        cancelled, other = (asyncio.ensure_future(waits(number)) for number in range(2))
        await asyncio.sleep(0)
        cancelled.cancel()
    await asyncio.wait({cancelled, other}, timeout=5)
    assert cancelled.cancelled()
    assert served == [1]
    assert queue.statistics().running == queue.statistics().waiting == 0
