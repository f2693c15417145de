"""What a machine's guest runs code with: one runner a language, made when it is first asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import Any
from weakref import WeakSet

from terraphim_rlm.core.errors import InvalidArgument, NotSupported
from terraphim_rlm.sandbox.contract import HOME, Request, SandboxSpec, Toolchain
from terraphim_rlm.sandbox.egress.inside import ENV as EGRESS
from terraphim_rlm.sandbox.languages.bash import StatefulBash
from terraphim_rlm.sandbox.languages.command import BASH, Command, Launch
from terraphim_rlm.sandbox.languages.javascript import Cell, Node
from terraphim_rlm.sandbox.languages.living import Living
from terraphim_rlm.sandbox.languages.python import Interpreter
from terraphim_rlm.sandbox.link.execution import CellEnd
from terraphim_rlm.sandbox.link.guest import Guest
from terraphim_rlm.sandbox.link.room import Room
from terraphim_rlm.sandbox.packages.build import INSIDE as PACKAGES

_PROGRAM = "/proc/self/fd/3"
"""A compiled program is run from a sealed memory file: nothing in the sandbox can change it, and it takes no room
on its disk."""
_ENV = {
    "PATH": f"{HOME}/.local/bin:{PACKAGES}/bin:/usr/local/bin:/usr/bin:/bin",
    "PIP_BREAK_SYSTEM_PACKAGES": "1",  # it breaks none: they are read-only, and it installs into HOME/.local
    "HOME": HOME,
    "TMPDIR": "/tmp",  # noqa: S108 - the sandbox's own
    "LANG": "C.UTF-8",
    "USER": "sandbox",
}


class Runners:
    """The interpreters of one machine, and what runs programs from start to end."""

    def __init__(self, guest: Guest, spec: SandboxSpec, toolchain: Callable[[str], Toolchain]) -> None:
        self._guest = guest
        self._spec = spec
        self._toolchain = toolchain
        self.made_python: Interpreter | None = None
        self.bash: StatefulBash | None = None
        self.node: Node | None = None
        self._commands: set[Command] = set()
        """Those that run now."""
        self._further: WeakSet[Interpreter] = WeakSet()
        """Those that others made, and close."""
        self._by_language: Mapping[str, Callable[[Request], Awaitable[CellEnd]]] = {
            "python": self._python,
            "bash": self._bash,
            "javascript": self._javascript,
            "rust": self._program,
            "go": self._program,
            "sh": self._command,
        }

    @property
    def python(self) -> Interpreter:
        """The interpreter of `language="python"`."""
        if self.made_python is None:
            self.made_python = self.new_interpreter(HOME)
        return self.made_python

    def new_interpreter(self, cwd: str) -> Interpreter:
        return Interpreter(self._guest, cwd, self._environment({}), self._spec.resources.output_bytes)

    def further_interpreter(self, cwd: str) -> Interpreter:
        """One that its caller closes, or `close`."""
        interpreter = self.new_interpreter(cwd)
        self._further.add(interpreter)
        return interpreter

    @property
    def further_work(self) -> bool:
        return any(interpreter.is_alive for interpreter in self._further)

    async def run(self, request: Request) -> CellEnd:
        """See `contract.Machine.execute`."""
        return await self._by_language[request.language](request)

    async def _python(self, request: Request) -> CellEnd:
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

    async def _bash(self, request: Request) -> CellEnd:
        if request.stdin is not None or request.env or request.cwd:
            raise InvalidArgument(
                "The stateful bash takes no stdin, env or cwd.",
                fix="Use `sh(..)`, or set them in the script.",
            )
        if self.bash is None:
            self.bash = self.new_bash()
        with self._guest.watching_memory() as memory:
            end = await self.bash.execute(request.code, timeout=request.timeout, on_output=request.on_output)
        end.oom = memory.killed
        return end

    def new_bash(self) -> StatefulBash:
        return StatefulBash(self._guest, HOME, self._environment({}), self._spec.resources.output_bytes)

    async def _javascript(self, request: Request) -> CellEnd:
        if self.node is None:
            self.node = self.new_node()
        return await self.node.run(request)

    def new_node(self) -> Node:
        """Raises ToolchainMissing."""
        resources = self._spec.resources
        return Node(
            self._toolchain("javascript").program,
            self._guest,
            self._environment({}),
            cwd=HOME,
            output_bytes=resources.output_bytes,
            memory_mb=resources.memory_mb,
        )

    async def _command(self, request: Request) -> CellEnd:
        return await self._from_start_to_end(request, [BASH, "-c", request.code])

    async def _program(self, request: Request) -> CellEnd:
        assert request.program is not None, "it is compiled before it comes here"
        with Room() as room:
            try:
                fd = room.sealed("main", [request.program], executable=True)
            except PermissionError:
                raise NotSupported(
                    "This system runs no programs from memory.", fix="sudo sysctl vm.memfd_noexec=1"
                ) from None
            return await self._from_start_to_end(request, [_PROGRAM], fd)

    async def _from_start_to_end(self, request: Request, argv: list[str], *more: int) -> CellEnd:
        runner = Command(self._guest, self._spec.resources.output_bytes)
        env = self._environment(request.env)
        self._commands.add(runner)
        try:
            with _handed(request.stdin) as stdin_fd, self._guest.watching_memory() as memory:
                end = await runner.run(
                    Launch(argv, request.cwd or HOME, env, more),
                    timeout=request.timeout,
                    on_output=request.on_output,
                    stdin_fd=stdin_fd,
                )
        finally:
            self._commands.discard(runner)
        end.oom = memory.killed
        return end

    def _environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        network = EGRESS if self._spec.resources.network else {}
        return {**_ENV, **network, **self._spec.env, **extra}

    def children(self) -> list[int]:
        """Numbers of the interpreters' processes."""
        every = (self.made_python, self.bash, self.node, *self._further)
        return [each.child.number for each in every if each is not None and each.child is not None]

    def living(self) -> list[Living]:
        """The interpreters that have state now."""
        every = (self.made_python, self.bash, self.node)
        return [each for each in every if each is not None and each.is_alive]

    async def end_others(self) -> None:
        """Ends the interpreters besides Python's first, with all that came of them."""
        for each in (self.bash, self.node, *self._further):
            if each is not None:
                await each.close()

    async def take_up_bash(self, script: str) -> None:
        """Makes bash what `StatefulBash.state` told; none for the empty script."""
        if script and self.bash is None:
            self.bash = self.new_bash()
        if self.bash is not None:
            await self.bash.restore(script)

    async def take_up_javascript(self, cells: Sequence[Cell]) -> tuple[int, ...]:
        """Makes JavaScript what `cells` made it; those that ended otherwise than the first time."""
        if cells and self.node is None:
            self.node = self.new_node()
        return () if self.node is None else await self.node.replay(cells)

    async def close(self) -> None:
        for command in self._commands:
            command.close()
        async with AsyncExitStack() as stack:
            for part in (self.made_python, self.bash, self.node, *self._further):
                if part is not None:
                    stack.push_async_callback(part.close)


@contextmanager
def _handed(stdin: bytes | None) -> Iterator[int | None]:
    """Standard input as a sealed memory file, for as long as an execution runs."""
    if stdin is None:
        yield None
        return
    with Room() as room:
        yield room.sealed("stdin", [stdin])
