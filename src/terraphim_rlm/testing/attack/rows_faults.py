"""Group K, faults: what fails, runs out or dies under a sandbox, and what is left of it then."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from typing import Any

from terraphim_rlm.core import process
from terraphim_rlm.core.errors import BackendUnavailable, InternalError, RlmError
from terraphim_rlm.core.values import Resources
from terraphim_rlm.sandbox.backends.bubblewrap import host, starting
from terraphim_rlm.sandbox.contract import SandboxSpec
from terraphim_rlm.sandbox.sandbox import Sandbox
from terraphim_rlm.sandbox.selection import choose
from terraphim_rlm.testing.attack import narrow
from terraphim_rlm.testing.attack.conditions import descendants
from terraphim_rlm.testing.attack.model import SMALL, Row, Step
from terraphim_rlm.testing.attack.service import alive, below
from terraphim_rlm.testing.attack.stage import Stage
from terraphim_rlm.testing.attack.weak import attribute

_OWNER = "terraphim_rlm.testing.attack.owner"
_MAIN = "from terraphim_rlm.faces.cli import main; main()"
_KILLS, _FORKED = 16, 4
"""Owners that are killed; of these so many when their sandboxes are forked already."""
_END_SECONDS = 10.0

_GUESTS = (
    b"raise SystemExit(1)", b"import posix\nposix._exit(0)", b"this is no Python", b"import posix\nposix.kill(1, 9)\nposix.abort()",
    b"import posix, sys\nposix.write(int(sys.argv[1]), b'x' * 17)\nposix._exit(0)", b"import posix, sys\nposix.write(int(sys.argv[1]), b'x')\nposix._exit(3)",
    b"x = bytearray(1 << 40)", b"import _signal\n_signal.pause()",
)  # fmt: skip


async def fails_to_start(stage: Stage) -> None:
    """K09: a start that fails at each of its steps frees all that it had, and says so."""
    hidden = stage.lab.root / "tmp" / "hidden"
    hidden.mkdir(mode=0o700)
    specs: list[dict[str, Any]] = [{"guest": {"start.py": guest}} for guest in _GUESTS]
    specs += [{"binds": {path: "/input"}} for path in ("/none", str(hidden / "none"), "relative")]
    specs += [{"binds": {str(hidden): place}} for place in ("/", "input", "/proc/1", "/usr/../etc")]
    specs += [
        {"resources": Resources(memory_mb=1)},
        {"resources": Resources(pids=1)},
        {"resources": Resources(disk_mb=1_000_000)},
    ]
    with attribute(starting, "_START_SECONDS", 2.0):
        for spec in specs:
            with stage.refusing():
                async with stage.box(**spec) as box:
                    await box.run("print(1)", timeout=3)
    hidden.rmdir()
    async with stage.box() as box:
        stage.expect((await box.run("print(42)")).stdout == "42\n", "the next sandbox does not work")


async def has_no_room(stage: Stage) -> None:
    """K10: with few descriptors, whatever is asked works or is refused, and leaks nothing; with little memory, a start."""
    for wrong in await narrow.tried(stage.box):
        stage.expect(False, wrong)
    for memory in (2, 8, 14, 20, 26, 32):
        with stage.refusing():
            async with stage.box(resources=Resources(memory_mb=memory, pids=16, disk_mb=8)) as box:
                await box.run("print(1)", timeout=5)


async def has_no_backend(stage: Stage) -> None:
    """K11: no program, no namespaces, no keeper: nothing runs, and nothing weaker is taken in its place."""
    for name in (
        "none",
        "local",
        "docker",
        "docker+runc",
        "firecracker",
        "e2b",
        "",
        "bubblewrap ",
        "../bubblewrap",
    ):
        with contextlib.suppress(RlmError):
            other = await choose(name)
            stage.harm(f"there is a backend {name!r}: {other.name}")
    with attribute(host, "bwraps", lambda _uid: []):
        for name in ("auto", "bubblewrap"):
            try:
                async with await choose(name) as other, Sandbox(other, SandboxSpec(SMALL)) as box:
                    stage.harm(f"without bubblewrap it ran: {(await box.run('print(42)')).stdout}")
            except BackendUnavailable as error:
                stage.expect(bool(error.fix), "the error names no fix")
    code = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'
    words = [sys.executable, "-P", "-c", _MAIN, "exec", "-c", "print('ran' * 2)", "--json"]
    modules = os.pathsep.join(filter(None, sys.path))
    env = {**process.MINIMAL_ENV, "TRLM_DATA": str(stage.lab.root / "none"), "PYTHONPATH": modules}
    argv = ["unshare", "--user", "--map-root-user", "--", "sh", "-c", code, "sh", *words]
    done = await asyncio.to_thread(process.run, words, timeout=60, env=env)
    stage.expect(b"ranran" in done.stdout, "with user namespaces it did not run, so nothing is shown without")
    done = await asyncio.to_thread(process.run, argv, timeout=60, env=env)
    if b"ranran" in done.stdout:
        stage.harm("without user namespaces it ran")
    stage.expect(done.returncode != 0 and b"Traceback" not in done.stderr, f"it said {done.stderr[-200:]!r}")
    before = descendants()
    await _without_keeper(stage)
    await asyncio.to_thread(alive, descendants() - before, 5.0)
    _reaped(descendants() - before)


async def _without_keeper(stage: Stage) -> None:
    async with await choose(stage.backend.name) as own:
        box = Sandbox(own, SandboxSpec(SMALL))
        await box.start()
        work = asyncio.ensure_future(
            box.run("import time\nprint('begun', flush=True)\ntime.sleep(60)", timeout=70)
        )
        await asyncio.sleep(0.3)
        os.kill(own.statistics().pid, signal.SIGKILL)  # type: ignore[attr-defined]
        try:
            result = await asyncio.wait_for(work, 20)
            stage.expect(result.status != "ok", "what was killed is told as ok")
        except InternalError:
            raise
        except RlmError:
            pass  # the sandbox is lost
        stage.expect(not box.is_open, "a sandbox whose keeper was killed counts as open")
        await box.close()
        async with Sandbox(own, SandboxSpec(SMALL)) as again:
            stage.expect((await again.run("print(42)")).stdout == "42\n", "no sandbox after the keeper's end")


async def reuses_its_pid(stage: Stage) -> None:
    """K20: an innocent process has got the id of what is killed once more."""
    async with await choose(stage.backend.name) as own:
        for _ in range(3):
            box = Sandbox(own, SandboxSpec(SMALL))
            await box.start()
            kept = box.machine.guest.link.kept  # type: ignore[attr-defined]
            pids = {kept.pid, *below(kept.pid)}
            await box.close()
            innocents = [innocent for pid in sorted(pids) if (innocent := _with_pid(pid)) is not None]
            stage.expect(bool(innocents), "no process could be given an id that was used")
            await kept.kill()
            await box.close()
            for innocent in innocents:
                stage.expect(innocent.poll() is None, f"an innocent process of id {innocent.pid} was ended")
                innocent.kill()
                innocent.wait()


def _with_pid(wanted: int) -> subprocess.Popen[bytes] | None:
    """A process of that id; None when the kernel has given it to another."""
    for _ in range(20):
        with open("/proc/sys/kernel/ns_last_pid", "w", encoding="ascii") as file:
            file.write(str(wanted - 1))
        child = process.start(["sleep", "60"])
        if child.pid == wanted:
            return child
        child.kill()
        child.wait()
    return None


async def is_killed_while_it_starts(stage: Stage) -> None:
    """K30: the owner is killed at moments of its own, while it starts sandboxes: by bubblewrap, then from a zygote.

    We are pid 1: what is left is ours.
    """
    before = descendants()
    off = list(stage.off)
    zygote = getattr(stage.backend, "zygote", None)
    forks = not off and zygote is not None and await zygote() == ""
    env = {**process.MINIMAL_ENV, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    for number in range(_KILLS if not off else 2):
        argv = [sys.executable, "-P", "-m", _OWNER, str(stage.lab.root), *off]
        child = process.start(argv, env=env, stdout=subprocess.PIPE)
        assert child.stdout is not None
        for _ in range(2 if off else stage.random.choice((1, 1, 1, 2, 3))):
            await asyncio.to_thread(child.stdout.readline)
        while forks and number >= _KILLS - _FORKED:
            if await asyncio.to_thread(child.stdout.readline) in (b"zygote\n", b""):
                break
        await asyncio.sleep(0.0 if off else stage.random.uniform(0.0, 0.5))
        child.kill()
        child.wait()
        child.stdout.close()
    deadline = time.monotonic() + _END_SECONDS
    while (left := _reaped(descendants() - before)) and time.monotonic() < deadline:
        await asyncio.to_thread(alive, left, 0.5)
    if left:
        stage.harm(f"{len(left)} processes are left of owners that were killed while they started sandboxes")
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(alive, left, 5.0)
        _reaped(left)


def _reaped(pids: set[int]) -> set[int]:
    """Those that live; what has ended and became our child is reaped."""
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return {pid for pid in pids if os.path.exists(f"/proc/{pid}")}


_LEAVE = """
import subprocess
for command in (["setsid", "sleep", "300"], ["sh", "-c", "setsid sh -c 'sleep 300 & sleep 300' & sleep 300"], ["setsid", "setsid", "sh", "-c", "sleep 300"]):
    subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
for _ in range(5):
    if os.fork() == 0:
        os.setsid()
        if os.fork(): os._exit(0)
        os.setpgid(0, 0)
        time.sleep(300); os._exit(0)
while True:
    try: time.sleep(60)
    except BaseException: pass
"""
_WHO_IS_LEFT = """
names = [n for n in os.listdir("/proc") if n.isdigit() and n != "1" and int(n) != os.getpid()]
found = [n for n in names if b"State:\\tZ" not in read(f"/proc/{n}/status") and b"sleep" in read(f"/proc/{n}/cmdline")]
if found: harm("left after its cell was killed:", found)
print("left", len(found))
"""


ROWS = (
    Row("K09", "P1", "fails at each step of its start", act=fails_to_start, most=120.0),
    Row("K10", "P1", "starts where descriptors, memory or processes have run out", act=has_no_room, most=120.0),
    Row(
        "K11", "P0", "asks for a sandbox where none can be", act=has_no_backend, needs=("bottle", "keeper"), most=120.0,
        no_control="the product has no weaker way to run code, to which it could fall",
    ),
    Row("K20", "P1", "leaves its process id to another before it is killed", act=reuses_its_pid, needs=("bottle", "root")),
    Row(
        "K21", "P1", "leaves its process group and session before it is ended",
        (Step(_LEAVE, expect=("timeout",), timeout=1.0), Step(_WHO_IS_LEFT)),
        check=lambda seen: "" if "left 0" in seen[-1].stdout else "processes outlived the cell that they came from",
    ),
    Row(
        "K30", "P0", "is killed at each moment of its start", act=is_killed_while_it_starts, needs=("bottle",), most=120.0,
        off=("keeper-ends-with-owner", "guest-ends-with-host"),
    ),
)  # fmt: skip
