"""What befalls the owner: too few descriptors, a fork, a keeper that dies unseen."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys

import pytest
from backend_kit import SPEC, ask, opened

from terraphim_rlm.core.errors import SandboxLost, SandboxStartFailed
from terraphim_rlm.sandbox.backends.bubblewrap.backend import Bubblewrap

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]


def _descriptors() -> set[int]:
    return set(map(int, os.listdir("/proc/self/fd")))


def _limit_with_room_for(descriptors: int) -> int:
    """Every number below it is taken, but for so many (one more is the listing's own)."""
    return sorted(set(range(1000)) - _descriptors())[descriptors]


@pytest.mark.parametrize("room", [1, 3, 5, 7, 9])
async def test_an_owner_without_room_for_descriptors_is_told_so_and_loses_none(room: int) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with Bubblewrap() as backend:
        await (await opened(backend)).destroy()
        before = _descriptors()
        resource.setrlimit(resource.RLIMIT_NOFILE, (_limit_with_room_for(room), limits[1]))
        try:
            with pytest.raises(SandboxStartFailed) as caught:
                await backend.boot(SPEC)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert "ulimit -n" in caught.value.fix
        assert _descriptors() == before
        await (await opened(backend)).destroy()


async def test_a_child_forked_from_the_owner_cannot_end_its_sandboxes() -> None:
    async with Bubblewrap() as backend:
        link = await opened(backend)
        child = os.fork()
        if child == 0:
            os._exit(_close_in_child(backend))
        _pid, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert await ask(link, "41 + 1") == "42"
        await link.destroy()


def _close_in_child(backend: Bubblewrap) -> int:
    """0 when the child may neither order nor end anything, and closing is no error."""
    try:
        backend.close().send(None)
    except StopIteration:
        return 0
    finally:
        signal.alarm(5)
    return 1


async def test_the_first_failed_request_tells_that_the_keeper_died_and_the_next_starts_another() -> None:
    async with Bubblewrap() as backend:
        link = await opened(backend)
        keeper = backend.statistics().pid
        assert keeper is not None
        os.kill(keeper, signal.SIGKILL)
        os.waitid(os.P_PID, keeper, os.WEXITED | os.WNOWAIT)
        with pytest.raises(SandboxLost, match="keeper"):
            await backend.boot(SPEC)
        again = await opened(backend)  # without a turn of the event loop between
        assert await ask(again, "41 + 1") == "42"
        await again.destroy()
        await link.destroy()


async def test_a_sandbox_starts_where_the_hard_limit_of_open_files_is_low() -> None:
    """Both ends move descriptors about before they lay them out, and may not move them beyond the limit."""
    program = (
        "import asyncio\n"
        "from terraphim_rlm import open_sandbox\n"
        "async def main():\n"
        "    async with open_sandbox('bubblewrap') as box:\n"
        "        print((await box.run('print(41 + 1)', language='python')).stdout, end='')\n"
        "asyncio.run(main())\n"
    )
    command = 'ulimit -n 64 && exec "$0" -c "$1"'
    done = await asyncio.to_thread(
        subprocess.run,
        ["sh", "-c", command, sys.executable, program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr
