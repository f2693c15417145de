"""Pools of real sandboxes: starts that fail at each step, sandboxes that die in them, bursts, cancellations, dead owners."""

from __future__ import annotations

import asyncio
import glob
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Coroutine, Generator
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from types import coroutine
from typing import Any

import pytest

from terraphim_rlm.core.errors import PoolExhausted
from terraphim_rlm.core.values import Resources
from terraphim_rlm.sandbox.backends.bubblewrap import backend as bubblewrap
from terraphim_rlm.sandbox.backends.bubblewrap import starting
from terraphim_rlm.sandbox.contract import SandboxSpec
from terraphim_rlm.sandbox.keeper.client import Keeper, Kept
from terraphim_rlm.sandbox.languages.python import Interpreter
from terraphim_rlm.sandbox.link.guest import Guest
from terraphim_rlm.sandbox.pool.config import PoolConfig
from terraphim_rlm.sandbox.pool.pool import Pool
from terraphim_rlm.sandbox.pool.pools import Pools, started
from terraphim_rlm.sandbox.sandbox import Sandbox

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]


class Injected(RuntimeError):
    """A fault of a test's."""


@asynccontextmanager
async def pool_over(backend: Any, **options: Any) -> AsyncIterator[Pool]:
    pools = Pools(PoolConfig(**options))
    try:
        yield pools.of(backend, Resources())
    finally:
        await pools.close()


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


async def works(box: Sandbox) -> None:
    assert (await box.run("import os; print(os.listdir('/work'), 'used' in dir())")).stdout == "[] False\n"
    await box.run("used = True; open('/work/used', 'w').close()")
    await box.close()


def processes(box: Sandbox) -> list[int]:
    """The host's pids of what runs in a sandbox, its pid 1 first."""
    machine: Any = box.machine
    found = [int(machine.guest.link.kept.pid)]
    for pid in found:
        found += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return [pid for pid in found if _inner(pid) is not None]


def _inner(pid: int) -> int | None:
    """How a sandbox numbers a process; None for what is in none."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "NSpid" in line)
    return int(line.split()[-1]) if len(line.split()) > 2 else None


STEPS = [
    (starting, "machine"), (Keeper, "start"), (starting, "ends"), (starting, "sealed"), (Keeper, "ready"),
    (Keeper, "launch"), (Keeper, "request"), (starting, "_greeted"), (Kept, "bound"), (Guest, "start"), (Interpreter, "start"),
    (Guest, "fork"), (Interpreter, "_embodied"),
]  # fmt: skip


@pytest.mark.parametrize(("owner", "name"), STEPS, ids=[name for _, name in STEPS])
async def test_a_start_that_fails_at_any_step_leaves_nothing_and_a_later_one_succeeds(
    owner: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = descriptors()
    async with bubblewrap.Bubblewrap() as backend, pool_over(backend, target=0, min=0) as pool:

        def raises(*_: Any, **__: Any) -> Any:
            raise Injected(name)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, raises)
            with pytest.raises(Injected):
                await pool.take()
        found = pool.statistics()
        assert (found.failed, found.ready, found.starting, found.ending) == (1, 0, 0, 0)
        assert backend.statistics().running == 0
        await works(await pool.take())
        assert backend.statistics().running == 0
    assert descriptors() == before


@coroutine
def cancelled_at(number: int, work: Awaitable[Any], hit: list[int]) -> Generator[Any, Any, Any]:
    """Does the work in this task, which is cancelled at its wait of that number."""
    steps: Any = work.__await__()
    step = partial(steps.send, None)
    for at in count():
        try:
            waits_for = step()
        except StopIteration as end:
            return end.value
        if at == number:
            hit.append(at)
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        try:
            step = partial(steps.send, (yield waits_for))
        except BaseException as error:
            step = partial(steps.throw, error)


@pytest.mark.parametrize("forks", [False, True])
async def test_a_start_that_is_cancelled_at_any_wait_leaves_nothing_and_its_caller_gets_the_next(
    forks: bool,
) -> None:
    async with bubblewrap.Bubblewrap(forks=forks) as backend:
        await (await started(backend, SandboxSpec())).close()
        await backend.zygote()
        before = descriptors()
        for number in range(100):
            hit: list[int] = []
            tries = iter([number])

            async def make(tries: Any = tries, hit: Any = hit) -> Sandbox:
                work = started(backend, SandboxSpec())
                at = next(tries, None)
                return await (work if at is None else cancelled_at(at, work, hit))

            async with Pool(make, PoolConfig(target=0, min=0)) as pool:
                await works(await pool.take())
                assert pool.statistics().made == 1
            assert backend.statistics().running == 0
            assert descriptors() == before
            if not hit:
                break
        assert number >= 3, "it was never cancelled in the middle"


@pytest.mark.parametrize("ahead", [0, 1])
async def test_a_caller_who_is_cancelled_at_any_wait_leaves_nothing(ahead: int) -> None:
    async with bubblewrap.Bubblewrap() as backend:
        await (await started(backend, SandboxSpec())).close()
        await backend.zygote()
        before = descriptors()
        for number in range(100):
            hit: list[int] = []
            async with pool_over(backend, target=0, min=0) as pool:
                pool.warm(ahead)
                await pool.wait_ready()
                taking: Coroutine[Any, Any, Any] = _awaited(cancelled_at(number, pool.take(), hit))
                caller = asyncio.create_task(taking)
                with suppress(asyncio.CancelledError):
                    await works(await caller)
            assert backend.statistics().running == 0
            assert descriptors() == before
            if not hit:
                break
        assert number > 0


async def _awaited(work: Any) -> Any:
    return await work


async def test_a_sandbox_that_died_in_the_pool_or_stands_still_is_never_handed_out() -> None:
    async with bubblewrap.Bubblewrap() as backend, pool_over(backend, ping_seconds=3.0) as pool:
        pool.warm(3)
        await pool.wait_ready()
        dead, still, good = (member.box for member in pool._ready)
        os.kill(processes(dead)[0], signal.SIGKILL)
        _pid_1, *interpreters = processes(still)
        for pid in interpreters:
            os.kill(pid, signal.SIGSTOP)
        assert interpreters, "there is none to stop"
        box = await pool.take()
        assert box is good
        await works(box)
        assert pool.statistics().discarded == {"dead": 2}
        await pool.drain()
        assert backend.statistics().running == 0


async def test_a_burst_of_five_times_the_pool_gives_each_caller_one_that_nobody_has_used() -> None:
    starting = most = 0

    async with bubblewrap.Bubblewrap() as backend:

        async def make() -> Sandbox:
            nonlocal starting, most
            starting += 1
            most = max(most, starting)
            try:
                return await started(backend, SandboxSpec())
            finally:
                starting -= 1

        async with Pool(make, PoolConfig(min=1, target=2, max=4, starts=3)) as pool:
            pool.warm()
            await pool.wait_ready()

            async def caller() -> None:
                await works(await pool.take())

            await asyncio.gather(*(caller() for _ in range(20)))
            found = pool.statistics()
            assert (found.handed_out, found.refused, found.failed) == (20, 0, 0)
            assert most == 3
        assert backend.statistics().running == 0


async def test_a_caller_past_his_deadline_is_refused_while_sandboxes_still_start_and_nothing_is_left() -> (
    None
):
    go = asyncio.Event()
    async with bubblewrap.Bubblewrap() as backend:

        async def make() -> Sandbox:
            box = await started(backend, SandboxSpec())
            try:
                await go.wait()
            except BaseException:
                await box.close()
                raise
            return box

        async with Pool(make, PoolConfig(min=0, target=0, wait_seconds=0.2)) as pool:
            refused = await asyncio.gather(*(pool.take() for _ in range(6)), return_exceptions=True)
            assert {type(each) for each in refused} == {PoolExhausted}
            assert "No sandbox came in 0.2 s" in str(refused[0])
            await pool.drain()
            assert backend.statistics().running == 0


OWNER = """
import asyncio, os, sys
from terraphim_rlm.core.values import Resources
from terraphim_rlm.sandbox.backends.bubblewrap.backend import Bubblewrap
from terraphim_rlm.sandbox.pool.pools import Pools
async def main():
    async with Bubblewrap() as backend:
        pool = Pools().of(backend, Resources())
        pool.warm(int(sys.argv[1]))
        if sys.argv[2] == "ready":
            await pool.wait_ready()
        else:
            await asyncio.sleep(0.02)
        pids = [member.box.machine.guest.link.kept.pid for member in pool._ready]
        print(backend.statistics().pid, *pids, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.parametrize("moment", ["ready", "starting"])
def test_a_pool_whose_owner_is_killed_leaves_no_process_and_no_control_group(moment: str) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, "4", moment], stdout=subprocess.PIPE)
    assert owner.stdout is not None
    pids = [int(word) for word in owner.stdout.readline().split()]
    assert len(pids) == 5 or moment == "starting"
    watched = [os.pidfd_open(pid) for pid in pids]
    owner.kill()
    owner.wait(10)
    owner.stdout.close()
    for fd in watched:
        assert select.select([fd], [], [], 20)[0], "a process of the pool outlived its owner"
        os.close(fd)
    assert named_after(owner.pid) == []


def named_after(owner: int) -> list[str]:
    """Processes and control groups that carry a dead owner's name; see `keeper/orphans.py`."""
    found = glob.glob(f"/sys/fs/cgroup/**/trlm-*.{owner}.*", recursive=True)
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        with suppress(OSError):
            called = Path(path).read_bytes().partition(b"\0")[0].decode("ascii", "replace")
            if called.startswith("trlm-") and called.split(".")[1:2] == [str(owner)]:
                found.append(path)
    return found
