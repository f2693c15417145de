"""A machine that runs our guest: interpreters, programs and files, over its supervisor's socket."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from typing import Any

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.core.values import ExecutorCapabilities
from terraphim_rlm.sandbox.contract import GuestLink, Request, SandboxSpec
from terraphim_rlm.sandbox.execution import CellEnd
from terraphim_rlm.sandbox.guest import Guest
from terraphim_rlm.sandbox.interpreter import Interpreter
from terraphim_rlm.sandbox.memory import sealed
from terraphim_rlm.sandbox.queue import Queue
from terraphim_rlm.sandbox.shell import Command, StatefulBash

HOME = "/work"
_ENV = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": HOME,
    "TMPDIR": "/tmp",  # noqa: S108 - the sandbox's own
    "LANG": "C.UTF-8",
    "USER": "sandbox",
}
_WIDTHS = {"sh": 32, "files": 8}
"""One-shot commands and file transfers at once; more wait. Each takes up to seven descriptors of ours."""


class GuestMachine:
    """See `contract.Machine`."""

    def __init__(self, link: GuestLink, spec: SandboxSpec) -> None:
        self.guest = Guest(link)
        self.turns = Queue(_WIDTHS)
        self._spec = spec
        self._python: Interpreter | None = None
        self._bash: StatefulBash | None = None
        self._runners: Mapping[str, Callable[[Request], Awaitable[CellEnd]]] = {
            "python": self._run_python,
            "bash": self._run_bash,
            "sh": self._run_command,
        }

    async def start(self) -> None:
        """Waits for the guest's first word.

        Raises:
            SandboxStartFailed: it did not come.
        """
        try:
            await self.guest.start()
        except BaseException:
            await self.guest.close()
            raise

    @property
    def capabilities(self) -> ExecutorCapabilities:
        return self.guest.link.capabilities

    @property
    def is_open(self) -> bool:
        return self.guest.is_open

    @property
    def python(self) -> Interpreter:
        """The interpreter of `language="python"`."""
        if self._python is None:
            self._python = self.new_interpreter()
        return self._python

    def new_interpreter(self, cwd: str = HOME) -> Interpreter:
        return Interpreter(self.guest, cwd, self._environment({}), self._spec.resources.output_bytes)

    async def execute(self, request: Request) -> CellEnd:
        return await self._runners[request.language](request)

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

    async def destroy(self) -> None:
        async with AsyncExitStack() as stack:
            for part in (self._python, self._bash):
                if part is not None:
                    stack.push_async_callback(part.close)
            stack.push_async_callback(self.guest.close)  # first: everything else has then ended


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
