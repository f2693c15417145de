"""A bash that lives on between executions, and what it is made of, as a script that makes another one like it."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from terraphim_rlm.core.errors import SandboxLost, SnapshotRefused
from terraphim_rlm.sandbox.languages import bash_state
from terraphim_rlm.sandbox.languages.command import BASH
from terraphim_rlm.sandbox.languages.living import Parked, phrases
from terraphim_rlm.sandbox.link.execution import CellEnd
from terraphim_rlm.sandbox.link.guest import Child, Guest
from terraphim_rlm.sandbox.link.room import Room
from terraphim_rlm.sandbox.link.streams import Listener, OnOutput, Stream, both, listener

_GRACE = 1.0
"""Seconds that a bash has to end once it closed its line to us."""
_STEP_SECONDS = 10.0
_MOST_STATE = 4 << 20
_LOOP = (
    'while { IFS= builtin read -r -d "" -u 3 __trlm && LC_ALL=C IFS= builtin read -r -N "$__trlm" -u 3 __trlm; } '
    '2>/dev/null; do builtin eval "$__trlm"; '
    '{ builtin printf "%d\\0" "$?" >&4; } 2>/dev/null; done'
)
"""Reads a script from descriptor 3, runs it in this shell, writes its status to 4. Scripts of users are wrapped so that
they see neither. Its number of bytes comes first, up to a NUL byte: what bash reads up to a mark it reads byte by byte,
which takes seconds for a megabyte where system calls are slow."""


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
        self._said = -1
        self._answer: asyncio.Future[list[bytes] | None] | None = None
        self._parts = 1
        self._buffer = b""
        self._dying = self._untold = False
        self._closed = 0  # how often: what waits or is born meanwhile is not wanted any more
        self._turn = asyncio.Lock()
        """Of who speaks with the shell; what it speaks through is given up between turns only."""

    @property
    def child(self) -> Child | None:
        """Its process, if there is one."""
        return self._child

    @property
    def is_alive(self) -> bool:
        return self._child is not None and not self._dying and not self._child.exited.done()

    async def _start(self, closed: int) -> None:
        """A living shell, unless it was closed since it had been closed `closed` times. Raises SandboxLost then."""
        if self._child is not None and not self.is_alive:
            await self._child.ended()
        if closed != self._closed:
            raise SandboxLost("The stateful bash was closed meanwhile.")
        if self.is_alive:
            return
        self._drop()
        with Room() as theirs, Room() as own:
            streams = both(self._output_bytes)
            for stream in streams:
                own.callback(stream.close)
                theirs.callback(stream.release_child_end)
            scripts_in, scripts = own.pipe(reader=theirs)
            said, say = own.pipe(writer=theirs)
            fds = (theirs.null(), streams[0].child_fd, streams[1].child_fd, scripts_in, say)
            argv = [BASH, "--noprofile", "--norc", "-c", _LOOP]
            self._child = await self._guest.spawn(argv, self._cwd, self._env, fds)
            own.pop_all()
        self._scripts, self._said, self._streams = scripts, said, streams
        if closed != self._closed:
            self._kill()
        os.set_blocking(scripts, False)
        os.set_blocking(said, False)
        asyncio.get_running_loop().add_reader(said, self._readable)

    def _readable(self) -> None:
        """Collects an answer: as many parts as were asked for, each up to a NUL byte. None when it will never come."""
        try:
            data = os.read(self._said, 1 << 16)
        except BlockingIOError:
            return
        if not data:
            asyncio.get_running_loop().remove_reader(self._said)
        if self._answer is None or self._answer.done():
            return
        self._buffer += data
        if self._buffer.count(b"\0") >= self._parts:
            self._answer.set_result(self._buffer.split(b"\0")[: self._parts])
        elif not data or len(self._buffer) > _MOST_STATE:
            self._answer.set_result(None)

    async def execute(
        self, code: str, *, timeout: float | None, on_output: OnOutput | None = None
    ) -> CellEnd:
        """Runs a script in the living shell."""
        if "\0" in code:
            report = {
                "type": "ValueError",
                "message": "A shell script cannot hold NUL bytes.",
                "exit_code": 2,
            }
            return CellEnd(report=report)
        closed = self._closed
        async with self._turn:
            fresh = await self._start_again(closed)
            return await self._execute(code, timeout, fresh, listener(on_output))

    async def _execute(
        self, code: str, timeout: float | None, fresh: bool, heard: Listener | None
    ) -> CellEnd:
        assert self._streams is not None
        loop = asyncio.get_running_loop()
        started = loop.time()
        for stream in self._streams:
            stream.begin(heard)
        self._untold = True
        wrapped = f"builtin eval {shlex.quote(code)} </dev/null 3<&- 4>&-"
        end = await self._run(wrapped, timeout)
        self._untold = end.cause == "done"
        end.fresh = fresh
        end.stdout, cut_out = self._streams[0].take()
        end.stderr, cut_err = self._streams[1].take()
        end.truncated = cut_out or cut_err
        end.seconds = loop.time() - started
        if heard is not None:
            heard.check()
        return end

    async def _start_again(self, closed: int) -> bool:
        """Starts bash if none is alive; True when one had ended of which nobody was told."""
        before = self._child
        await self._start(closed)
        return self._untold and self._child is not before

    async def _run(self, script: str, timeout: float | None, parts: int = 1) -> CellEnd:
        """How a script ended; before its status it says `parts - 1` things, which are left as `stdout`."""
        assert self._child is not None
        loop = asyncio.get_running_loop()
        self._answer = loop.create_future()
        self._parts, self._buffer = parts, b""
        data = script.encode("utf-8", "surrogateescape")
        writing = loop.create_task(self._write(b"%d\0%b" % (len(data), data)))
        try:
            return await self._outcome(self._child, self._answer, timeout)
        except asyncio.CancelledError:
            self._kill()
            raise
        finally:
            writing.cancel()
            await asyncio.wait({writing})

    async def _outcome(
        self, child: Child, answer: asyncio.Future[list[bytes] | None], timeout: float | None
    ) -> CellEnd:
        ends: set[asyncio.Future[Any]] = {answer, child.exited}
        await asyncio.wait(ends, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done() and not child.exited.done():
            self._kill()
            return CellEnd(cause="timeout_killed", exit=await child.ended())
        said = answer.result() if answer.done() else None
        if said is not None and said[-1].isdigit():
            code = int(said[-1][-3:]) & 255
            return CellEnd(report={"exit_code": code} if code else {}, stdout=b"\0".join(said[:-1]))
        if not (await asyncio.wait({child.exited}, timeout=_GRACE))[0]:
            self._kill()  # it closed its line to us and lives on
        return CellEnd(cause="lost", exit=await child.ended())

    async def _step(self, script: str) -> bytes:
        """One step of ours in the living shell, and what it said.

        Raises:
            SandboxLost: it ended, or did not answer in 10 seconds; its variables are lost.
        """
        async with self._turn:
            end = await self._run(f"{{ {script}\n}} 2>/dev/null", _STEP_SECONDS, parts=2)
        if end.cause != "done":
            self._untold = True
            raise SandboxLost("The stateful bash did not say what it is asked, and was ended.")
        return end.stdout

    async def park(self, roots: Sequence[str]) -> Parked:
        """See `states.Living`."""
        if not self.is_alive:
            return Parked((), ())
        said = (await self._step(bash_state.park(roots))).decode("utf-8", "replace")
        return Parked(phrases([f"the file {path}, which bash holds open" for path in said.splitlines()]), ())

    async def enter(self) -> None:
        """Goes back to the folder that it was in before `park`."""
        if self.is_alive:
            await self._step(bash_state.ENTER)

    async def state(self) -> str:
        """A script that makes a fresh bash like this one: folder, variables, functions, aliases, options, traps.

        Empty when none is alive. What it started in the background and what it holds open is not in it.

        Raises:
            SnapshotRefused: it is longer than 4 MiB.
            SandboxLost: as `park`.
        """
        if not self.is_alive:
            return ""
        script = (await self._step(bash_state.TELL)).decode("utf-8", "surrogateescape")
        if len(script) > _MOST_STATE - 64:
            raise SnapshotRefused("The variables and functions of bash take more than 4 MiB.")
        return script

    async def restore(self, script: str) -> None:
        """Ends this bash and starts one that a script of `state` makes; none for the empty one.

        Raises:
            SandboxLost: it ended meanwhile.
        """
        await self.close()
        self._untold = False
        if script:
            await self._start(self._closed)
            await self._step(bash_state.take_up(script))

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
        if self._said >= 0:
            asyncio.get_running_loop().remove_reader(self._said)
            os.close(self._said)
            os.close(self._scripts)
        self._said = self._scripts = -1
        self._child = self._streams = None
        self._dying = False

    async def close(self) -> None:
        self._closed += 1
        child = self._child
        self._kill()
        if child is not None:
            await child.ended()
        async with self._turn:
            self._drop()
