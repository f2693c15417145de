"""Sandboxes go without a trace, however they end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from backend_kit import EVALUATE, ask, descriptors, groups_of, marked, opened, processes

from terraphim_rlm.core.errors import SandboxLost, SandboxStartFailed
from terraphim_rlm.core.values import Resources
from terraphim_rlm.sandbox.backends.bubblewrap.backend import Bubblewrap
from terraphim_rlm.sandbox.contract import SandboxSpec
from terraphim_rlm.sandbox.keeper import child, orphans
from terraphim_rlm.sandbox.keeper.client import Keeper, Launch

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]


async def test_destroying_returns_when_nothing_is_left_of_a_tree_of_processes() -> None:
    spec = marked()
    async with Bubblewrap() as backend:
        link = await opened(backend, spec)
        await ask(
            link,
            "do pids = [pid for _ in range(12) if (pid := posix.fork()) or __import__('time').sleep(60)]",
        )
        assert len(processes(spec)) == 14  # bubblewrap, pid 1 and its children
        await link.destroy()
        assert processes(spec) == []


async def test_a_hundred_sandboxes_some_killed_while_they_set_up_leave_nothing() -> None:
    spec = marked()
    chance = random.Random(7)
    before = descriptors()
    started = 0
    async with Bubblewrap() as backend:
        await (await opened(backend, spec)).destroy()

        async def one(patience: float | None) -> None:
            nonlocal started
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    link = await backend.boot(spec)
                    started += 1
                    await link.destroy()

        for _ in range(25):
            async with asyncio.TaskGroup() as group:
                for patience in (None, *(chance.uniform(0.0005, 0.03) for _ in range(3))):
                    group.create_task(one(patience))
        statistics = backend.statistics()
        assert started >= 25
    assert statistics.started > started, "none was caught while it set up"
    assert processes(spec) == []
    assert groups_of(os.getpid()) == []
    gc.collect()
    assert descriptors() == before


async def test_leaving_the_backend_ends_what_is_still_running() -> None:
    spec = marked()
    async with Bubblewrap() as backend:
        links = [await opened(backend, spec) for _ in range(3)]
        assert len(processes(spec)) == 6
    assert processes(spec) == []
    assert groups_of(os.getpid()) == []
    for link in links:
        assert (await link.ended()).signal == 9
        await link.destroy()


async def test_a_guest_that_exits_by_itself_is_reported_with_its_code() -> None:
    async with Bubblewrap() as backend:
        link = await opened(backend)
        await asyncio.get_running_loop().sock_sendall(link.socket, b"posix._exit(7)")
        end = await link.ended()
        assert (end.exit_code, end.signal, end.oom) == (7, None, False)
        await link.destroy()


async def test_the_kernels_kill_for_memory_is_told() -> None:
    async with Bubblewrap() as backend:
        link = await opened(backend, SandboxSpec(Resources(memory_mb=48), guest={"start.py": EVALUATE}))
        if link.capabilities.limits["memory"] != "kernel-group":
            await link.destroy()
            pytest.skip("no control group holds this user's memory")
        assert link.oom_kills() == 0
        await asyncio.get_running_loop().sock_sendall(link.socket, b"bytearray(200_000_000)")
        end = await link.ended()
        assert end.oom
        assert link.oom_kills() >= 1
        await link.destroy()


OWNER = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from backend_kit import SandboxSpec, Resources, EVALUATE
from terraphim_rlm.sandbox.backends.bubblewrap.backend import Bubblewrap

async def main():
    backend = Bubblewrap()
    spec = SandboxSpec(Resources(pids=int(sys.argv[2])), guest={"start.py": EVALUATE})
    links = [await backend.boot(spec) for _ in range(2)]
    tasks = [asyncio.create_task(backend.boot(spec)) for _ in range(4)]
    await asyncio.sleep(0.004)
    print(backend.statistics().pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_killing_the_owner_leaves_nothing_after_a_second() -> None:
    spec = marked()
    argv = [sys.executable, "-c", OWNER, str(Path(__file__).parent), str(spec.resources.pids)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        keeper = int(owner.stdout.readline())
        assert len(processes(spec)) >= 4
        watch = os.pidfd_open(keeper)
        owner.kill()
        owner.wait()
    gone = select.select([watch], [], [], 1.0)[0]
    os.close(watch)
    assert gone, "the keeper was still there a second after its owner's death"
    assert processes(spec) == []
    assert groups_of(owner.pid) == []


async def test_losing_the_keeper_ends_its_sandboxes_and_the_next_one_gets_a_new_keeper() -> None:
    spec = marked()
    async with Bubblewrap() as backend:
        link = await opened(backend, spec)
        first = backend.statistics().pid
        assert first is not None
        watches = [os.pidfd_open(pid) for pid in processes(spec)]
        os.kill(first, signal.SIGKILL)
        await link.ended()
        await link.destroy()
        for watch in watches:
            assert select.select([watch], [], [], 5.0)[0], "a sandbox outlived its keeper"
            os.close(watch)
        again = await opened(backend, spec)
        assert backend.statistics().pid != first
        await again.destroy()
    assert groups_of(os.getpid()) == []


async def test_a_new_keeper_removes_the_groups_of_dead_owners() -> None:
    async with Keeper() as keeper:
        modes = await keeper.ready()
    memory = Path("/sys/fs/cgroup/memory")
    if modes.get("memory") != 1 or not os.access(memory, os.W_OK):
        pytest.skip("needs control groups version 1 as root")
    from terraphim_rlm.sandbox.keeper import groups

    home = next(
        each.folder
        for each in groups.hierarchies(
            Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text()
        )
        if "memory" in each.controllers
    )
    namespace = os.stat("/proc/self/ns/pid").st_ino
    with subprocess.Popen(["/bin/true"]) as dead:
        dead.wait()
    stale = Path(home, f"trlm-{namespace}.{dead.pid}.1.{dead.pid}")
    foreign = Path(home, f"trlm-1.{dead.pid}.1.{dead.pid}")
    for folder in (stale, stale / "3", foreign):
        folder.mkdir()
    slow = "import time; held = bytearray(100_000_000); print(flush=True); time.sleep(60)"
    left = subprocess.Popen([sys.executable, "-c", slow], stdout=subprocess.PIPE)
    try:
        assert left.stdout is not None
        left.stdout.readline()
        (stale / "3" / "tasks").write_text(str(left.pid))
        async with Keeper() as keeper:
            await keeper.ready()
        assert not stale.exists(), "what lingered in it for a moment was not waited for"
        assert left.wait() == -signal.SIGKILL
        assert foreign.exists(), "another pid namespace's group is not ours to judge"
    finally:
        left.kill()
        left.communicate()
        foreign.rmdir()


def plain(command: str) -> tuple[Launch, list[int]]:
    """A program that is no bubblewrap and tells nobody about its child."""
    reader, writer = os.pipe()
    return Launch(["/bin/sh", "-c", command], {}, {0: reader, 1: writer, 2: writer}, 4), [reader, writer]


async def test_what_never_tells_its_childs_pid_is_killed_all_the_same() -> None:
    launch, fds = plain("sleep 60")
    async with Keeper() as keeper:
        kept = await keeper.launch(launch)
        for fd in fds:
            os.close(fd)
        assert (await kept.kill()).signal == 9
        assert keeper.statistics().running == 0


async def test_a_child_that_outlives_its_bubblewrap_is_killed_before_the_end_is_told() -> None:
    launch, fds = plain("sleep 61.25 & echo $!; exit 3")
    async with Keeper() as keeper:
        kept = await keeper.launch(launch)
        os.close(fds[1])
        end = await kept.ended()
        with open(fds[0]) as told:
            orphan = int(told.read())
        assert end.exit_code == 3
        assert not Path(f"/proc/{orphan}").exists()


async def test_a_program_that_is_not_there_is_reported_in_the_owners_pipe() -> None:
    reader, writer = os.pipe()
    async with Keeper() as keeper:
        kept = await keeper.launch(Launch(["/no/such"], {}, {0: reader, 1: writer, 2: writer}, 4))
        os.close(writer)
        assert (await kept.ended()).exit_code == 127
    with open(reader) as said:
        assert "keeper: FileNotFoundError" in said.read()


async def test_a_keeper_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "start.py"
    script.write_text("raise SystemExit('no room at the inn')")
    monkeypatch.setattr(child, "_SCRIPT", script)
    async with Keeper() as keeper:
        with pytest.raises(SandboxStartFailed, match="no room at the inn"):
            await keeper.ready()


async def test_asking_a_closed_keeper_is_an_error_that_says_so() -> None:
    keeper = Keeper()
    with pytest.raises(SandboxLost):
        await keeper.request({"op": "kill", "id": 1})
    await keeper.close()


async def test_what_a_dead_keeper_left_is_killed_and_what_a_living_one_has_is_not() -> None:
    """A `bwrap` that waited for its own parent's word when both died waits for ever."""
    left, living = (orphans.name(owner) for owner in (0, os.getpid()))
    children = [
        subprocess.Popen([called, "60"], executable=shutil.which("sleep")) for called in (left, living)
    ]
    try:
        async with Bubblewrap() as backend:
            await (await opened(backend)).destroy()
        ends = [child.poll() for child in children]
        assert ends == [-signal.SIGKILL, None]
    finally:
        for child in children:
            child.kill()
            child.wait()
