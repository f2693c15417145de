"""A sandbox as callers use it: run code, run commands, close. Written once above every backend."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

from terraphim_rlm.core.errors import InvalidArgument, SandboxLost
from terraphim_rlm.core.values import ExecutionResult, ExecutorCapabilities, Resources
from terraphim_rlm.sandbox import results
from terraphim_rlm.sandbox.contract import Backend, SandboxSpec
from terraphim_rlm.sandbox.execution import CellEnd
from terraphim_rlm.sandbox.guest import Guest
from terraphim_rlm.sandbox.interpreter import Interpreter
from terraphim_rlm.sandbox.memory import sealed
from terraphim_rlm.sandbox.shell import Command, StatefulBash
from terraphim_rlm.sandbox.streams import OnOutput

HOME = "/work"
LANGUAGES = ("python", "bash")
_ENV = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": HOME,
    "TMPDIR": "/tmp",  # noqa: S108 - the sandbox's own
    "LANG": "C.UTF-8",
    "USER": "sandbox",
}
_MOST_COMMAND = 128 * 1024 - 1
"""Bytes of one argument of a program (MAX_ARG_STRLEN of Linux)."""
_MOST_ENV = 16_384
_MOST_COMMANDS = 32
"""One-shot commands at once; more wait. Each takes seven descriptors of ours."""
_DENIED_ENV = ("LD_", "BASH_ENV", "ENV", "PYTHONHOME", "GIT_")


class Sandbox:
    """One isolated machine. Executions of one interpreter run one after another, in the order of their calls."""

    def __init__(self, backend: Backend, spec: SandboxSpec) -> None:
        self._backend = backend
        self._spec = spec
        self._guest: Guest | None = None
        self._python: Interpreter | None = None
        self._bash: StatefulBash | None = None
        self._locks = {"python": asyncio.Lock(), "bash": asyncio.Lock()}
        self._closing = asyncio.Lock()
        self._commands = asyncio.Semaphore(_MOST_COMMANDS)

    async def start(self) -> None:
        """Starts the machine. Idempotent.

        Raises:
            BackendUnavailable: this machine cannot run it; the fix is named.
            SandboxStartFailed: it did not come up.
        """
        if self._guest is not None:
            return
        guest = Guest(await self._backend.create(self._spec))
        try:
            await guest.start()
        except BaseException:
            await guest.close()
            raise
        self._guest = guest

    @property
    def guest(self) -> Guest:
        if self._guest is None:
            raise SandboxLost("The sandbox is not open.", fix="Use `async with open_sandbox(..) as box`.")
        return self._guest

    @property
    def capabilities(self) -> ExecutorCapabilities:
        return self.guest.link.capabilities

    @property
    def resources(self) -> Resources:
        return self._spec.resources

    def new_interpreter(self, cwd: str = HOME) -> Interpreter:
        """A further Python interpreter in this sandbox, with its own folder, output and variables."""
        return Interpreter(self.guest, cwd, self._environment({}), self._spec.resources.output_bytes)

    @property
    def python(self) -> Interpreter:
        """The interpreter that `run` uses."""
        if self._python is None:
            self._python = self.new_interpreter()
        return self._python

    async def run(
        self,
        code: str,
        language: str = "python",
        *,
        timeout: float | None = 30.0,
        stdin: str | bytes | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        on_output: OnOutput | None = None,
    ) -> ExecutionResult:
        """Runs code in the stateful interpreter of `language`.

        Args:
            timeout: seconds; at its end the code is interrupted, and after one more second killed.
            stdin, env, cwd: for this execution only.
            on_output: gets (`stdout` or `stderr`, text) as it comes.
        """
        _check(code, timeout, env, cwd)
        if language == "bash":
            _check_shell(code)
        if language not in LANGUAGES:
            raise InvalidArgument(
                f"Language {language!r} is not one of {', '.join(LANGUAGES)}.", language=language
            )
        async with self._locks[language]:
            if language == "bash":
                return await self._run_bash(code, timeout, stdin, env, cwd, on_output)
            return await self._run_python(code, timeout, stdin, env, cwd, on_output)

    async def _run_python(
        self,
        code: str,
        timeout: float | None,
        stdin: str | bytes | None,
        env: Mapping[str, str] | None,
        cwd: str | None,
        on_output: OnOutput | None,
    ) -> ExecutionResult:
        before = self.guest.link.oom_kills()
        options: dict[str, Any] = {"env": dict(env or {}), "cwd": cwd} if env or cwd else {}
        with _Input(stdin) as stdin_fd:
            end = await self.python.execute(
                code, timeout=timeout, on_output=on_output, options=options, stdin_fd=stdin_fd
            )
        return self.result(end, before)

    async def _run_bash(
        self,
        code: str,
        timeout: float | None,
        stdin: str | bytes | None,
        env: Mapping[str, str] | None,
        cwd: str | None,
        on_output: OnOutput | None,
    ) -> ExecutionResult:
        if stdin is not None or env or cwd:
            raise InvalidArgument(
                "The stateful bash takes no stdin, env or cwd.",
                fix="Use `sh(..)`, or set them in the script.",
            )
        if self._bash is None:
            self._bash = StatefulBash(
                self.guest, HOME, self._environment({}), self._spec.resources.output_bytes
            )
        before = self.guest.link.oom_kills()
        return self.result(await self._bash.execute(code, timeout=timeout, on_output=on_output), before)

    async def sh(
        self,
        command: str,
        *,
        timeout: float | None = 30.0,
        stdin: str | bytes | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        on_output: OnOutput | None = None,
    ) -> ExecutionResult:
        """Runs one shell command from start to end; shares the files, not the variables, of `run`."""
        _check(command, timeout, env, cwd)
        _check_shell(command)
        if len(command.encode("utf-8", "surrogateescape")) > _MOST_COMMAND:
            raise InvalidArgument(
                f"A shell command of {len(command):,} characters is longer than a system takes.",
                fix='Use `run(.., language="bash")`, or give the long part as `stdin`.',
            )
        runner = Command(self.guest, self._spec.resources.output_bytes)
        async with self._commands:
            before = self.guest.link.oom_kills()
            with _Input(stdin) as stdin_fd:
                end = await runner.run(
                    command,
                    cwd=cwd or HOME,
                    env=self._environment(env or {}),
                    timeout=timeout,
                    on_output=on_output,
                    stdin_fd=stdin_fd,
                )
        result = self.result(end, before)
        # A one-shot shell has no state that could be lost.
        return _without_state(result, end)

    def result(self, end: CellEnd, oom_before: int) -> ExecutionResult:
        """A cell's end as a result of this sandbox."""
        link = self.guest.link
        origin = results.Origin(self._backend.name, link.capabilities.limits)
        return results.of_cell(end, origin, link.oom_kills() > oom_before)

    def _environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        return {**_ENV, **self._spec.env, **extra}

    async def close(self) -> None:
        """Ends the machine and everything in it. Idempotent; a second caller waits for the first."""
        async with self._closing:
            await self._close()

    async def _close(self) -> None:
        guest, self._guest = self._guest, None
        if guest is None:
            return
        async with AsyncExitStack() as stack:
            for part in (self._python, self._bash):
                if part is not None:
                    stack.push_async_callback(part.close)
            stack.push_async_callback(guest.close)  # first: everything else has then ended

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class _Input:
    """Standard input as a sealed memory file, for as long as an execution runs."""

    def __init__(self, stdin: str | bytes | None) -> None:
        self._data = stdin.encode("utf-8", "surrogatepass") if isinstance(stdin, str) else stdin
        self._fd: int | None = None

    def __enter__(self) -> int | None:
        if self._data is not None:
            self._fd = sealed("stdin", [self._data])
        return self._fd

    def __exit__(self, *exc: object) -> None:
        if self._fd is not None:
            os.close(self._fd)


def _check(code: str, timeout: float | None, env: Mapping[str, str] | None, cwd: str | None) -> None:
    if not isinstance(code, str):
        raise InvalidArgument(f"Code must be text, not {type(code).__name__}.")
    if timeout is not None and not (isinstance(timeout, (int, float)) and 0 < timeout <= 31_536_000):
        raise InvalidArgument(
            f"A time-out must be more than 0 seconds, not {timeout!r}.", timeout=str(timeout)
        )
    if cwd is not None and not _is_plain(cwd):
        raise InvalidArgument(f"The folder {cwd!r} is no path.")
    for name, value in (env or {}).items():
        if not (_is_plain(name) and _is_plain(value)) or "=" in name or name.startswith(_DENIED_ENV):
            raise InvalidArgument(f"The environment variable {name!r} may not be set for code in a sandbox.")
        if not name or len(name) + len(value) > _MOST_ENV:
            raise InvalidArgument(f"The environment variable {name!r} is empty or too long.")


def _check_shell(code: str) -> None:
    if not _is_plain(code):
        raise InvalidArgument("A shell command cannot hold NUL bytes or halves of surrogate pairs.")


def _is_plain(text: object) -> bool:
    """Whether it is text that a system call takes."""
    if not isinstance(text, str) or "\0" in text:
        return False
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def _without_state(result: ExecutionResult, end: CellEnd) -> ExecutionResult:
    from dataclasses import replace

    said = (f"{end.note[0].upper()}{end.note[1:]}.",) if end.note else ()
    kept = tuple(note for note in result.notes if not note.startswith("The interpreter"))
    return replace(result, state_after="kept", notes=said + kept)
