"""The host's side of a sandbox's supervisor: start children, signal them, kill them, learn how they ended."""

from __future__ import annotations

import array
import asyncio
import marshal
import os
import socket
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from terraphim_rlm.core.errors import SandboxLost, SandboxStartFailed
from terraphim_rlm.sandbox.contract import GuestLink

_REPORT = struct.Struct("<BIiii")
_HELLO, _STARTED, _EXITED, _FAILED, _KILLED, _PAUSED = 1, 2, 3, 4, 5, 6
_HELLO_SECONDS = 20.0
_FULL_SECONDS = 0.002
"""Until a request is tried again when the supervisor's socket is full."""


class Exit(NamedTuple):
    """How a child ended: an exit code, or the signal that killed it. Both None: the whole sandbox ended."""

    code: int | None
    signal: int | None


@dataclass(slots=True)
class MemoryWatch:
    """What `Guest.watching_memory` saw."""

    killed: bool = False


class Child:
    """A process of the sandbox that the supervisor started for us."""

    def __init__(self, guest: Guest, number: int, alone: bool) -> None:
        loop = asyncio.get_running_loop()
        self._guest = guest
        self.number = number
        self._alone = alone
        """It starts no processes: killing it must not sweep up the orphans of others."""
        self.pid = 0
        """In the sandbox's own process namespace."""
        self.started: asyncio.Future[None] = loop.create_future()
        self.killed: asyncio.Future[None] = loop.create_future()
        """Done once an order to kill is carried out: nothing of it runs any code, though it may not be gone yet."""
        self.exited: asyncio.Future[Exit] = loop.create_future()

    def signal(self, number: int) -> None:
        """Sends it a signal, if it lives."""
        if not self.exited.done():
            self._guest.order("signal", self.number, signal=number)

    def kill(self) -> None:
        """Kills it and everything that came of it, also what left its session or outlived it."""
        if self._alone:
            self.signal(9)
        else:
            self._guest.kill(self.number)

    async def stopped(self) -> None:
        """After `kill`: waits until nothing of it runs."""
        either: set[asyncio.Future[Any]] = {self.killed, self.exited}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)

    async def ended(self) -> Exit:
        """Waits for its end; who stops waiting takes nothing from the others."""
        return await asyncio.shield(self.exited)


class Guest:
    """One sandbox's supervisor. Single event loop; every wait ends when the sandbox does."""

    def __init__(self, link: GuestLink) -> None:
        self.link = link
        self.python = ""
        self._socket = link.socket
        self._socket.setblocking(False)
        self._children: dict[int, Child] = {}
        self._paused: dict[int, set[int]] = {}
        """Group -> process ids."""
        self._orders: dict[int, asyncio.Future[None]] = {}
        """Those to groups, until they are carried out."""
        self._kills: Counter[int] = Counter()
        """Orders to kill that are not carried out yet, by the child's number."""
        self._calm = asyncio.Event()
        """Set while there are none."""
        self._calm.set()
        self._last = 0
        self._loop = asyncio.get_running_loop()
        self._hello: asyncio.Future[None] = self._loop.create_future()
        self._open = True

    async def start(self) -> None:
        """Waits for the supervisor's first word.

        Raises:
            SandboxStartFailed: the sandbox ended, or said nothing for 20 seconds.
        """
        self._loop.add_reader(self._socket.fileno(), self._read)
        try:
            await asyncio.wait_for(asyncio.shield(self._hello), _HELLO_SECONDS)
        except TimeoutError:
            await self.close()
            raise SandboxStartFailed(f"The sandbox said nothing for {_HELLO_SECONDS:.0f} seconds.") from None
        except SandboxLost:
            end = await self.link.ended()
            await self.close()
            raise SandboxStartFailed(
                f"The sandbox ended while it started (exit code {end.exit_code}, signal {end.signal})."
            ) from None

    @contextmanager
    def watching_memory(self) -> Iterator[MemoryWatch]:
        """Tells afterwards whether the kernel killed for memory during the block."""
        watch = MemoryWatch()
        before = self.link.oom_kills()
        yield watch
        watch.killed = self.link.oom_kills() > before

    async def fork(self, cwd: str, env: Mapping[str, str], fds: Sequence[int]) -> Child:
        """A Python cell: a fork of the supervisor, so it starts in about a millisecond."""
        return await self._new("fork", fds, cwd=cwd, env=dict(env))

    async def spawn(self, argv: Sequence[str], cwd: str, env: Mapping[str, str], fds: Sequence[int]) -> Child:
        """A program; `fds` become its descriptors 0, 1, 2 and on."""
        return await self._new("spawn", fds, argv=list(argv), cwd=cwd, env=dict(env))

    async def transfer(self, name: str, arguments: Sequence[object], fds: Sequence[int]) -> Child:
        """One transfer of files; its exit code and its names are those of `guest/files.py`."""
        return await self._new("files", fds, transfer=name, arguments=list(arguments), cwd="/")

    async def adopt(self, pid: int) -> Child:
        """A process that forked away from a cell, and is a child of the supervisor since.

        Raises:
            SandboxLost: there is no such child.
        """
        return await self._new("adopt", (), pid=pid)

    def pids(self) -> list[int]:
        """Of all children and of what is paused, as the sandbox numbers them."""
        return list({child.pid for child in self._children.values()}.union(*self._paused.values()))

    def new_group(self) -> int:
        """A number for processes that are paused, resumed and killed together."""
        self._last += 1
        return self._last

    async def pause(self, group: int, own: Sequence[int], *, orphans: bool) -> None:
        """Lets nothing of these children (by number) run, nor what came of them.

        Args:
            orphans: nor what came of no child of ours and is in no other group that is paused.

        Raises:
            SandboxLost: the sandbox has ended.
        """
        self._paused[group] = set()
        await self._ordered("pause", group, own=list(own), orphans=orphans)

    async def resume(self, group: int) -> None:
        """Lets what `pause` stopped go on. Raises as `pause`."""
        if self._paused.pop(group, None) is not None:
            await self._sent("resume", group, ())

    async def end_orphans(self, group: int) -> None:
        """Kills what came of no child of ours: of the group, or when that is not paused, of all that are in none.

        Raises as `pause`.
        """
        await self._ordered("kill", group)
        self._paused.pop(group, None)

    async def _ordered(self, op: str, group: int, **fields: object) -> None:
        done = self._orders[group] = self._loop.create_future()
        try:
            await self._sent(op, group, (), **fields)
            await done
        finally:
            del self._orders[group]

    async def _sent(self, op: str, number: int, fds: Sequence[int], **fields: object) -> None:
        while not self._request(op, number, fds, **fields):  # noqa: ASYNC110 - a socket has no event to wait for
            await asyncio.sleep(_FULL_SECONDS)

    async def _new(self, op: str, fds: Sequence[int], **fields: object) -> Child:
        self._last += 1
        number = self._last
        await self._sent(op, number, fds, **fields)
        child = self._children[number] = Child(self, number, alone=op == "files")
        try:
            await child.started
        except asyncio.CancelledError:
            child.kill()
            raise
        return child

    def kill(self, number: int) -> None:
        """Kills one child with all that came of it, and everybody's orphans that nobody has adopted."""
        if self._open:
            self._kills[number] += 1
            self._calm.clear()
            self.order("kill", number)

    async def settled(self) -> None:
        """Waits until every order to kill is carried out.

        A process that forks away from a cell while one is would be taken for an orphan, before it is adopted.
        """
        await self._calm.wait()

    def order(self, op: str, number: int, **fields: object) -> None:
        """A request that needs no answer. A sandbox that has ended needs no orders: its children are settled."""
        try:
            if not self._request(op, number, (), **fields):
                self._loop.call_later(_FULL_SECONDS, partial(self.order, op, number, **fields))
        except SandboxLost:
            pass  # `_lost` follows, and ends every wait

    def _request(self, op: str, number: int, fds: Sequence[int] = (), **fields: object) -> bool:
        """Sends one request; False when the socket is full."""
        if not self._open:
            raise _gone("The sandbox has ended.")
        data = marshal.dumps({"op": op, "id": number, **fields}, 4)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self._socket.sendmsg([data], ancillary)
        except BlockingIOError:
            return False
        except OSError as error:
            raise _gone(f"The sandbox cannot be reached: {error.strerror}.") from error
        return True

    def _read(self) -> None:
        while True:
            try:
                data = self._socket.recv(64)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if len(data) != _REPORT.size:
                self._lost()
                return
            self._handle(*_REPORT.unpack(data))

    def _handle(self, op: int, number: int, code: int, signal: int, pid: int) -> None:
        if op == _HELLO:
            self.python = f"{code}.{signal}.{pid}"
            if not self._hello.done():
                self._hello.set_result(None)
            return
        if number in self._orders:
            self._of_group(op, number, pid)
            return
        child = self._children.get(number)
        if op == _KILLED or (op == _FAILED and (child is None or child.started.done())):
            self._carried_out(number)
        if child is None:
            return
        if op == _STARTED and not child.started.done():
            child.pid = pid
            child.started.set_result(None)
        elif op == _KILLED:
            if not child.killed.done():
                child.killed.set_result(None)
        elif op == _EXITED:
            del self._children[number]
            _settle(child, Exit(None, signal) if signal else Exit(code, None))
        elif op == _FAILED and not child.started.done():
            del self._children[number]
            reason = os.strerror(code) if code else "unknown reason"
            child.started.set_exception(SandboxLost(f"The sandbox could not start a process: {reason}."))

    def _carried_out(self, number: int) -> None:
        self._kills[number] -= 1
        self._kills = +self._kills
        if not self._kills:
            self._calm.set()

    def _of_group(self, op: int, group: int, pid: int) -> None:
        """A process of it has stopped, or an order to it is carried out."""
        done = self._orders[group]
        if op == _PAUSED and pid:
            self._paused[group].add(pid)
        elif op == _FAILED and not done.done():
            done.set_exception(_gone("The sandbox cannot stop its processes."))
        elif not done.done():
            done.set_result(None)

    def _lost(self) -> None:
        """The supervisor is gone, and with it everything in the sandbox."""
        if not self._open:
            return
        self._open = False
        self._calm.set()
        self._loop.remove_reader(self._socket.fileno())
        gone = _gone("The sandbox ended.")
        if not self._hello.done():
            self._hello.set_exception(gone)
        for child in self._children.values():
            if not child.started.done():
                child.started.set_exception(gone)
            _settle(child, Exit(None, None))
        self._children.clear()
        for done in self._orders.values():
            if not done.done():
                done.set_exception(gone)

    @property
    def is_open(self) -> bool:
        return self._open

    async def close(self) -> None:
        """Ends the sandbox; returns when nothing of it is left. Idempotent."""
        self._lost()
        self._hello.cancel()
        self._socket.close()
        await self.link.destroy()


def _gone(message: str) -> SandboxLost:
    return SandboxLost(message, fix="Open another sandbox; files and variables of this one are lost.")


def _settle(child: Child, end: Exit) -> None:
    if not child.exited.done():
        child.exited.set_result(end)
