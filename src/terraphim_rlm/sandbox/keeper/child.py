"""The keeper's process, as its owner starts it and waits for its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

from terraphim_rlm.core import process
from terraphim_rlm.core.errors import SandboxStartFailed
from terraphim_rlm.sandbox.keeper.waiting import settle

_SCRIPT = Path(__file__).with_name("start.py")
_END_SECONDS = 15.0


def started() -> tuple[socket.socket, subprocess.Popen[bytes], int]:
    """Our end of the keeper's socket, its process, and where it would complain.

    Raises:
        SandboxStartFailed: there is no room for a process or for descriptors.
    """
    with contextlib.ExitStack() as theirs, contextlib.ExitStack() as own:
        try:
            ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            own.enter_context(ours).setblocking(False)
            theirs.enter_context(its)
            said, complain = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            own.callback(os.close, said)
            theirs.callback(os.close, complain)
            argv = [sys.executable, "-I", "-S", str(_SCRIPT), str(its.fileno())]
            child = process.start(
                argv, pass_fds=[its.fileno()], cwd="/", stdout=subprocess.DEVNULL, stderr=complain
            )
        except OSError as error:
            raise SandboxStartFailed(f"The keeper could not be started: {error}.") from error
        own.pop_all()
    return ours, child, said


async def reap(child: subprocess.Popen[bytes]) -> None:
    """Waits for a process by its pidfd; past the time for a clean end it is killed, which kills its sandboxes."""
    loop = asyncio.get_running_loop()
    gone = loop.create_future()
    pidfd = os.pidfd_open(child.pid)
    loop.add_reader(pidfd, settle, gone, None)
    try:
        async with asyncio.timeout(_END_SECONDS):
            await gone
    except TimeoutError:
        child.kill()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
        child.wait()
