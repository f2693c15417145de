"""One live JavaScript interpreter in a sandbox: a Node that answers the frames of a cell.

Its state is memory that cannot be forked; it comes back by running its cells again (`replay`).
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from terraphim_rlm.sandbox.contract import Request
from terraphim_rlm.sandbox.keeper.waiting import settle
from terraphim_rlm.sandbox.languages.command import BASH
from terraphim_rlm.sandbox.languages.living import Parked
from terraphim_rlm.sandbox.languages.python import Interpreter
from terraphim_rlm.sandbox.link.execution import CellEnd
from terraphim_rlm.sandbox.link.guest import Child, Guest
from terraphim_rlm.sandbox.link.room import Room, asked

_FOLDER = Path(__file__).parents[2] / "guest" / "javascript"
_FILES = ("declarations.js", "cell.js")
_DRIVER = 5
_BOOT = (
    f'require("vm").runInThisContext(require("fs").readFileSync({_DRIVER}, "utf8"), "cell.js")'
    "(require, (name, options) => import(name, options))"
)
"""As text of `--eval`, since a program from a memory file has no name that Node could look for modules beside."""
_HEAP_SHARE = 0.75
"""Of the sandbox's memory for JavaScript's own heap: past it Node says so and ends, before the kernel kills it."""
_OUT_OF_MEMORY = (b"heap out of memory", b"process out of memory", b"Fatal process OOM", b"std::bad_alloc")
_ABORTED = (4, 5, 6)  # SIGILL, SIGTRAP, SIGABRT: how Node ends itself
_TAIL = 16_384
_MOST_CELLS = 1_000
_MOST_BYTES = 8 << 20
"""Of the cells that are kept to run again, with their input."""
_LEAST_SECONDS = 10.0
_HOLD = "echo; read -r"
"""Holds standard input, and says when: before it is a program of its own, nobody in the sandbox may look at its files."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell that ran, as it can be run again."""

    code: str
    ok: bool
    """Whether it ended without an error."""
    seconds: float
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    stdin: bytes | None = None


class Node(Interpreter):
    """Runs one cell at a time; its first one starts it. End it with `close`."""

    def __init__(
        self,
        program: str,
        guest: Guest,
        env: Mapping[str, str],
        *,
        cwd: str,
        output_bytes: int,
        memory_mb: int,
    ) -> None:
        super().__init__(guest, cwd, env, output_bytes)
        heap = max(8, int(memory_mb * _HEAP_SHARE))
        self._argv = [program, f"--max-old-space-size={heap}", "--eval", _BOOT]
        self._bell = -1
        self._cells: list[Cell] = []
        self._bytes = 0
        self._lacks = ""

    async def _born(self, fds: Sequence[int]) -> Child:
        with Room() as theirs, Room() as own:
            heard, bell = own.pipe(os.O_NONBLOCK, reader=theirs)
            driver = theirs.sealed("driver", [_driver()])
            child = await self._guest.spawn(self._argv, self.cwd, self._env, (*fds, heard, driver))
            own.pop_all()
        self._bell = bell
        child.exited.add_done_callback(lambda _: self._silence(bell))
        self._cells, self._bytes, self._lacks = [], 0, ""
        return child

    def _silence(self, bell: int) -> None:
        os.close(bell)
        if self._bell == bell:
            self._bell = -1

    def interrupt(self) -> None:
        """Signals reach Node only when it waits; a thread of its own listens to this."""
        if self._bell >= 0 and self._running is not None:
            try:
                os.write(self._bell, struct.pack("<I", self._running.number))
            except OSError:
                return  # it has ended, or does not listen: it will be killed

    async def run(self, request: Request) -> CellEnd:
        """One cell, with its options."""
        options = {"env": dict(request.env), "cwd": request.cwd} if request.env or request.cwd else {}
        async with self._handed(request.stdin) as stdin:
            if stdin is not None:
                options["stdin"] = stdin
            end = await self.execute(
                request.code, timeout=request.timeout, on_output=request.on_output, options=options
            )
        if end.exit is not None and end.exit.signal in _ABORTED:
            end.oom = end.oom or any(word in end.stderr[-_TAIL:] for word in _OUT_OF_MEMORY)
        self._remember(request, end)
        return end

    @asynccontextmanager
    async def _handed(self, stdin: bytes | None) -> AsyncIterator[str | None]:
        """Standard input as a file that can be opened in the sandbox: a memory file that a child there holds open.

        Node takes no descriptors over a socket. The child ends when it is let go.
        """
        if stdin is None:
            yield None
            return
        with Room() as room:
            null = room.null(os.O_RDWR)
            held, _release = room.pipe()
            data = room.sealed("stdin", [stdin])
            with Room() as theirs:
                told, tell = room.pipe(writer=theirs)
                holder = await self._guest.spawn([BASH, "-c", _HOLD], "/", {}, (held, tell, null, data))
            await _readable(self._loop, told)
            yield f"/proc/{holder.pid}/fd/3"

    def _remember(self, request: Request, end: CellEnd) -> None:
        if end.cause not in ("done", "timeout", "cancelled"):
            return  # its state is gone; the next cell starts a fresh one
        self._bytes += len(request.code) + len(request.stdin or b"")
        if end.cause != "done":
            self._lacks = self._lacks or "a cell was stopped before its end"
        elif len(self._cells) >= _MOST_CELLS or self._bytes > _MOST_BYTES:
            self._lacks = "its cells are too many, or too long, to run again"
        if not self._lacks:
            ok = not end.report
            self._cells.append(Cell(request.code, ok, end.seconds, request.env, request.cwd, request.stdin))

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Those whose state it holds, oldest first; complete unless `park` names that as a problem."""
        return tuple(self._cells) if self.is_alive else ()

    async def park(self, roots: Sequence[str]) -> Parked:
        """See `states.Living`."""
        if not self.is_alive:
            return Parked((), ())
        said = await super().park(roots)
        lacks = (f"JavaScript's variables, since {self._lacks}",) if self._lacks else ()
        return Parked((*lacks, *said.problems), ())

    async def enter(self) -> None:
        if self.is_alive:
            await super().enter()

    async def replay(self, cells: Sequence[Cell]) -> tuple[int, ...]:
        """Starts afresh and runs `cells` again; what they print is dropped.

        Returns:
            The numbers, from 0, of those that did not end as the first time; after one that ended the interpreter,
            all the others.
        """
        await self.close()
        failed: list[int] = []
        for number, cell in enumerate(cells):
            seconds = max(_LEAST_SECONDS, 4 * cell.seconds)
            end = await self.run(Request(cell.code, "javascript", seconds, cell.stdin, cell.env, cell.cwd))
            if end.cause != "done":
                return (*failed, *range(number, len(cells)))
            if cell.ok != (not end.report):
                failed.append(number)
        return tuple(failed)


async def _readable(loop: asyncio.AbstractEventLoop, fd: int) -> None:
    ready = loop.create_future()
    loop.add_reader(fd, settle, ready, None)
    try:
        await ready
    finally:
        loop.remove_reader(fd)


@cache
def _driver() -> bytes:
    with asked():
        text = "\n".join((_FOLDER / name).read_text("utf-8") for name in _FILES)
    return f"(function (require, importer) {{\n{text}\n}})".encode()


__all__ = ["Cell", "Node"]
