"""A machine that runs our guest: interpreters, programs and files, over its supervisor's socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Self
from weakref import WeakSet

from terraphim_rlm.core.errors import SandboxLost, SnapshotRefused
from terraphim_rlm.core.values import ExecutorCapabilities
from terraphim_rlm.sandbox.contract import (
    HOME,
    ROOTS,
    Consumption,
    FileDiff,
    GuestLink,
    MachineState,
    Request,
    SandboxSpec,
    Toolchain,
)
from terraphim_rlm.sandbox.languages.python import Interpreter
from terraphim_rlm.sandbox.languages.runners import Runners
from terraphim_rlm.sandbox.link.execution import CellEnd
from terraphim_rlm.sandbox.link.guest import Guest
from terraphim_rlm.sandbox.link.transfers import GuestFiles
from terraphim_rlm.sandbox.queue import Queue
from terraphim_rlm.sandbox.states import State, States, parked

_WIDTHS = {"sh": 32, "files": 8}
"""One-shot commands and file transfers at once; more wait. Each takes up to seven descriptors of ours."""


class _Shared:
    """What the machines have in common that branched from one another: they are one guest."""

    def __init__(self, link: GuestLink, toolchain: Callable[[str], Toolchain]) -> None:
        self.guest = Guest(link)
        self.toolchain = toolchain
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
        self._runners = Runners(shared.guest, spec, shared.toolchain)
        self._comes_from: State | None = None
        """Whose other interpreters are to be taken up when its files are first shown."""
        self._further: WeakSet[Interpreter] = WeakSet()
        shared.members.append(self)

    @classmethod
    async def started(cls, link: GuestLink, spec: SandboxSpec, toolchain: Callable[[str], Toolchain]) -> Self:
        """The machine of a guest that was booted; `toolchain` is `Backend.toolchain`.

        Raises:
            SandboxStartFailed: its first word did not come.
        """
        shared = _Shared(link, toolchain)
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
        return self._runners.python

    def new_interpreter(self, cwd: str = HOME) -> Interpreter:
        interpreter = self._runners.new_interpreter(cwd)
        self._further.add(interpreter)
        return interpreter

    async def execute(self, request: Request) -> CellEnd:
        await self._come()
        return await self._runners.run(request)

    async def snapshot(self, *, partial: bool) -> State:
        await self._come()
        if any(interpreter.is_alive for interpreter in self._further):
            raise SnapshotRefused(
                "Another interpreter works in this sandbox.",
                fix="Take snapshots when no child node is at work.",
            )
        return await self._shared.states.take(self._view, self._runners, partial)

    async def restore(self, state: MachineState) -> tuple[str, ...]:
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
        await self._runners.end_others()
        await self.python.become(body)
        await self._turn_to(view)
        await self.python.enter()
        return await self._take_up(kept)

    async def _turn_to(self, view: int) -> None:
        """Shows another view in place of this machine's own, and forgets that."""
        await self._shared.states.show(view)
        await self._shared.states.drop_view(self._view)
        self._view = view

    async def _take_up(self, kept: State) -> tuple[str, ...]:
        """The interpreters besides Python's, and what of them is not as it was.

        JavaScript's cells run again over the files of the state. What they do to files is dropped with a view of
        their own: in the state it has been done already.
        """
        again: tuple[int, ...] = ()
        if kept.cells:
            await self._begin_again(kept)
            again = await self._runners.take_up_javascript(kept.cells)
            await self._begin_again(kept)
        await self._runners.take_up_bash(kept.bash)
        return tuple(
            f"JavaScript's cell {number + 1} ended otherwise when it was run again" for number in again[:10]
        )

    async def _begin_again(self, kept: State) -> None:
        """The files of a state in place of what became of them."""
        async with parked(self._runners.living()):
            await self._turn_to(await self._shared.states.new_view(kept))

    async def branch(self, state: MachineState) -> GuestMachine:
        kept, states = _own(state), self._shared.states
        view = await states.new_view(kept)
        twin = GuestMachine(self._shared, self._spec, view)
        twin._comes_from = kept
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
        for each in self._runners.living():
            with suppress(SandboxLost):
                await each.park(ROOTS)

    async def _enter(self) -> None:
        for each in self._runners.living():
            with suppress(SandboxLost):
                await each.enter()
        kept, self._comes_from = self._comes_from, None
        if kept is not None:
            await self._take_up(kept)

    def consumption(self) -> Consumption:
        return self.guest.link.consumption()

    async def destroy(self) -> None:
        shared = self._shared
        if self not in shared.members:
            return
        shared.members.remove(self)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._runners.close)
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
