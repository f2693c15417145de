"""One live Python interpreter in a sandbox: cells in, results out, sub-calls answered on the way.

Time-outs interrupt first, so that a cell which yields within a second keeps its state; then its whole tree
is killed, the next cell starts in a fresh interpreter, and the result says that the state was lost.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from terraphim_rlm.core.errors import InvalidArgument, SandboxLost
from terraphim_rlm.guest import frames
from terraphim_rlm.sandbox.calls import CallHandler, refuse
from terraphim_rlm.sandbox.channel import Channel, decode
from terraphim_rlm.sandbox.execution import CellEnd, Running
from terraphim_rlm.sandbox.guest import Child, Exit, Guest
from terraphim_rlm.sandbox.streams import Listener, OnOutput, Stream, listener

_FETCH_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Handover:
    """A context on its way into a cell."""

    fd: int
    """A sealed memory file; stays open with the host for as long as interpreters may need it."""
    about: bytes
    """JSON that describes it, see `guest/views.py`."""


class Interpreter:
    """Runs one cell at a time. Make it with `open`; end it with `close`."""

    def __init__(self, guest: Guest, cwd: str, env: Mapping[str, str], output_bytes: int) -> None:
        self._guest = guest
        self.cwd = cwd
        self._env = dict(env)
        self._output_bytes = output_bytes
        self._loop = asyncio.get_running_loop()
        self._child: Child | None = None
        self._channel: Channel | None = None
        self._streams: tuple[Stream, Stream] | None = None
        self._context: Handover | None = None
        self._number = 0
        self._running: Running | None = None
        self._values: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._untold = False
        self.warm = asyncio.Event()
        """Set when a fresh interpreter has loaded what its first cell needs; no cell has to wait for it."""
        self._idle = asyncio.Event()
        self._idle.set()

    async def start(self) -> None:
        """Forks the interpreter, if there is none alive."""
        if self._channel is not None and not self._channel.is_open and self._child is not None:
            await self._child.ended()
        if self._child is not None:
            return
        channel = Channel(self._frame, self._ended)
        streams = (Stream("stdout", self._output_bytes), Stream("stderr", self._output_bytes))
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fds = (null, streams[0].child_fd, streams[1].child_fd, channel.child_fd)
            child = await self._guest.fork(self.cwd, self._env, fds)
        except BaseException:
            channel.close()
            for stream in streams:
                stream.close()
            raise
        finally:
            os.close(null)
        channel.release_child_end()
        for stream in streams:
            stream.release_child_end()
        self._child, self._channel, self._streams = child, channel, streams
        child.exited.add_done_callback(lambda _: channel.finish())
        if self._context is not None:
            self._hand_over(self._context)

    def give(self, context: Handover) -> None:
        """Sets `context` in the namespace, now and after each restart."""
        self._context = context
        if self._child is not None:
            self._hand_over(context)

    def _hand_over(self, context: Handover) -> None:
        assert self._channel is not None
        self._channel.send(frames.CONTEXT, 0, context.about, context.fd)

    async def execute(
        self,
        code: str,
        *,
        timeout: float | None,
        cap: float | None = None,
        handler: CallHandler = refuse,
        on_output: OnOutput | None = None,
        options: Mapping[str, Any] | None = None,
        stdin_fd: int | None = None,
    ) -> CellEnd:
        """Runs one cell.

        Args:
            timeout: seconds of the cell's own work; waiting for sub-calls does not count.
            cap: seconds until it is stopped in any case.
            options: env and cwd for this cell only.
            stdin_fd: a sealed memory file to read.

        Raises:
            InvalidArgument: the code is longer than a message may be.
            SandboxLost: the sandbox has ended.
            Exception: what `handler` or `on_output` raised.
        """
        source = code.encode("utf-8", "surrogatepass")
        if len(source) > frames.MAX_BODY:
            raise InvalidArgument(f"{len(source):,} bytes of code are more than {frames.MAX_BODY:,}.")
        await self._idle.wait()
        await self.start()
        assert self._channel is not None
        heard = listener(on_output)
        started = self._loop.time()
        running = self._begin(timeout, handler, heard)
        if options or stdin_fd is not None:
            extra = {**(options or {}), "stdin": stdin_fd is not None}
            self._channel.send(frames.OPTIONS, 0, json.dumps(extra).encode(), stdin_fd)
        self._channel.send(frames.EXEC, running.number, source)
        running.arm(cap)
        try:
            with self._guest.watching_memory() as memory:
                await running.done
        except asyncio.CancelledError:
            running.stop("cancelled")
            raise
        running.end.oom = memory.killed
        if heard is not None:
            heard.check()
        running.end.seconds = self._loop.time() - started
        return running.end

    def _begin(self, timeout: float | None, handler: CallHandler, heard: Listener | None) -> Running:
        self._number += 1
        self._running = running = Running(self, self._number, timeout, handler)
        running.end.fresh, self._untold = self._untold, False
        self._idle.clear()
        for stream in self._streams or ():
            stream.begin(heard)
        return running

    async def fetch(self, name: str) -> dict[str, Any]:
        """A variable: {"found", "json", "value", "repr"} or {"found": false, "near": [..]}.

        Raises:
            SandboxLost: the interpreter ended, broke the rules, or did not answer in 10 seconds.
        """
        await self._idle.wait()
        await self.start()
        assert self._channel is not None
        self._number += 1
        number = self._number
        future: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._values[number] = future
        self._channel.send(frames.GET, number, name.encode("utf-8", "surrogatepass"))
        try:
            return await asyncio.wait_for(future, _FETCH_SECONDS)
        except TimeoutError:
            self.kill()
            raise SandboxLost(f"The interpreter did not say what {name!r} holds.") from None
        finally:
            self._values.pop(number, None)

    def _frame(self, kind: int, number: int, body: bytes) -> None:
        running = self._running
        if kind == frames.CALL and running is not None:
            running.call(number, body)
        elif kind == frames.DONE and running is not None and number == running.number:
            running.finish(decode(body) if body else {})
        elif kind == frames.FINAL and running is not None and number == running.number:
            running.final = body
        elif kind == frames.HELLO:
            self.warm.set()
        elif kind == frames.VALUE and number in self._values:
            value = decode(body)
            if not self._values[number].done():
                self._values[number].set_result(value)
        # Anything else is late, forged or for nobody: dropped.

    def send(self, kind: int, number: int, body: bytes) -> None:
        if self._channel is not None:
            self._channel.send(kind, number, body)

    def _ended(self, reason: str | None) -> None:
        """The channel closed: the interpreter died, became another program, or broke the rules."""
        child = self._child
        if child is None:
            return
        if not child.exited.done():
            child.kill()
            child.exited.add_done_callback(lambda done: self._gone(child, reason, done.result()))
        else:
            self._gone(child, reason, child.exited.result())

    def _gone(self, child: Child, reason: str | None, end: Exit) -> None:
        if self._child is not child:
            return
        running = self._running
        self._untold = running is None or running.done.done()
        for future in self._values.values():
            if not future.done():
                future.set_exception(SandboxLost("The interpreter ended."))
        if running is not None:
            running.lost(reason, end)
        self._drop()

    def kill(self) -> None:
        if self._child is not None:
            self._child.kill()

    def interrupt(self) -> None:
        if self._child is not None:
            self._child.signal(2)

    def take_output(self, end: CellEnd) -> None:
        if self._streams is not None:
            out, err = self._streams
            end.stdout, cut_out = out.take()
            end.stderr, cut_err = err.take()
            end.truncated = cut_out or cut_err

    def settled(self, running: Running) -> None:
        """The execution is over and the interpreter is free again."""
        if self._running is running:
            self._running = None
            self._idle.set()

    def _drop(self) -> None:
        if self._channel is not None:
            self._channel.close()
        for stream in self._streams or ():
            stream.close()
        self._child = self._channel = self._streams = None

    async def close(self) -> None:
        """Ends the interpreter with everything it started. Idempotent."""
        child = self._child
        if self._running is not None:
            self._running.lost("it was closed", Exit(None, None))
        self.kill()
        self._drop()
        if child is not None:
            await child.ended()
