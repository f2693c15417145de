"""Where no control group holds the memory of a sandbox, the keeper watches it, and ends what is too much."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

import pytest

from terraphim_rlm.core.values import Resources
from terraphim_rlm.sandbox.backends.bubblewrap import starting
from terraphim_rlm.sandbox.backends.bubblewrap.backend import Bubblewrap
from terraphim_rlm.sandbox.contract import SandboxSpec
from terraphim_rlm.sandbox.keeper import watch
from terraphim_rlm.sandbox.sandbox import Sandbox

pytestmark = pytest.mark.anyio
MB = 1 << 20
FORKS = """
import os, signal, sys, threading
held, forks, own = (int(each) for each in sys.argv[1:4])
data = bytearray(held)
data[::4096] = b"x" * len(data[::4096])
told, tell = os.pipe()
def fork():
    if os.fork() == 0:
        more = bytearray(own)
        more[::4096] = b"x" * len(more[::4096])
        os.write(tell, b".")
        signal.pause()
def several():
    for _ in range(forks):
        fork()
thread = threading.Thread(target=several)
thread.start()
thread.join()
for _ in range(forks):
    os.read(told, 1)
print("ready", flush=True)
signal.pause()
"""


@dataclass
class Box:
    """A sandbox, as far as the watch looks at it."""

    inner_pid: int
    memory: int
    number: int = 1
    doomed: bool = False
    look_at: float = 0.0
    oom: int = 0


@contextmanager
def tree(held: int, forks: int, own: int) -> Iterator[int]:
    """A process with `held` bytes and so many forks of it, each with `own` bytes more; they are made by a thread."""
    argv = [sys.executable, "-I", "-S", "-c", FORKS, str(held), str(forks), str(own)]
    with ExitStack() as stack:
        top = stack.enter_context(subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True))
        stack.callback(os.killpg, top.pid, signal.SIGKILL)
        assert top.stdout is not None
        assert top.stdout.readline() == b"ready\n"
        yield top.pid


def settled(pid: int, most: int) -> int:
    """What a tree holds, once those that were killed have let go of it; a killed process takes its time."""
    late = monotonic() + 20
    while (held := sum(map(watch._size, watch._tree(pid)))) > most and monotonic() < late:
        continue
    return held


def test_what_processes_share_counts_once() -> None:
    with tree(60 * MB, 4, MB) as pid:
        box = Box(pid, 90 * MB)
        told: list[Any] = []
        assert sum(map(watch._resident, watch._tree(pid))) > 300 * MB
        assert watch.Watch(lambda *said: told.append(said)).look([box]) == []
        assert (told, box.oom, len(watch._tree(pid))) == ([], 0, 5)


def test_the_largest_are_ended_until_the_rest_fits_and_it_is_told_before() -> None:
    with tree(MB, 5, 40 * MB) as pid:
        living: list[int] = []
        box = Box(pid, 100 * MB)
        before = watch._tree(pid)
        assert watch.Watch(lambda *_: living.extend(watch._tree(pid))).look([box]) == []
        assert living == before
        assert box.oom == 1
        assert 40 * MB < settled(pid, 116 * MB) <= 116 * MB


def test_a_sandbox_of_which_only_its_first_process_is_left_is_ended_as_a_whole() -> None:
    with tree(60 * MB, 0, 0) as pid:
        box = Box(pid, 30 * MB)
        assert watch.Watch(lambda *_: None).look([box]) == [box.number]
        assert watch._tree(pid) == [pid]
        assert watch._resident(pid) > 60 * MB


def test_a_process_that_is_not_of_the_sandbox_is_never_ended() -> None:
    with tree(MB, 0, 0) as one, tree(MB, 1, MB) as other:
        (stranger,) = set(watch._tree(other)) - {other}
        assert not watch._killed(stranger, one)
        assert not watch._killed(os.getpid(), one)
        assert watch._killed(stranger, other)


def test_the_next_look_is_due_before_what_is_left_can_be_used_up() -> None:
    looks = watch.Watch(lambda *_: None)
    with tree(60 * MB, 0, 0) as pid:
        small, large, doomed = Box(pid, 90 * MB), Box(pid, 64 << 30), Box(pid, 1, doomed=True)
        looks.look([small, large, doomed])
        assert small.look_at < large.look_at
        assert doomed.look_at == 0
        assert looks.wait([small], 60_000) <= looks.wait([large], 60_000) <= 500
        assert looks.wait([doomed, Box(pid, 0)], 60_000) == 60_000


Holding = Callable[[Resources, Mapping[str, int]], starting.Held]


@pytest.fixture
def ungrouped(monkeypatch: pytest.MonkeyPatch) -> Holding:
    """Sandboxes as those of an ordinary user: no group holds their memory."""
    held = starting.held

    def without_group(resources: Resources, _modes: Mapping[str, int]) -> starting.Held:
        made = held(resources, {})
        return made._replace(group={name: each for name, each in made.group.items() if name != "memory"})

    monkeypatch.setattr(starting, "held", without_group)
    return without_group


@pytest.mark.sandbox
@pytest.mark.usefixtures("ungrouped")
@pytest.mark.parametrize("forked", [False, True])
async def test_processes_that_together_take_too_much_are_ended_and_the_sandbox_goes_on(forked: bool) -> None:
    code = (
        "import os, signal\nkept = 7\npids = []\nfor _ in range(12):\n    pids.append(os.fork())\n"
        "    if pids[-1] == 0:\n        x = bytearray(60_000_000)\n        x[::4096] = b'x' * len(x[::4096])\n        signal.pause()\n"
        "_ = os.waitpid(-1, 0)\nprint('one has ended')\nfor pid in pids:\n    try: os.kill(pid, 9)\n    except OSError: pass"
    )
    async with Bubblewrap() as backend:
        if forked:
            await (await backend.boot(SandboxSpec())).destroy()
            if lacking := await backend.zygote():
                pytest.skip(f"no zygote here: {lacking}")
        async with Sandbox(backend, SandboxSpec(Resources(memory_mb=128))) as box:
            await _outgrows(box, code)


async def _outgrows(box: Sandbox, code: str) -> None:
    assert box.capabilities.limits["memory"] == "watched"
    result = await box.run(code, timeout=60)
    assert (result.status, result.stdout) == ("ok", "one has ended\n")
    assert any("together held more than its memory" in note for note in result.notes)
    assert (await box.run("kept")).stdout == "7\n"
    shared = "import mmap\nx = mmap.mmap(-1, 400_000_000)\nfor at in range(0, len(x), 4096): x[at] = 1\nwhile True: pass"
    result = await box.run(shared, timeout=60)
    assert (result.status, result.state_after) == ("oom", "lost")
    assert (await box.run("1 + 1")).stdout == "2\n"


@pytest.mark.sandbox
async def test_the_probe_says_per_process_when_nobody_watches(
    ungrouped: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "held", lambda *given: ungrouped(*given)._replace(watch=0))
    async with Bubblewrap() as backend:
        assert (await backend.probe()).limits["memory"] == "per-process"


@pytest.mark.sandbox
@pytest.mark.usefixtures("ungrouped")
async def test_the_probe_runs_into_the_watch() -> None:
    async with Bubblewrap() as backend:
        found = await backend.probe()
    assert found.limits["memory"] == "watched"
    assert any(
        phrase.startswith("memory: held by the kernel for each process") for phrase in found.not_enforced
    )
