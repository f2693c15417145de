"""What happens to states, and to everybody else, when a part of what keeps them is killed, stopped or lied to."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from terraphim_rlm import Sandbox, open_sandbox
from terraphim_rlm.core.errors import SnapshotLost

pytestmark = [pytest.mark.sandbox, pytest.mark.anyio, pytest.mark.timeout(60)]
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
