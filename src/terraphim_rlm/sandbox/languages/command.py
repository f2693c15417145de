"""One program in a sandbox, from its start to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from terraphim_rlm.sandbox.link.execution import CellEnd
from terraphim_rlm.sandbox.link.guest import Child, Exit, Guest
from terraphim_rlm.sandbox.link.room import Room
from terraphim_rlm.sandbox.link.streams import OnOutput, Stream, both, listener

BASH = "/bin/bash"
_MOMENT = 0.1
"""Seconds that what a command started has to let go of the command's output."""
_LOOKS = 10


@dataclass(frozen=True, slots=True)
class Launch:
    """A program to run."""

    argv: Sequence[str]
    cwd: str
    env: Mapping[str, str]
    fds: Sequence[int] = ()
    """Become its descriptors 3 and on."""


class Command:
    """One program from start to end. What it leaves running with its output open is killed, and said; what closed
    its output lives on until the sandbox ends.
    """

    def __init__(self, guest: Guest, output_bytes: int) -> None:
        self._guest = guest
        self._output_bytes = output_bytes
        self._child: Child | None = None
        self._closed = False

    async def run(
        self,
        launch: Launch,
        *,
        timeout: float | None,
        on_output: OnOutput | None = None,
        stdin_fd: int | None = None,
    ) -> CellEnd:
        """`stdin_fd` is what it reads; None = nothing.

        Raises:
            SandboxLost: the sandbox has ended.
            SandboxBusy: there is no room for what it needs; it has not run.
            Exception: what `on_output` raised.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        with Room() as room:
            streams = both(self._output_bytes)
            for stream in streams:
                room.callback(stream.close)
            stdin = room.null() if stdin_fd is None else stdin_fd
            heard = listener(on_output)
            for stream in streams:
                stream.begin(heard)
            fds = (stdin, streams[0].child_fd, streams[1].child_fd, *launch.fds)
            self._child = child = await self._guest.spawn(launch.argv, launch.cwd, launch.env, fds)
            if self._closed:
                child.kill()
            for stream in streams:
                stream.release_child_end()
            end = await _until(child, timeout)
            await _finish(child, streams, end)
            end.stdout, cut_out = streams[0].take()
            end.stderr, cut_err = streams[1].take()
            end.truncated = cut_out or cut_err
        if heard is not None:
            heard.check()
        if self._closed:
            end.exit = Exit(None, None)
        end.seconds = loop.time() - started
        return end

    def close(self) -> None:
        """Ends it with all it started, because the sandbox ends."""
        self._closed = True
        if self._child is not None:
            self._child.kill()


async def _until(child: Child, timeout: float | None) -> CellEnd:
    """Waits for the end of a child; kills its tree at the time-out or when we are cancelled."""
    end = CellEnd(cause="lost")
    try:
        over, _ = await asyncio.wait({child.exited}, timeout=timeout)
        if not over:
            end.cause = "timeout_killed"
            child.kill()
        end.exit = await child.ended()
    except asyncio.CancelledError:
        child.kill()
        raise
    return end


async def _finish(child: Child, streams: tuple[Stream, Stream], end: CellEnd) -> None:
    """Reads what is left. A pipe still open means that something it started still runs: that is killed.

    `server >log 2>&1 &` may be forked and not yet have let go of the pipe, so it gets a moment.
    """
    for _ in range(_LOOKS):
        for stream in streams:
            stream.drain()
        if all(stream.at_end for stream in streams) or end.exit == Exit(None, None):
            return
        await asyncio.sleep(_MOMENT / _LOOKS)
    end.note = "what the command left running was killed"
    child.kill()
    for stream in streams:
        stream.drain()
