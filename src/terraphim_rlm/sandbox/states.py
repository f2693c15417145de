"""What a guest's machine was at one moment: its files, by the backend, and its interpreters, frozen.

Both in one act, between executions: every interpreter first leaves the sandbox's files (*parks*); the files are
frozen, which the kernel refuses while anybody writes; the interpreter forks; then everyone goes back.
"""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from terraphim_rlm.core.errors import DiskFull, SandboxLost, SnapshotLost, SnapshotRefused
from terraphim_rlm.sandbox.contract import ROOTS, SHARED_MEMORY, FileDiff, GuestLink
from terraphim_rlm.sandbox.languages.javascript import Cell
from terraphim_rlm.sandbox.languages.living import Living, Parked
from terraphim_rlm.sandbox.languages.runners import Runners
from terraphim_rlm.sandbox.link.frozen import Frozen

_MOST_NAMED = 10
_BATCH = 64 << 10
"""Bytes of paths that go into one message."""


@dataclass(frozen=True, slots=True)
class State:
    """See `contract.MachineState`."""

    files: int
    """Number of the files' state."""
    python: Frozen
    bash: str
    """A script that makes a fresh bash like it was; empty when there was none."""
    cells: tuple[Cell, ...]
    """Those whose state JavaScript held."""
    languages: dict[str, str]
    variables: tuple[str, ...]
    missing: tuple[str, ...]


@asynccontextmanager
async def parked(living: Sequence[Living]) -> AsyncIterator[Parked]:
    """Everyone out of the files for the block, and what they said together."""
    gone: list[Living] = []
    said: list[Parked] = []
    try:
        for each in living:
            gone.append(each)
            said.append(await each.park(ROOTS))
        yield Parked(
            tuple(problem for each in said for problem in each.problems),
            tuple(name for each in said for name in each.variables),
        )
    finally:
        for each in gone:
            with suppress(SandboxLost):  # it ended meanwhile; whoever uses it next is told
                await each.enter()


class States:
    """Takes and gives back the states of one machine's view of its files."""

    def __init__(self, link: GuestLink) -> None:
        self._link = link
        self._views = 0
        self._frozen: set[Frozen] = set()

    async def take(self, view: int, runners: Runners, partial: bool) -> State:
        """See `contract.Machine.snapshot`."""
        python, bash, node = runners.python, runners.bash, runners.node
        await python.start()
        script = await bash.state() if bash is not None else ""
        cells = node.cells if node is not None else ()
        async with parked(runners.living()) as said:
            if said.problems and not partial:
                raise _refused(said.problems)
            files = await self._freeze(view, said.problems)
            try:
                frozen = await python.freeze()
            except BaseException:
                await self._link.file_states("drop", files)
                raise
            self._frozen.add(frozen)
        languages = {"python": "kept"}
        languages |= {"bash": "kept"} if script else {}
        languages |= {"javascript": "replayed"} if cells else {}
        return State(files, frozen, script, cells, languages, said.variables, said.problems)

    async def _freeze(self, view: int, problems: Sequence[str]) -> int:
        try:
            return int(await self._link.file_states("freeze", view))
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise _refused(problems or ["a file that is open for writing"]) from error
            raise _failed(error) from error

    async def new_view(self, state: State) -> int:
        """A further view of the files, not shown yet, that begins as `state`."""
        self._views += 1
        try:
            await self._link.file_states("branch", self._views, state.files)
        except OSError as error:
            raise _failed(error) from error
        return self._views

    async def show(self, view: int) -> None:
        try:
            await self._link.file_states("show", view)
        except OSError as error:
            raise _failed(error) from error

    async def empty_shared_memory(self) -> None:
        """No state holds any. Raises as `show`."""
        try:
            await self._link.file_states("empty", SHARED_MEMORY)
        except OSError as error:
            raise _failed(error) from error

    async def drop_view(self, view: int) -> None:
        """One that is not shown."""
        await self._dropped("drop_view", view)

    async def difference(self, view: int, before: State, after: State | None) -> FileDiff:
        """See `contract.Machine.difference`."""
        try:
            found = await self._link.file_states("diff", before.files, after.files if after else 0, view)
        except OSError as error:
            raise _failed(error) from error
        return found[0], found[1], found[2], found[3]

    async def put_back(self, view: int, state: State, paths: Sequence[str]) -> list[str]:
        """See `contract.Machine.put_back`."""
        missing: list[str] = []
        batch: list[str] = []
        for path in [*paths, None]:
            if path is not None:
                batch.append(path)
            if batch and (path is None or sum(map(len, batch)) * 4 > _BATCH):
                try:
                    missing += await self._link.file_states("copy", state.files, view, batch)
                except OSError as error:
                    raise _failed(error) from error
                batch = []
        return missing

    async def discard(self, state: State) -> None:
        """See `contract.Machine.discard`."""
        self._frozen.discard(state.python)
        state.python.close()
        await self._dropped("drop", state.files)

    async def _dropped(self, name: str, number: int) -> None:
        with suppress(OSError, SnapshotLost, SandboxLost):  # what kept it is gone, and it with that
            await self._link.file_states(name, number)

    def close(self) -> None:
        """Gives up all states; the machine's end ends what they hold."""
        while self._frozen:
            self._frozen.pop().close()


def _refused(problems: Sequence[str]) -> SnapshotRefused:
    more = len(problems) - _MOST_NAMED
    named = "; ".join(problems[:_MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")
    return SnapshotRefused(f"A snapshot cannot keep {named}.", problems=list(problems[:100]))


def _failed(error: OSError) -> Exception:
    """A step with files that the system refused."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM):
        return DiskFull(
            "The sandbox has no room for another state of its files.",
            fix="Forget snapshots, or raise the disk size.",
        )
    return SnapshotRefused(f"A step with the sandbox's files failed: {error.strerror}.")


__all__ = ["State", "States", "parked"]
