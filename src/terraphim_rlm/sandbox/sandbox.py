"""A sandbox as callers use it: run code, run commands, close. Written once above every backend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from types import TracebackType
from typing import Self, Unpack

from terraphim_rlm.core.errors import InvalidArgument, SandboxLost, SnapshotLost
from terraphim_rlm.core.network import Access
from terraphim_rlm.core.values import (
    ExecutionResult,
    ExecutorCapabilities,
    Output,
    Resources,
    Snapshot,
    SnapshotDiff,
)
from terraphim_rlm.sandbox import changes, results
from terraphim_rlm.sandbox.checks import Options, request
from terraphim_rlm.sandbox.contract import HOME, ROOTS, Backend, Machine, MachineFiles, Request, SandboxSpec
from terraphim_rlm.sandbox.files import Files
from terraphim_rlm.sandbox.languages.compiled import RECIPES, Compiler
from terraphim_rlm.sandbox.languages.python import Interpreter
from terraphim_rlm.sandbox.languages.table import SHELL, language
from terraphim_rlm.sandbox.link.execution import CellEnd
from terraphim_rlm.sandbox.link.streams import Pieces
from terraphim_rlm.sandbox.snapshots import MOST_BRANCHES, Kept, Snapshots, absolute
from terraphim_rlm.sandbox.statistics import SandboxStatistics, Tally
from terraphim_rlm.sandbox.undivided import undivided


class Sandbox:
    """One isolated machine. Executions of one language run one after another, in the order of their calls."""

    def __init__(self, backend: Backend, spec: SandboxSpec) -> None:
        self._backend = backend
        self._spec = spec
        self._machine: Machine | None = None
        self._snapshots = Snapshots()
        self._tally = Tally()
        self.files = Files(self._transfer, self._tally)
        self._closing = asyncio.Lock()
        self.on_access: Callable[[Access], None] | None = None
        """Is told, on the event loop, of what its code reaches outside and is refused. It must not block or raise."""

    async def start(self) -> None:
        """Starts the machine. Idempotent.

        Raises:
            BackendUnavailable: this machine cannot run it; the fix is named.
            SandboxStartFailed: it did not come up.
        """
        if self._machine is None:
            self._take(await self._backend.create(self._spec))

    def _take(self, machine: Machine) -> None:
        self._machine = machine
        machine.on_access = self._accessed

    def _accessed(self, access: Access) -> None:
        if self.on_access is not None:
            self.on_access(access)

    @property
    def machine(self) -> Machine:
        """What the backend made; for who needs more than this class offers.

        Raises:
            SandboxLost: it is not open.
        """
        if self._machine is None:
            raise SandboxLost("The sandbox is not open.", fix="Use `async with open_sandbox(..) as box`.")
        return self._machine

    @property
    def is_open(self) -> bool:
        return self._machine is not None and self._machine.is_open

    @property
    def capabilities(self) -> ExecutorCapabilities:
        return self.machine.capabilities

    @property
    def resources(self) -> Resources:
        return self._spec.resources

    @property
    def python(self) -> Interpreter:
        """The interpreter that `run` uses for Python."""
        return self.machine.python

    def new_interpreter(self, cwd: str = HOME) -> Interpreter:
        """A further Python interpreter in this sandbox, with its own folder, output and variables."""
        return self.machine.new_interpreter(cwd)

    async def run(self, code: str, language: str = "python", **options: Unpack[Options]) -> ExecutionResult:
        """Runs code in the interpreter of `language`; its state lives on where the language has one.

        Raises:
            InvalidArgument: what is asked for cannot be.
            SandboxBusy: it waited as long as it may; it has not run.
            SandboxLost: the sandbox has ended.
            ToolchainMissing: nothing here runs this language; what to install is named.
        """
        return await self._execute(request(code, _named(language), options), options)

    async def sh(self, command: str, **options: Unpack[Options]) -> ExecutionResult:
        """Runs one shell command from start to end; shares the files, not the variables, of `run`. Raises the same."""
        return await self._execute(request(command, SHELL, options), options)

    async def _execute(self, asked: Request, options: Options) -> ExecutionResult:
        machine = self.machine
        async with machine.turns.turn(asked.language, line=machine.line, wait=options.get("wait")):
            refused = self.refused
            try:
                before = await changes.listing(machine.files) if options.get("changes") else None
                if asked.language in RECIPES:
                    end = await Compiler(self._backend, self._spec.resources).run(asked, machine)
                else:
                    end = await machine.execute(asked)
            except asyncio.CancelledError:
                self._tally.executed("cancelled", asked.language, 0.0, 0)
                raise
            changed, notes = ((), ()) if before is None else await changes.since(before, machine.files)
        # The sandbox may have been closed meanwhile.
        result = self._result(machine, end, asked.language, refused)
        return (
            replace(result, files_changed=changed, notes=(*result.notes, *notes))
            if before is not None
            else result
        )

    async def stream(
        self, code: str, language: str = "python", **options: Unpack[Options]
    ) -> AsyncGenerator[Output | ExecutionResult, None]:
        """`run`, as what it says while it says it; last comes the result. Raises the same.

        Leaving the loop early stops the execution soon (`contextlib.aclosing`: at once); its state is kept if the
        code yields within a second. What waits for a slow reader is joined, and never more than
        `Resources.output_bytes` of each stream.
        """
        if options.get("on_output") is not None:
            raise InvalidArgument(
                "A stream takes no `on_output`.", fix="Use `run`, or take what the stream gives."
            )
        pieces = Pieces()
        options["on_output"] = pieces
        running = asyncio.ensure_future(self.run(code, language, **options))
        running.add_done_callback(pieces.end)
        try:
            async for piece in pieces:
                yield piece
            yield running.result()
        finally:
            running.cancel()
            await asyncio.wait({running})
            if not running.cancelled():
                running.exception()  # seen: whoever left early does not want it

    async def snapshot(self, name: str | None = None, *, partial: bool = False) -> Snapshot:
        """Keeps files and interpreters as they are now, in one act; waits until nothing runs.

        Args:
            name: of `a-z`, `0-9`, `.`, `_`, `-`; None = one is made.
            partial: leave out what cannot be kept (threads, other processes, sockets ..) and name it in
                `Snapshot.missing`, instead of refusing.

        Raises:
            SnapshotRefused: something cannot be kept; each thing is named, and nothing has changed.
            SnapshotLimit: there are as many as there may be.
            InvalidArgument: the name is none, or taken.
        """
        async with self._alone() as machine:
            named = self._snapshots.new_name(name)
            state = await undivided(machine.snapshot(partial=partial), undo=machine.discard)
            return self._snapshots.add(named, state)

    async def rollback(self, snapshot: Snapshot | str) -> Snapshot:
        """Makes everything what it was; the snapshot stays. What has happened since is gone, processes included.

        Returns:
            The snapshot; `missing` also names what came back otherwise.

        Raises:
            SnapshotNotFound: there is none of this name.
            SnapshotLost: code in the sandbox ended it. It is forgotten; nothing else has changed.
        """
        async with self._alone() as machine:
            kept = self._snapshots.find(snapshot)
            async with self._unless_lost(machine, kept):
                otherwise = await undivided(machine.restore(kept.state))
            return replace(kept.snapshot, missing=(*kept.snapshot.missing, *otherwise))

    async def restore_files(self, snapshot: Snapshot | str, paths: Iterable[str]) -> list[str]:
        """Makes single files and folders what they were; all else stays. Not there then means not there now.

        Returns:
            Those that were neither in the snapshot nor here now.

        Raises:
            SnapshotNotFound: there is no such snapshot.
            InvalidArgument: a path is none, or lies outside what snapshots hold.
        """
        wanted = absolute(paths, ROOTS, HOME)
        async with self._alone() as machine:
            return await undivided(machine.put_back(self._snapshots.find(snapshot).state, wanted))

    async def diff(self, before: Snapshot | str, after: Snapshot | str | None = None) -> SnapshotDiff:
        """What changed from one snapshot to another, or (None) to now.

        Raises:
            SnapshotNotFound: there is no such snapshot.
        """
        async with self._alone() as machine:
            first = self._snapshots.find(before)
            second = None if after is None else self._snapshots.find(after)
            files = await machine.difference(first.state, second.state if second else None)
            old = set(first.snapshot.variables)
            new = set(second.snapshot.variables if second else await machine.variables())
        added, changed, removed, truncated = files
        return SnapshotDiff(
            tuple(added),
            tuple(changed),
            tuple(removed),
            tuple(sorted(new - old)),
            tuple(sorted(old - new)),
            truncated,
        )

    async def branch(self, count: int = 1, snapshot: Snapshot | str | None = None) -> list[Sandbox]:
        """Further sandboxes that begin as `snapshot`, or (None) as this one is now; close each.

        Their files, variables and random numbers go their own ways. Whether they share limits and work in turns is
        the backend's (bubblewrap: they do).

        Raises:
            InvalidArgument: it is not 1 to 64.
            SnapshotNotFound, SnapshotRefused, SnapshotLost: as `rollback` and `snapshot`.
        """
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST_BRANCHES:
            raise InvalidArgument(f"There can be 1 to {MOST_BRANCHES} branches, not {count!r}.")
        async with self._alone() as machine, AsyncExitStack() as made:
            if snapshot is None:
                state = await undivided(machine.snapshot(partial=False), undo=machine.discard)
                made.push_async_callback(machine.discard, state)
            else:
                kept = self._snapshots.find(snapshot)
                await made.enter_async_context(self._unless_lost(machine, kept))
                state = kept.state
            boxes = []
            async with AsyncExitStack() as unmade:
                for _ in range(count):
                    box = Sandbox(self._backend, self._spec)
                    box._take(await undivided(machine.branch(state), undo=_destroyed))
                    unmade.push_async_callback(box.close)
                    boxes.append(box)
                unmade.pop_all()
            return boxes

    def snapshots(self) -> tuple[Snapshot, ...]:
        """Oldest first."""
        return self._snapshots.all()

    async def forget(self, snapshot: Snapshot | str) -> None:
        """Frees what a snapshot holds.

        Raises:
            SnapshotNotFound: there is none of this name.
        """
        async with self._alone() as machine:
            kept = self._snapshots.find(snapshot)
            self._snapshots.remove(kept)
            await undivided(machine.discard(kept.state))

    @asynccontextmanager
    async def _transfer(self) -> AsyncIterator[MachineFiles]:
        """The machine's files, while no snapshot is taken."""
        machine = self.machine
        async with machine.turns.turn("files", line=machine.line):
            yield machine.files

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[Machine]:
        """The machine, when nothing else uses it."""
        machine = self.machine
        async with machine.turns.turn(None, line=machine.line):
            yield machine

    @asynccontextmanager
    async def _unless_lost(self, machine: Machine, kept: Kept) -> AsyncIterator[None]:
        try:
            yield
        except SnapshotLost:
            self._snapshots.remove(kept)
            await undivided(machine.discard(kept.state))
            raise

    @property
    def refused(self) -> int:
        """How often its code was refused the network so far."""
        return self._machine.network.refused if self._machine and self._machine.network else 0

    def result(self, end: CellEnd, spoken: str = "python", refused: int | None = None) -> ExecutionResult:
        """An execution's end as a result of this sandbox; `refused` is what it said of itself at its beginning."""
        return self._result(self.machine, end, spoken, self.refused if refused is None else refused)

    def _result(self, machine: Machine, end: CellEnd, spoken: str, refused: int) -> ExecutionResult:
        if machine.network and machine.network.refused > refused:
            end.notes = (*end.notes, *machine.network.notes(refused))
        origin = results.Origin(self._backend.name, machine.capabilities.limits)
        result = results.of_end(end, origin, spoken)
        self._tally.executed(result.status, spoken, end.seconds, len(end.stdout) + len(end.stderr))
        return result

    def statistics(self) -> SandboxStatistics:
        """What it has done so far, and what it takes up now."""
        machine = self.machine
        network = machine.network.statistics() if machine.network else None
        return self._tally.statistics(machine.turns.statistics(), machine.consumption(), network)

    async def close(self) -> None:
        """Ends the machine and everything in it. Idempotent; a second caller waits for the first."""
        async with self._closing:
            machine, self._machine = self._machine, None
            if machine is not None:
                await undivided(machine.destroy())

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def _destroyed(machine: Machine) -> None:
    await machine.destroy()


_named = language  # `run` has a parameter of that name
