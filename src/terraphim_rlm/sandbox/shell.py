"""Shells in a sandbox: one command and its end, or a bash that keeps its folder and variables."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any

from terraphim_rlm.sandbox.execution import CellEnd
from terraphim_rlm.sandbox.guest import Child, Exit, Guest
from terraphim_rlm.sandbox.streams import OnOutput, Stream, listener

_BASH = "/bin/bash"
_GRACE = 1.0
"""Seconds that a bash has to end once it closed its line to us."""
_MOMENT = 0.1
"""Seconds that what a command started has to let go of the command's output."""
_LOOKS = 10
_LOOP = (
    'while IFS= read -r -d "" -u 3 __trlm; do eval "$__trlm" </dev/null 3<&- 4>&-; '
    'printf "%d\\0" "$?" >&4; done'
)
"""Reads a script up to a NUL byte from descriptor 3, runs it in this shell, writes its status to 4."""


class Command:
    """One program from start to end. What it leaves running with its output open is killed, and said; what closed
    its output lives on until the sandbox ends.
    """

    def __init__(self, guest: Guest, output_bytes: int) -> None:
        self._guest = guest
        self._output_bytes = output_bytes

    async def run(
        self,
        command: str,
        *,
        cwd: str,
        env: Mapping[str, str],
        timeout: float | None,
        on_output: OnOutput | None = None,
        stdin_fd: int | None = None,
    ) -> CellEnd:
        streams = (Stream("stdout", self._output_bytes), Stream("stderr", self._output_bytes))
        stdin = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC) if stdin_fd is None else os.dup(stdin_fd)
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            heard = listener(on_output)
            for stream in streams:
                stream.begin(heard)
            fds = (stdin, streams[0].child_fd, streams[1].child_fd)
            child = await self._guest.spawn([_BASH, "-c", command], cwd, env, fds)
            for stream in streams:
                stream.release_child_end()
            end = await _until(child, timeout)
            await _finish(child, streams, end)
            end.stdout, cut_out = streams[0].take()
            end.stderr, cut_err = streams[1].take()
            end.truncated = cut_out or cut_err
        finally:
            os.close(stdin)
            for stream in streams:
                stream.close()
        if heard is not None:
            heard.check()
        end.seconds = loop.time() - started
        return end


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


class StatefulBash:
    """A bash that lives on between executions. `exit` ends it; the next execution starts a fresh one."""

    def __init__(self, guest: Guest, cwd: str, env: Mapping[str, str], output_bytes: int) -> None:
        self._guest = guest
        self._cwd = cwd
        self._env = dict(env)
        self._output_bytes = output_bytes
        self._child: Child | None = None
        self._streams: tuple[Stream, Stream] | None = None
        self._scripts = -1
        self._status = -1
        self._answer: asyncio.Future[int | None] | None = None
        self._buffer = b""
        self._dying = self._untold = False

    async def _start(self) -> None:
        if self._child is not None:
            if not self._dying and not self._child.exited.done():
                return
            await self._child.ended()
        self._drop()
        scripts_in, scripts = os.pipe2(os.O_CLOEXEC)
        status, status_out = os.pipe2(os.O_CLOEXEC)
        streams = (Stream("stdout", self._output_bytes), Stream("stderr", self._output_bytes))
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._scripts, self._status, self._streams = scripts, status, streams
        try:
            fds = (null, streams[0].child_fd, streams[1].child_fd, scripts_in, status_out)
            argv = [_BASH, "--noprofile", "--norc", "-c", _LOOP]
            self._child = await self._guest.spawn(argv, self._cwd, self._env, fds)
        finally:
            for fd in (null, scripts_in, status_out):
                os.close(fd)
            for stream in streams:
                stream.release_child_end()
        os.set_blocking(scripts, False)
        os.set_blocking(status, False)
        asyncio.get_running_loop().add_reader(status, self._readable)

    def _readable(self) -> None:
        try:
            data = os.read(self._status, 4096)
        except BlockingIOError:
            return
        self._buffer = (self._buffer + data)[-64:]
        word, zero, rest = self._buffer.partition(b"\0")
        if not data:
            asyncio.get_running_loop().remove_reader(self._status)
        if self._answer is not None and not self._answer.done() and (zero or not data):
            self._buffer = rest
            self._answer.set_result(int(word) & 255 if zero and word.isdigit() else None)

    async def execute(
        self, code: str, *, timeout: float | None, on_output: OnOutput | None = None
    ) -> CellEnd:
        """Runs a script in the living shell."""
        if "\0" in code:
            return CellEnd(
                report={
                    "type": "ValueError",
                    "message": "A shell script cannot hold NUL bytes.",
                    "exit_code": 2,
                }
            )
        fresh = await self._start_again()
        assert self._child is not None
        assert self._streams is not None
        loop = asyncio.get_running_loop()
        started = loop.time()
        heard = listener(on_output)
        for stream in self._streams:
            stream.begin(heard)
        self._answer = loop.create_future()
        self._buffer = b""
        writing = loop.create_task(self._write(code.encode("utf-8", "surrogateescape") + b"\0"))
        self._untold = True
        try:
            end = await self._outcome(self._child, self._answer, timeout)
        except asyncio.CancelledError:
            self._kill()
            raise
        finally:
            writing.cancel()
            await asyncio.wait({writing})
        self._untold = end.cause == "done"
        end.fresh = fresh
        end.stdout, cut_out = self._streams[0].take()
        end.stderr, cut_err = self._streams[1].take()
        end.truncated = cut_out or cut_err
        end.seconds = loop.time() - started
        if heard is not None:
            heard.check()
        return end

    async def _start_again(self) -> bool:
        """Starts bash if none is alive; True when one had ended of which nobody was told."""
        before = self._child
        await self._start()
        return self._untold and self._child is not before

    async def _outcome(
        self, child: Child, answer: asyncio.Future[int | None], timeout: float | None
    ) -> CellEnd:
        ends: set[asyncio.Future[Any]] = {answer, child.exited}
        await asyncio.wait(ends, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done() and not child.exited.done():
            self._kill()
            return CellEnd(cause="timeout_killed", exit=await child.ended())
        code = answer.result() if answer.done() else None
        if code is not None:
            return CellEnd(report={"exit_code": code} if code else {})
        if not (await asyncio.wait({child.exited}, timeout=_GRACE))[0]:
            self._kill()  # it closed its line to us and lives on
        return CellEnd(cause="lost", exit=await child.ended())

    def _kill(self) -> None:
        if self._child is not None:
            self._dying = True
            self._child.kill()

    async def _write(self, data: bytes) -> None:
        """A script into the pipe, as fast as bash reads it."""
        loop = asyncio.get_running_loop()
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._scripts, view) :]
            except BlockingIOError:
                room = loop.create_future()
                loop.add_writer(self._scripts, room.set_result, None)
                try:
                    await room
                finally:
                    loop.remove_writer(self._scripts)
            except BrokenPipeError:
                return

    def _drop(self) -> None:
        for stream in self._streams or ():
            stream.close()
        if self._status >= 0:
            asyncio.get_running_loop().remove_reader(self._status)
            os.close(self._status)
            os.close(self._scripts)
        self._status = self._scripts = -1
        self._child = self._streams = None
        self._dying = False

    async def close(self) -> None:
        child = self._child
        self._kill()
        if child is not None:
            await child.ended()
        self._drop()
