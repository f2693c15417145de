"""A machine that runs our guest: interpreters, programs and files, over its supervisor's socket."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from typing import Any, Self
from weakref import WeakSet

from terraphim_rlm.core.errors import InvalidArgument, SandboxLost, SnapshotRefused
from terraphim_rlm.core.values import ExecutorCapabilities
from terraphim_rlm.sandbox.contract import (
    ROOTS,
    Consumption,
    FileDiff,
    GuestLink,
    MachineState,
    Request,
    SandboxSpec,
)
from terraphim_rlm.sandbox.execution import CellEnd
from terraphim_rlm.sandbox.guest import Guest
from terraphim_rlm.sandbox.interpreter import Interpreter
from terraphim_rlm.sandbox.memory import sealed
from terraphim_rlm.sandbox.packages.build import INSIDE as PACKAGES
from terraphim_rlm.sandbox.queue import Queue
from terraphim_rlm.sandbox.shell import Command, StatefulBash
from terraphim_rlm.sandbox.states import Living, State, States, parked
from terraphim_rlm.sandbox.transfers import GuestFiles

HOME = "/work"
_ENV = {
    "PATH": f"{HOME}/.local/bin:{PACKAGES}/bin:/usr/local/bin:/usr/bin:/bin",
    "PIP_BREAK_SYSTEM_PACKAGES": "1",  # it breaks none: they are read-only, and it installs into HOME/.local
    "HOME": HOME,
    "TMPDIR": "/tmp",  # noqa: S108 - the sandbox's own
    "LANG": "C.UTF-8",
    "USER": "sandbox",
}
_WIDTHS = {"sh": 32, "files": 8}
"""One-shot commands and file transfers at once; more wait. Each takes up to seven descriptors of ours."""


class _Shared:
    """What the machines have in common that branched from one another: they are one guest."""

    def __init__(self, link: GuestLink) -> None:
        self.guest = Guest(link)
        self.turns = Queue(_WIDTHS)
        self.states = States(link)
        self.lock = asyncio.Lock()
        self.members: list[GuestMachine] = []
        self.shown: GuestMachine | None = None
        """Whose files the guest's processes see now."""
        self.stale: list[int] = []
        """Views that nobody needs, to be dropped once they are not shown."""


class GuestMachine:
    """See `contract.Machine`.

    Machines that branched from one another share a guest, and so its limits; each has its own view of the files and
    its own interpreters. One of them works at a time: the others are parked, and the files switched, in between.
    """

    def __init__(self, shared: _Shared, spec: SandboxSpec, view: int = 0) -> None:
        self._shared = shared
        self._spec = spec
        self._view = view
        self._python: Interpreter | None = None
        self._bash: StatefulBash | None = None
        self._further: WeakSet[Interpreter] = WeakSet()
        self._runners: Mapping[str, Callable[[Request], Awaitable[CellEnd]]] = {
            "python": self._run_python,
            "bash": self._run_bash,
            "sh": self._run_command,
        }
        shared.members.append(self)

    @classmethod
    async def started(cls, link: GuestLink, spec: SandboxSpec) -> Self:
        """The machine of a guest that was booted.

        Raises:
            SandboxStartFailed: its first word did not come.
        """
        shared = _Shared(link)
        try:
            await shared.guest.start()
        except BaseException:
            await shared.guest.close()
            raise
        machine = cls(shared, spec)
        shared.shown = machine
        return machine

    @property
    def guest(self) -> Guest:
        return self._shared.guest

    @property
    def turns(self) -> Queue:
        return self._shared.turns

    @property
    def files(self) -> GuestFiles:
        return GuestFiles(self.guest, self._come)

    @property
    def line(self) -> int:
        return id(self)

    @property
    def capabilities(self) -> ExecutorCapabilities:
        return self.guest.link.capabilities

    @property
    def is_open(self) -> bool:
        return self.guest.is_open and self in self._shared.members

    @property
    def python(self) -> Interpreter:
        """The interpreter of `language="python"`."""
        if self._python is None:
            self._python = self._new_interpreter(HOME)
        return self._python

    def new_interpreter(self, cwd: str = HOME) -> Interpreter:
        interpreter = self._new_interpreter(cwd)
        self._further.add(interpreter)
        return interpreter

    def _new_interpreter(self, cwd: str) -> Interpreter:
        return Interpreter(self.guest, cwd, self._environment({}), self._spec.resources.output_bytes)

    async def execute(self, request: Request) -> CellEnd:
        await self._come()
        return await self._runners[request.language](request)

    async def snapshot(self, *, partial: bool) -> State:
        await self._come()
        if any(interpreter.is_alive for interpreter in self._further):
            raise SnapshotRefused(
                "Another interpreter works in this sandbox.",
                fix="Take snapshots when no child node is at work.",
            )
        return await self._shared.states.take(self._view, self.python, self._others(), partial)

    async def restore(self, state: MachineState) -> None:
        kept, states = _own(state), self._shared.states
        await kept.python.check()
        await self._come()
        await self.python.start()
        view = await states.new_view(kept)
        try:
            body = await self.python.thawed(kept.python, branch=False)
        except BaseException:
            await states.drop_view(view)
            raise
        await self.python.become(body)
        await states.show(view)
        await states.drop_view(self._view)
        self._view = view
        await self.python.enter()

    async def branch(self, state: MachineState) -> GuestMachine:
        kept, states = _own(state), self._shared.states
        view = await states.new_view(kept)
        twin = GuestMachine(self._shared, self._spec, view)
        try:
            await twin.python.become(await twin.python.thawed(kept.python, branch=True))
        except BaseException:
            await twin.destroy()
            raise
        return twin

    async def difference(self, before: MachineState, after: MachineState | None) -> FileDiff:
        await self._come()
        later = None if after is None else _own(after)
        return await self._shared.states.difference(self._view, _own(before), later)

    async def variables(self) -> tuple[str, ...]:
        await self._come()
        await self.python.start()
        async with parked([self.python]) as said:
            return said.variables

    async def put_back(self, state: MachineState, paths: Sequence[str]) -> list[str]:
        await self._come()
        return await self._shared.states.put_back(self._view, _own(state), paths)

    async def discard(self, state: MachineState) -> None:
        await self._shared.states.discard(_own(state))

    def _others(self) -> list[Living]:
        """The interpreters besides Python's that have state."""
        return []

    async def _come(self) -> None:
        """Makes this the one whose files are seen."""
        shared = self._shared
        if shared.shown is self:
            return
        async with shared.lock:
            before, shared.shown = shared.shown, None
            if before is not None:
                await before._leave()
            await shared.states.show(self._view)
            while shared.stale:
                await shared.states.drop_view(shared.stale.pop())
            await self._enter()
            shared.shown = self

    async def _leave(self) -> None:
        for each in self._living():
            with suppress(SandboxLost):
                await each.park(ROOTS)

    async def _enter(self) -> None:
        for each in self._living():
            with suppress(SandboxLost):
                await each.enter()

    def _living(self) -> list[Living]:
        python = [self._python] if self._python is not None and self._python.is_alive else []
        return [*python, *self._others()]

    async def _run_python(self, request: Request) -> CellEnd:
        own = request.env or request.cwd
        options: dict[str, Any] = {"env": dict(request.env), "cwd": request.cwd} if own else {}
        with _handed(request.stdin) as stdin_fd:
            return await self.python.execute(
                request.code,
                timeout=request.timeout,
                on_output=request.on_output,
                options=options,
                stdin_fd=stdin_fd,
            )

    async def _run_bash(self, request: Request) -> CellEnd:
        if request.stdin is not None or request.env or request.cwd:
            raise InvalidArgument(
                "The stateful bash takes no stdin, env or cwd.",
                fix="Use `sh(..)`, or set them in the script.",
            )
        if self._bash is None:
            self._bash = StatefulBash(
                self.guest, HOME, self._environment({}), self._spec.resources.output_bytes
            )
        with self.guest.watching_memory() as memory:
            end = await self._bash.execute(request.code, timeout=request.timeout, on_output=request.on_output)
        end.oom = memory.killed
        return end

    async def _run_command(self, request: Request) -> CellEnd:
        runner = Command(self.guest, self._spec.resources.output_bytes)
        with _handed(request.stdin) as stdin_fd, self.guest.watching_memory() as memory:
            end = await runner.run(
                request.code,
                cwd=request.cwd or HOME,
                env=self._environment(request.env),
                timeout=request.timeout,
                on_output=request.on_output,
                stdin_fd=stdin_fd,
            )
        end.oom = memory.killed
        return end

    def _environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        return {**_ENV, **self._spec.env, **extra}

    def consumption(self) -> Consumption:
        return self.guest.link.consumption()

    async def destroy(self) -> None:
        shared = self._shared
        if self not in shared.members:
            return
        shared.members.remove(self)
        async with AsyncExitStack() as stack:
            for part in (self._python, self._bash):
                if part is not None:
                    stack.push_async_callback(part.close)
            if not shared.members:
                shared.states.close()
                stack.push_async_callback(self.guest.close)  # first: everything else has then ended
        if not shared.members:
            return
        async with shared.lock:
            shared.stale.append(self._view)
            if shared.shown is self:
                shared.shown = None  # the next one that works takes its view away


def _own(state: MachineState) -> State:
    assert isinstance(state, State), "a state of another kind of machine"
    return state


@contextmanager
def _handed(stdin: bytes | None) -> Iterator[int | None]:
    """Standard input as a sealed memory file, for as long as an execution runs."""
    if stdin is None:
        yield None
        return
    fd = sealed("stdin", [stdin])
    try:
        yield fd
    finally:
        os.close(fd)
