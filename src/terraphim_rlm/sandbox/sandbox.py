"""A sandbox as callers use it: run code, run commands, close. Written once above every backend."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self, Unpack

from terraphim_rlm.core.errors import SandboxLost
from terraphim_rlm.core.values import ExecutionResult, ExecutorCapabilities, Resources
from terraphim_rlm.sandbox import results
from terraphim_rlm.sandbox.checks import Options, request
from terraphim_rlm.sandbox.contract import Backend, Machine, Request, SandboxSpec
from terraphim_rlm.sandbox.execution import CellEnd
from terraphim_rlm.sandbox.interpreter import Interpreter
from terraphim_rlm.sandbox.languages import SHELL, language
from terraphim_rlm.sandbox.machine import HOME


class Sandbox:
    """One isolated machine. Executions of one language run one after another, in the order of their calls."""

    def __init__(self, backend: Backend, spec: SandboxSpec) -> None:
        self._backend = backend
        self._spec = spec
        self._machine: Machine | None = None
        self._closing = asyncio.Lock()

    async def start(self) -> None:
        """Starts the machine. Idempotent.

        Raises:
            BackendUnavailable: this machine cannot run it; the fix is named.
            SandboxStartFailed: it did not come up.
        """
        if self._machine is None:
            self._machine = await self._backend.create(self._spec)

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
        """
        return await self._execute(request(code, _named(language), options), options.get("wait"))

    async def sh(self, command: str, **options: Unpack[Options]) -> ExecutionResult:
        """Runs one shell command from start to end; shares the files, not the variables, of `run`. Raises the same."""
        return await self._execute(request(command, SHELL, options), options.get("wait"))

    async def _execute(self, asked: Request, wait: float | None) -> ExecutionResult:
        machine = self.machine
        async with machine.turns.turn(asked.language, wait=wait):
            end = await machine.execute(asked)
        return self.result(end, asked.language)

    def result(self, end: CellEnd, spoken: str = "python") -> ExecutionResult:
        """An execution's end as a result of this sandbox."""
        origin = results.Origin(self._backend.name, self.capabilities.limits)
        return results.of_end(end, origin, spoken)

    async def close(self) -> None:
        """Ends the machine and everything in it. Idempotent; a second caller waits for the first."""
        async with self._closing:
            machine, self._machine = self._machine, None
            if machine is not None:
                await machine.destroy()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


_named = language  # `run` has a parameter of that name
