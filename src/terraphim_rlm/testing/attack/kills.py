"""Launches killed at each moment of their set-up (K30): the caller's task, bubblewrap, the keeper, the owner.

Those are made by bubblewrap, each with all its steps; a zygote would be found as something that they left.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import random
import secrets
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self, get_args

from terraphim_rlm.core import process
from terraphim_rlm.core.errors import RlmError
from terraphim_rlm.core.values import Resources
from terraphim_rlm.sandbox.backends.bubblewrap.backend import Bubblewrap
from terraphim_rlm.sandbox.contract import SandboxSpec
from terraphim_rlm.sandbox.keeper import child, orphans
from terraphim_rlm.sandbox.keeper.client import Kept
from terraphim_rlm.testing.attack import conditions
from terraphim_rlm.testing.attack.lab import Lab

Whom = Literal["task", "bubblewrap", "child", "keeper", "owner", "both"]
"""Who is killed: `child` is what becomes bubblewrap, before it does; `both` are owner and keeper."""

WHOM: tuple[Whom, ...] = get_args(Whom)
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
_LEFT_SECONDS = 10.0
"""What a killed launch leaves may take so long to end."""
_STEPS: Mapping[str, int] = {"task": 500, "keeper": 150, "child": 45, "owner": 500, "both": 500}
"""About how many calls a set-up takes of each."""
_SCRIPT = """
import os, sys
sys.path.insert(0, {folder!r})
from keeper import process, spawn
whom, last, own = {whom!r}, {last}, os.getpid()
calls = 0
def count(_frame, event, _what):
    global calls
    if event == "c_call" and (os.getpid() == own) == (whom == "keeper"):
        calls += 1
        if calls > last:
            sys.setprofile(None)
            os.kill(os.getpid(), 9)
def spawned(keeper, request, fds, real=process.Keeper._spawn):
    sys.setprofile(count)
    real(keeper, request, fds)
process.Keeper._spawn = spawned
if __name__ == "__main__":
    process.main(int(sys.argv[1]))
"""


@contextmanager
def adopting() -> Iterator[None]:
    """Whoever of ours loses his parent becomes this process's child for the block, and so can be found."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    try:
        yield
    finally:
        libc.prctl(_SUBREAPER, 0, 0, 0, 0)


@contextmanager
def dying(whom: Whom, last: int) -> Iterator[None]:
    """The next keeper, or the process that is to become its bubblewrap, kills itself after `last` calls of a launch."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "start.py")
        script.write_text(_SCRIPT.format(folder=str(child._SCRIPT.parents[1]), whom=whom, last=last))
        real, child._SCRIPT = child._SCRIPT, script
        try:
            yield
        finally:
            child._SCRIPT = real


class Launches:
    """Launches, each killed at some moment of its set-up. An async context manager.

    Args:
        seed: the same one makes the same moments, as far as they are counted in calls and not in seconds.
    """

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311 -- reproducible, not secret
        self._mark = 1_000_000 + secrets.randbelow(3_000_000)
        self._spec = SandboxSpec(Resources(pids=self._mark))
        self._stack = AsyncExitStack()
        self._owners = {str(os.getpid())}
        self.caught: Counter[Whom] = Counter()
        """Those that were still being set up when they were killed."""

    async def __aenter__(self) -> Self:
        self._stack.enter_context(adopting())
        self._backend = await self._stack.enter_async_context(Bubblewrap(forks=False))
        await self._launch(self._backend)
        launch, _kept = await self._begin()
        began = time.monotonic()
        await (await launch).destroy()
        self._seconds = time.monotonic() - began
        """What is left of a set-up, and its end, once bubblewrap runs."""
        self._descriptors = _descriptors()
        self.known = set(orphans.children())
        """Those that are no leftovers."""
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._stack.aclose()

    async def _launch(self, backend: Bubblewrap) -> None:
        await (await backend.boot(self._spec)).destroy()

    async def modes(self) -> Mapping[str, int]:
        """Controller -> version of the hierarchy in which sandboxes are limited here."""
        return await self._backend._keeper.ready()

    async def kill(self, whom: Whom, share: float) -> str:
        """Kills one launch at `share` (0 to 1) of its set-up, about; what that left, if anything."""
        steps = int(_STEPS.get(whom, 0) * share)
        if whom == "task":
            await self._kill_task(steps)
        elif whom == "bubblewrap":
            await self._kill_bubblewrap(self._seconds * share * self.chance.uniform(0.8, 1.2))
        elif whom in ("child", "keeper"):
            await self._kill_inside(whom, steps)
        else:
            await self._kill_owner(whom, steps)
        if whom in ("keeper", "both"):  # whoever comes next removes what a dead keeper could not
            async with Bubblewrap(forks=False) as backend:
                await self._launch(backend)
        return await self._left()

    async def _kill_task(self, steps: int) -> None:
        loop = asyncio.get_running_loop()
        launch = asyncio.ensure_future(self._backend.boot(self._spec))
        with after_calls(steps, lambda: loop.call_soon(launch.cancel)):
            await asyncio.wait({launch})
        self.caught["task"] += launch.cancelled()
        if not launch.cancelled():
            await launch.result().destroy()

    async def _begin(self) -> tuple[asyncio.Future[Any], Kept]:
        """A launch of which bubblewrap runs by now."""
        launched = self._backend._keeper._kept
        before = set(launched)
        launch = asyncio.ensure_future(self._backend.boot(self._spec))
        while not (new := set(launched) - before):
            await asyncio.wait({launch}, timeout=0.001)
        kept = launched[new.pop()]
        await kept.started
        return launch, kept

    async def _kill_bubblewrap(self, seconds: float) -> None:
        launch, kept = await self._begin()
        await asyncio.wait({launch}, timeout=seconds)
        self.caught["bubblewrap"] += not launch.done()
        os.kill(kept.pid, signal.SIGKILL)
        with contextlib.suppress(RlmError):
            await (await launch).destroy()

    async def _kill_inside(self, whom: Whom, steps: int) -> None:
        with dying(whom, steps):
            async with Bubblewrap(forks=False) as backend:
                try:
                    await self._launch(backend)
                except RlmError:
                    self.caught[whom] += 1

    async def _kill_owner(self, whom: Whom, steps: int) -> None:
        argv = [sys.executable, "-m", __spec__.name, whom, str(self._mark), str(steps)]
        owner = process.start(argv, env=dict(os.environ))
        self._owners.add(str(owner.pid))
        self.caught[whom] += await asyncio.to_thread(owner.wait) == -signal.SIGKILL

    async def _left(self) -> str:
        deadline = time.monotonic() + _LEFT_SECONDS
        while True:
            left = [*self._processes(), *self._groups()]
            if (now := _descriptors()) != self._descriptors:
                left.append(f"{now - self._descriptors:+d} descriptors")
            if not left or time.monotonic() > deadline:
                return ", ".join(left)
            await asyncio.sleep(0.02)

    def _processes(self) -> Iterator[str]:
        for pid in set(orphans.children()) - self.known:
            if os.waitpid(pid, os.WNOHANG)[0] != pid:
                yield f"process {pid} ({_command(pid)[:200]})"
        mark = f"NPROC={self._mark} "
        yield from (f"process {pid} of a sandbox" for pid in _pids() if mark in _command(pid))

    def _groups(self) -> Iterator[str]:
        for folder, names, _files in os.walk("/sys/fs/cgroup"):
            for name in names:
                if not name.startswith("trlm-") or not self._owners & set(name.split(".")):
                    continue
                if orphans.is_left_behind(name):
                    yield f"group {folder}/{name}"
                else:
                    yield from (f"group {name}/{inner}" for inner in _folders(f"{folder}/{name}"))


def _folders(folder: str) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


async def killed(count: int, seed: int) -> dict[str, Any]:
    """Kills `count` launches, of everyone in `WHOM` as many, evenly over their set-up.

    Returns:
        `launches`; `caught`, whom -> how many were still being set up; `left`, what each of them left, when it did.
    """
    left: list[str] = []
    with Lab() as lab:
        before = conditions.baseline(lab)
        async with Launches(seed) as launches:
            await launches.kill("owner", 2.0)  # to its end
            before = replace(before, files=conditions.baseline(lab).files)  # what the first launch keeps
            for number in range(count):
                whom = WHOM[number % len(WHOM)]
                share = (number - number % len(WHOM) + launches.chance.random() * len(WHOM)) / count
                if found := await launches.kill(whom, share):
                    left.append(f"{whom} killed at {share:.0%}: {found}")
        left += await conditions.breaches(before, lab, [], "none")
    return {"launches": count, "caught": dict(launches.caught), "left": left}


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextmanager
def after_calls(last: int, act: Callable[[], object]) -> Iterator[None]:
    """For the block, lets this thread do `last` calls of functions that are not Python, then acts, once."""
    left = last

    def count(_frame: object, event: str, _what: object) -> None:
        nonlocal left
        if event == "c_call":
            left -= 1
            if left == 0:
                act()

    sys.setprofile(count)
    try:
        yield
    finally:
        sys.setprofile(None)


async def _die(whom: str, mark: int, steps: int) -> None:
    """The owner: kills itself, and its keeper with it for `both`, after so many calls of its second launch."""
    spec = SandboxSpec(Resources(pids=mark))

    def kill() -> None:
        if whom == "both":
            os.kill(backend.statistics().pid or 0, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    async with Bubblewrap(forks=False) as backend:
        await (await backend.boot(spec)).destroy()
        with after_calls(steps, kill):
            await (await backend.boot(spec)).destroy()


if __name__ == "__main__":
    asyncio.run(_die(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
