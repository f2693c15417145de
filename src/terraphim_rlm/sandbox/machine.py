"""A machine that runs our guest: interpreters, programs and files, over its supervisor's socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Self

from terraphim_rlm.core.errors import DiskFull, SandboxLost, SnapshotLost, SnapshotRefused
from terraphim_rlm.core.network import Access
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
from terraphim_rlm.sandbox.link.body import Body
from terraphim_rlm.sandbox.link.execution import CellEnd
from terraphim_rlm.sandbox.link.guest import Guest
from terraphim_rlm.sandbox.link.transfers import GuestFiles
from terraphim_rlm.sandbox.queue import Queue
from terraphim_rlm.sandbox.states import State, States, parked
from terraphim_rlm.sandbox.undivided import undivided

if TYPE_CHECKING:
    from terraphim_rlm.sandbox.egress.gateway import Gateway

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
        """Whose files the guest's processes see now, and whose processes run."""
        self.stale: list[int] = []
        """Views that nobody needs, to be dropped once they are not shown."""
        self.unwanted: list[State] = []
        """States to be discarded once the machines that begin as they are have begun."""
        self.gateway: Gateway | None = None

    def told(self) -> Callable[[Access], None]:
        """Who hears of what is reached from now on: whose processes run."""
        told = self.shown.on_access if self.shown is not None else None
        return told or (lambda _access: None)

    async def close(self) -> None:
        """Ends the guest and its network."""
        try:
            if self.gateway is not None:
                await self.gateway.close()
        finally:
            await self.guest.close()


class GuestMachine:
    """See `contract.Machine`.

    Machines that branched from one another share a guest, and so its limits; each has its own view of the files and
    its own processes. One of them works at a time: the others are parked and stand still, and the files are switched
    in between.
    """

    def __init__(self, shared: _Shared, spec: SandboxSpec, view: int = 0) -> None:
        self._shared = shared
        self._spec = spec
        self._view = view
        self._runners = Runners(shared.guest, spec, shared.toolchain)
        self._comes_from: State | None = None
        """Whose other interpreters are to be taken up when its files are first shown."""
        self._group = shared.guest.new_group()
        self.on_access: Callable[[Access], None] | None = None

    @classmethod
    async def started(cls, link: GuestLink, spec: SandboxSpec, toolchain: Callable[[str], Toolchain]) -> Self:
        """The machine of a guest that was booted; `toolchain` is `Backend.toolchain`.

        Raises:
            SandboxStartFailed: its first word did not come, or it got no network.
        """
        shared = _Shared(link, toolchain)
        try:
            await shared.guest.start()
            if spec.resources.network:
                from terraphim_rlm.sandbox.egress.opening import opened

                shared.gateway = await opened(link, spec.resources, shared.told)
        except BaseException:
            await shared.close()
            raise
        machine = cls(shared, spec)
        shared.members.append(machine)
        shared.shown = machine
        return machine

    @property
    def guest(self) -> Guest:
        return self._shared.guest

    @property
    def network(self) -> Gateway | None:
        return self._shared.gateway

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
        return self._runners.further_interpreter(cwd)

    async def execute(self, request: Request) -> CellEnd:
        await self._come()
        return await self._runners.run(request)

    async def snapshot(self, *, partial: bool) -> State:
        async with self._held():
            if self._runners.further_work:
                raise SnapshotRefused(
                    "Another interpreter works in this sandbox.",
                    fix="Take snapshots when no child node is at work.",
                )
            return await self._shared.states.take(self._view, self._runners, partial)

    async def restore(self, state: MachineState) -> tuple[str, ...]:
        kept = _own(state)
        await kept.python.check()
        async with AsyncExitStack() as half_done, self._held():
            await self.python.start()
            view = await self._shared.states.new_view(kept)
            async with AsyncExitStack() as undone:
                undone.push_async_callback(self._shared.states.drop_view, view)
                body = await self.python.thawed(kept.python, branch=False)
                undone.pop_all()
            half_done.push_async_callback(self.destroy)
            await self._replace_by(body, view)
            half_done.pop_all()
            await self.python.enter()
            return await self._take_up(kept)

    async def _replace_by(self, body: Body, view: int) -> None:
        """Ends all that runs, and only then shows the files: a process that is stopped can have itself woken.

        Raises:
            SandboxLost: the files could not be shown. The machine is of no further use.
        """
        await self._runners.end_others()
        await self.python.become(body)
        await self.guest.end_orphans(self._group)
        try:
            await self._turn_to(view)
            if self._shared.members == [self]:  # else it may be what another branch works with
                await self._shared.states.empty_shared_memory()
        except (DiskFull, SnapshotLost, SnapshotRefused) as error:
            await self._shared.states.drop_view(view)
            raise SandboxLost(
                f"All that ran here was ended to go back to a snapshot, and then its files could not be shown: "
                f"{error.message}",
                fix="Open another sandbox.",
            ) from error

    @asynccontextmanager
    async def _held(self) -> AsyncIterator[None]:
        """This one is shown for the block, and not closed meanwhile. Raises as `_come`."""
        await self._come()
        async with self._shared.lock:
            self._check_open()
            yield

    async def _turn_to(self, view: int) -> None:
        """Shows another view in place of this machine's own, and forgets that."""
        await self._shared.states.show(view)
        await self._forget_view(view)

    async def _forget_view(self, instead: int) -> None:
        before, self._view = self._view, instead
        await self._shared.states.drop_view(before)

    async def _pause(self, *, orphans: bool = True) -> None:
        await self.guest.pause(self._group, self._runners.children(), orphans=orphans)

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
            await twin._pause(orphans=False)  # those there are now belong to who is shown
        except BaseException:
            await twin._runners.close()
            await states.drop_view(view)
            raise
        self._shared.members.append(twin)
        return twin

    async def difference(self, before: MachineState, after: MachineState | None) -> FileDiff:
        await self._come()
        later = None if after is None else _own(after)
        return await self._shared.states.difference(self._view, _own(before), later)

    async def variables(self) -> tuple[str, ...]:
        async with self._held():
            await self.python.start()
            async with parked([self.python]) as said:
                return said.variables

    async def put_back(self, state: MachineState, paths: Sequence[str]) -> list[str]:
        await self._come()
        return await self._shared.states.put_back(self._view, _own(state), paths)

    async def discard(self, state: MachineState) -> None:
        kept = _own(state)
        if kept.cells and any(each._comes_from is kept for each in self._shared.members):
            self._shared.unwanted.append(kept)
        else:
            await self._shared.states.discard(kept)

    async def _begun(self) -> None:
        """This machine is what its state was, and needs it no longer."""
        shared = self._shared
        kept, self._comes_from = self._comes_from, None
        if kept is None or any(each._comes_from is kept for each in shared.members):
            return
        if any(each is kept for each in shared.unwanted):
            shared.unwanted = [each for each in shared.unwanted if each is not kept]
            await shared.states.discard(kept)

    async def _come(self) -> None:
        """Makes this the one whose files are seen and whose processes run.

        Raises:
            SandboxLost: it was closed; or what kept its files is gone.
        """
        shared = self._shared
        if shared.shown is self and self._comes_from is None and self.is_open:
            return
        try:
            await undivided(self._switch())
        except SnapshotLost as error:
            await undivided(self.destroy())
            raise SandboxLost(
                "What kept the files of this branch has ended, and they with it.",
                fix="Go on with the sandbox whose files were in use then, or open another.",
            ) from error

    async def _switch(self) -> None:
        shared = self._shared
        async with shared.lock:
            self._check_open()
            if shared.shown is not self:
                async with AsyncExitStack() as undone:
                    if shared.shown is not None:
                        undone.push_async_callback(shared.shown._enter)
                        await shared.shown._leave()
                    await shared.states.show(self._view)
                    undone.pop_all()
                shared.shown = self
                while shared.stale:
                    await shared.states.drop_view(shared.stale.pop())
                await self._enter()
            if self._comes_from is not None:
                await self._take_up(self._comes_from)
                await self._begun()

    def _check_open(self) -> None:
        if self not in self._shared.members:
            raise SandboxLost("This sandbox was closed.", fix="Open another, or branch again.")

    async def _leave(self) -> None:
        for each in self._runners.living():
            with suppress(SandboxLost):
                await each.park(ROOTS)
        await self._pause()

    async def _enter(self) -> None:
        with suppress(SandboxLost):
            await self.guest.resume(self._group)
        for each in self._runners.living():
            with suppress(SandboxLost):
                await each.enter()

    def consumption(self) -> Consumption:
        return self.guest.link.consumption()

    async def destroy(self) -> None:
        shared = self._shared
        if self not in shared.members:
            return
        shared.members.remove(self)
        if not shared.members:
            async with AsyncExitStack() as stack:
                stack.push_async_callback(self._runners.close)
                shared.states.close()
                stack.push_async_callback(shared.close)  # first: everything else has then ended
            return
        async with shared.lock:
            await self._runners.close()
            with suppress(SandboxLost):
                await self.guest.end_orphans(self._group)
            await self._begun()
            if shared.shown is self:
                shared.shown = None
                shared.stale.append(self._view)  # the next one that works takes it away
            else:
                await shared.states.drop_view(self._view)


def _own(state: MachineState) -> State:
    assert isinstance(state, State), "a state of another kind of machine"
    return state
