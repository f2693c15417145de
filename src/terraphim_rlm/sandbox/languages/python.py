"""One live Python interpreter in a sandbox: cells in, results out, sub-calls answered on the way.

Time-outs interrupt first, so that a cell which yields within a second keeps its state; then its whole tree
is killed, the next cell starts in a fresh interpreter, and the result says that the state was lost.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from terraphim_rlm.core.errors import InvalidArgument, SandboxLost
from terraphim_rlm.guest import frames
from terraphim_rlm.sandbox.languages.living import Parked, listed, phrases
from terraphim_rlm.sandbox.link.body import Body
from terraphim_rlm.sandbox.link.calls import LATE, CallHandler, refuse
from terraphim_rlm.sandbox.link.channel import Channel, decode
from terraphim_rlm.sandbox.link.execution import CellEnd, Running
from terraphim_rlm.sandbox.link.frozen import Frozen, no_fork
from terraphim_rlm.sandbox.link.guest import Child, Exit, Guest
from terraphim_rlm.sandbox.link.memory import Handover
from terraphim_rlm.sandbox.link.room import Room, copied
from terraphim_rlm.sandbox.link.streams import Listener, OnOutput, listener

_FETCH_SECONDS = 10.0
_PARK_SECONDS = 30.0


class Interpreter:
    """Runs one cell at a time; its first one starts it. End it with `close`."""

    def __init__(self, guest: Guest, cwd: str, env: Mapping[str, str], output_bytes: int) -> None:
        self._guest = guest
        self.cwd = cwd
        self._env = dict(env)
        self._output_bytes = output_bytes
        self._loop = asyncio.get_running_loop()
        self._body: Body | None = None
        self._context: Handover | None = None
        self._parked: Body | None = None
        self._number = 0
        self._running: Running | None = None
        self._values: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._untold = False
        self._closed = 0  # how often: what waits or is born meanwhile is not wanted any more
        self.warm = asyncio.Event()
        """Set when a fresh interpreter has loaded what its first cell needs; no cell has to wait for it."""
        self._idle = asyncio.Event()
        self._idle.set()

    async def start(self) -> None:
        """Forks the interpreter, if there is none alive."""
        body = self._body
        if body is not None and not body.channel.is_open and body.child is not None:
            end = await body.child.ended()
            self._gone(body, None, end)
        if self._body is not None:
            return
        closed = self._closed
        body = await self._embodied(self._born)
        with ExitStack() as undone:
            undone.callback(body.end)
            if closed != self._closed:
                raise _closed()
            if self._context is not None:
                _hand_over(body, self._context)
            undone.pop_all()
        self._body = body
        if not body.channel.is_open:
            self._ended(body, None)

    async def _born(self, fds: Sequence[int]) -> Child:
        """A new process of its language. `Node` has its own way."""
        return await self._guest.fork(self.cwd, self._env, fds)

    async def _embodied(self, make: Callable[[Sequence[int]], Awaitable[Child]]) -> Body:
        """A new process, made by `make` of its standard streams and channel."""
        body = Body(self._frame, self._ended, self._output_bytes)
        await body.begin(make)
        return body

    def give(self, context: Handover) -> None:
        """Sets `context` in the namespace, now and after each restart.

        Raises:
            SandboxBusy: there is no room for a descriptor; nothing has changed.
        """
        if self._body is not None:
            _hand_over(self._body, context)
        self._context = context

    def keep_output(self, output: Handover) -> None:
        """Puts what a cell printed into `outputs`. Gone with the process; the descriptor may be closed at once.

        Raises as `give`.
        """
        if self._body is not None:
            self._body.channel.send(frames.OUTPUT, 0, output.about, copied(output.fd))

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
            options: env and cwd for this cell only, as OPTIONS has them.
            stdin_fd: a sealed memory file to read.

        Raises:
            InvalidArgument: the code is longer than a message may be.
            SandboxLost: the sandbox has ended.
            SandboxBusy: there is no room for what it needs; it has not run.
            Exception: what `handler` or `on_output` raised.
        """
        source = code.encode("utf-8", "surrogatepass")
        if len(source) > frames.MAX_BODY:
            raise InvalidArgument(f"{len(source):,} bytes of code are more than {frames.MAX_BODY:,}.")
        channel = await self._ready()
        heard = listener(on_output)
        started = self._loop.time()
        stdin = None if stdin_fd is None else copied(stdin_fd)  # before it begins: there may be no room
        running = self._begin(timeout, handler, heard)
        with self._guest.watching_memory() as memory:  # from before it is sent: it may be killed at once
            if options or stdin is not None:
                extra = {"stdin": stdin is not None, **(options or {})}
                channel.send(frames.OPTIONS, 0, json.dumps(extra).encode(), stdin)
            channel.send(frames.EXEC, running.number, source)
            running.arm(cap)
            try:
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
        assert self._body is not None
        for stream in self._body.streams:
            stream.begin(heard)
        return running

    async def _ready(self) -> Channel:
        """The channel of a living process that does nothing else."""
        closed = self._closed
        await self._idle.wait()
        if closed != self._closed:
            raise _closed()
        await self.start()
        if self._body is None:
            raise SandboxLost("The interpreter ended while it started.")
        return self._body.channel

    async def fetch(self, name: str) -> dict[str, Any]:
        """A variable: {"found", "json", "value", "repr"} or {"found": false, "near": [..]}.

        Raises:
            SandboxLost: the interpreter ended, broke the rules, or did not answer in 10 seconds.
        """
        asked = name.encode("utf-8", "surrogatepass")
        return await self._answer(frames.GET, asked, what=f"what {name!r} holds")

    async def ping(self, seconds: float) -> None:
        """Waits for its answer to a question that changes nothing.

        Raises:
            SandboxLost: there was none in that time, and it was ended; or the sandbox has ended.
        """
        await self._answer(frames.GET, b"__name__", seconds=seconds)

    async def _answer(
        self,
        kind: int,
        body: bytes = b"",
        fd: int | None = None,
        *,
        seconds: float | None = None,
        what: str = "what it is asked",
    ) -> dict[str, Any]:
        """What the interpreter answers to one frame, to which it is handed a copy of `fd`; one that does not is ended."""
        channel = await self._ready()
        self._number += 1
        number = self._number
        handed = None if fd is None else copied(fd)
        future: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._values[number] = future
        channel.send(kind, number, body, handed)
        try:
            return await asyncio.wait_for(future, seconds or _FETCH_SECONDS)
        except TimeoutError:
            self.kill()
            raise SandboxLost(f"The interpreter did not say {what}, and was ended.") from None
        finally:
            self._values.pop(number, None)

    async def park(self, roots: Sequence[str]) -> Parked:
        """Lets it leave the sandbox's files, until `enter`. What it says of itself is not believed further.

        Raises:
            SandboxLost: as `fetch`.
        """
        asked = {"roots": list(roots), "known": self._guest.pids()}
        said = await self._answer(frames.PARK, json.dumps(asked).encode(), seconds=_PARK_SECONDS)
        self._parked = self._body
        failed = (said["failed"],) if "failed" in said else ()
        return Parked(phrases([*failed, *listed(said.get("problems"))]), phrases(said.get("variables")))

    async def enter(self) -> None:
        """Lets it take up its files again."""
        await self._answer(frames.ENTER)

    async def freeze(self) -> Frozen:
        """A frozen fork of it; it is parked.

        Raises:
            SandboxLost: it has ended since it was parked.
            SnapshotRefused: there is no room for another process.
            SandboxBusy: nor for a descriptor.
        """
        if self._body is None or self._body is not self._parked:
            raise SandboxLost("The interpreter ended while its state was being kept.")
        with Room() as room:
            ours, its = room.pair(socket.SOCK_SEQPACKET)
            ours.setblocking(False)
            await self._guest.settled()
            with its:
                pid = (await self._answer(frames.FREEZE, b"", its.fileno())).get("pid")
            if type(pid) is not int or not 1 < pid < 1 << 22:
                raise no_fork()
            child = await self._guest.adopt(pid)
            room.pop_all()
        return Frozen(self._guest, ours, child)

    async def thawed(self, frozen: Frozen, *, branch: bool) -> Body:
        """A new process that goes on from a frozen one, parked; `become` makes it this interpreter's.

        Raises:
            SnapshotLost: the frozen one is gone.
        """
        return await self._embodied(lambda fds: frozen.thaw(fds, branch=branch))

    @property
    def is_alive(self) -> bool:
        return self._body is not None and self._body.channel.is_open

    @property
    def child(self) -> Child | None:
        """Its process, if there is one."""
        return None if self._body is None else self._body.child

    async def become(self, body: Body) -> None:
        """Goes on in another process, once nothing of the one before runs any more."""
        before, self._body = self._body, None
        if before is not None:
            before.end()
            if before.child is not None:
                await before.child.stopped()
        self._untold = False
        self._body = body
        if not body.channel.is_open:
            self._ended(body, None)

    def _frame(self, body: Body, kind: int, number: int, data: bytes) -> None:
        if body is not self._body:
            return
        running = self._running
        if kind == frames.CALL and running is not None:
            running.call(number, data)
        elif kind == frames.CALL:
            body.channel.send(frames.FAIL, number, LATE)
        elif kind == frames.DONE and running is not None and number == running.number:
            running.finish(decode(data) if data else {})
        elif kind == frames.FINAL and running is not None and number == running.number:
            running.final = data
        elif kind == frames.HELLO:
            self.warm.set()
        elif kind == frames.VALUE and number in self._values:
            value = decode(data)
            if not self._values[number].done():
                self._values[number].set_result(value)
        # Anything else is late, forged or for nobody: dropped.

    def send(self, kind: int, number: int, body: bytes) -> None:
        if self._body is not None:
            self._body.channel.send(kind, number, body)

    def _ended(self, body: Body, reason: str | None) -> None:
        """The channel closed: the interpreter died, became another program, or broke the rules."""
        child = body.child
        if child is None:
            return
        if not child.exited.done():
            child.kill()
            child.exited.add_done_callback(lambda done: self._gone(body, reason, done.result()))
        else:
            self._gone(body, reason, child.exited.result())

    def _gone(self, body: Body, reason: str | None, end: Exit) -> None:
        if self._body is not body:
            return
        running = self._running
        self._untold = running is None or running.done.done()
        if running is not None:
            running.lost(reason, end)
        self._drop()

    def kill(self) -> None:
        if self.child is not None:
            self.child.kill()

    def interrupt(self) -> None:
        if self.child is not None:
            self.child.signal(2)

    def take_output(self, end: CellEnd) -> None:
        if self._body is not None:
            (end.stdout, cut), (end.stderr, also_cut) = (stream.take() for stream in self._body.streams)
            end.truncated = cut or also_cut

    def settled(self, running: Running) -> None:
        """The execution is over and the interpreter is free again."""
        if self._running is running:
            self._running = None
            self._idle.set()

    def _drop(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.close()
        for future in self._values.values():
            if not future.done():
                future.set_exception(SandboxLost("The interpreter ended."))

    async def restart(self) -> None:
        """Ends its process; the next cell starts a fresh one. No cell may be running."""
        child = self.child
        self.kill()
        self._drop()
        if child is not None:
            await child.ended()

    async def close(self) -> None:
        """Ends the interpreter with everything it started. Idempotent."""
        self._closed += 1
        if self._running is not None:
            self._running.lost("it was closed", Exit(None, None))
        await self.restart()


def _hand_over(body: Body, context: Handover) -> None:
    body.channel.send(frames.CONTEXT, 0, context.about, copied(context.fd))


def _closed() -> SandboxLost:
    return SandboxLost("The interpreter was closed meanwhile.")
