"""What happens to states, and to everybody else, when a part of what keeps them is killed, stopped or lied to."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from terraphim_rlm import Sandbox, open_sandbox
from terraphim_rlm.core.errors import SandboxLost, SnapshotLost

pytestmark = [pytest.mark.sandbox, pytest.mark.anyio, pytest.mark.timeout(60)]
_EXITING = 4  # PF_EXITING
_RECEIVES, _SENDS = "45 ", "44 "  # system calls of a socket, as `/proc/PID/syscall` shows them


@pytest.fixture
async def box() -> AsyncIterator[Sandbox]:
    async with open_sandbox("bubblewrap") as sandbox:
        yield sandbox


async def _said(box: Sandbox, code: str, language: str = "python") -> str:
    result = await box.run(code, language)
    assert result.status == "ok", (result.stderr, result.error)
    return result.stdout.rstrip("\n")


def _keeper(box: Sandbox) -> int:
    machine: Any = box.machine
    return int(machine.guest.link.kept._keeper.statistics().pid)


def _warden(box: Sandbox) -> int:
    """The keeper's child that is no sandbox."""
    keeper = _keeper(box)
    children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
    (found,) = [
        int(pid) for pid in children if not Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"trlm-")
    ]
    return found


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0)


async def test_a_warden_that_is_killed_in_the_middle_of_its_words_takes_nobody_with_it(box: Sandbox) -> None:
    await _said(box, "x = 1")
    await box.snapshot("s")
    await _said(box, "import os\nos.mkdir('d')\nfor n in range(9000): open(f'd/{n:0200}', 'w').close()")
    keeper, warden = _keeper(box), _warden(box)
    call = Path(f"/proc/{warden}/syscall")
    difference = asyncio.ensure_future(box.diff("s"))
    await _until(lambda: not call.read_text().startswith(_RECEIVES))
    os.kill(keeper, signal.SIGSTOP)
    try:
        await _until(lambda: call.read_text().startswith(_SENDS))  # to nobody who listens
        os.kill(warden, signal.SIGKILL)
        await _until(lambda: b") Z " in Path(f"/proc/{warden}/stat").read_bytes())
    finally:
        os.kill(keeper, signal.SIGCONT)
    with pytest.raises(SnapshotLost):
        await difference
    async with Sandbox(box._backend, box._spec) as other:  # of the same keeper
        assert await _said(other, "print(2)") == "2"
    assert await _said(box, "print(x)") == "1"
    assert (await box.sh("echo on")).stdout == "on\n"


async def test_all_that_ran_has_ended_before_the_files_of_a_snapshot_are_shown(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To stop it would not do: a timer whose signal is SIGCONT wakes the process that set it."""
    await box.snapshot("s")
    await _said(box, "import subprocess\nsubprocess.Popen(['sleep', '7654.25'])")
    machine: Any = box.machine
    link = machine.guest.link
    file_states = link.file_states
    seen: list[int] = []

    async def watched(name: str, *arguments: object) -> object:
        if name == "show":
            seen.append(_running(b"sleep\0007654.25"))
        return await file_states(name, *arguments)

    monkeypatch.setattr(type(link), "file_states", staticmethod(watched))
    assert _running(b"sleep\0007654.25") == 1
    await box.rollback("s")
    assert seen == [0]


def _running(command: bytes) -> int:
    """How many processes of the machine have this command line and are not on their way out."""
    found = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            flags = (folder / "stat").read_bytes().rpartition(b")")[2].split()[6]
            found += command in (folder / "cmdline").read_bytes() and not int(flags) & _EXITING
        except OSError:
            continue
    return found


async def test_a_rollback_whose_files_cannot_be_shown_ends_the_sandbox_and_says_so(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    await box.snapshot("s")
    machine: Any = box.machine
    link = machine.guest.link
    file_states = link.file_states

    async def failing(name: str, *arguments: object) -> object:
        if name == "show":
            raise OSError(12, "Cannot allocate memory")
        return await file_states(name, *arguments)

    monkeypatch.setattr(type(link), "file_states", staticmethod(failing))
    with pytest.raises(SandboxLost, match="could not be shown"):
        await box.rollback("s")
    with pytest.raises(SandboxLost):
        await box.run("1")


async def test_a_snapshot_waits_until_what_a_caller_left_behind_is_killed(box: Sandbox) -> None:
    """Who kills a shell's orphans would take the interpreter's fork for one of them."""
    chance = random.Random(1)
    await _said(box, "x = 1")
    for _ in range(30):
        work = asyncio.ensure_future(box.sh("for n in 1 2 3 4 5 6 7 8 9; do sleep 5 & done; wait"))
        await asyncio.wait({work}, timeout=chance.uniform(0.01, 0.02))
        work.cancel()
        await asyncio.wait({work})
        snapshot = await box.snapshot(partial=True)
        (branch,) = await box.branch(1, snapshot)
        assert await _said(branch, "print(x)") == "1"
        await branch.close()
        await box.forget(snapshot)


async def test_a_rollback_ends_every_other_interpreter(box: Sandbox) -> None:
    await box.snapshot("s")
    machine: Any = box.machine
    other = machine.new_interpreter()
    await other.execute("import os; print(os.getpid())", timeout=None)
    pid = other.child.pid
    await box.rollback("s")
    assert await _said(box, f"import os; print(os.path.exists('/proc/{pid}'))") == "False"
