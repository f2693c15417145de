"""Sandboxes that do not do what they are asked for, or do more."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from typing import Any

from terraphim_rlm.core.values import ExecutionResult
from terraphim_rlm.testing.conformance.lies.wrapped import Wrapped, fault


class Without(Wrapped):
    """Leaves an option out."""

    option = ""

    async def run(self, code: Any, language: Any = "python", **options: Any) -> ExecutionResult:
        return await super().run(code, language, **self._fewer(options))

    async def sh(self, command: Any, **options: Any) -> ExecutionResult:
        return await super().sh(command, **self._fewer(options))

    def _fewer(self, options: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in options.items() if name != self.option}


@fault("ignores the folder", "state", "shell")
class IgnoresFolder(Without):
    option = "cwd"


@fault("ignores standard input", "standard input")
class IgnoresStdin(Without):
    option = "stdin"


@fault("ignores the environment", "state")
class IgnoresEnvironment(Without):
    option = "env"


@fault("waits though it was told not to", "concurrency")
class IgnoresWait(Without):
    option = "wait"


@fault("calls no callback", "callback")
class IgnoresCallback(Without):
    option = "on_output"


@fault("takes ten times the time it was given", "time-outs")
class Late(Wrapped):
    async def run(self, code: Any, language: Any = "python", **options: Any) -> ExecutionResult:
        return await super().run(code, language, **_later(options))

    async def sh(self, command: Any, **options: Any) -> ExecutionResult:
        return await super().sh(command, **_later(options))


def _later(options: dict[str, Any]) -> dict[str, Any]:
    timeout = options.get("timeout")
    return {**options, "timeout": timeout * 10} if isinstance(timeout, float) else options


@fault("lets the environment of an execution stay", "state")
class Leaks(Wrapped):
    async def run(self, code: Any, language: Any = "python", **options: Any) -> ExecutionResult:
        env = options.get("env")
        if language == "python" and isinstance(env, dict):
            await self._box.run(f"import os; os.environ.update({env!r})")
        return await super().run(code, language, **options)


@fault("goes to the folder of an execution for good", "state")
class Moves(Wrapped):
    async def run(self, code: Any, language: Any = "python", **options: Any) -> ExecutionResult:
        if language == "python" and isinstance(options.get("cwd"), str):
            await self._box.run(f"import os; os.chdir({options['cwd']!r})")
        return await super().run(code, language, **options)


@fault("cuts standard input after 64 KB", "standard input")
class CutsStdin(Wrapped):
    async def run(self, code: Any, language: Any = "python", **options: Any) -> ExecutionResult:
        return await super().run(code, language, **_cut(options))

    async def sh(self, command: Any, **options: Any) -> ExecutionResult:
        return await super().sh(command, **_cut(options))


def _cut(options: dict[str, Any]) -> dict[str, Any]:
    stdin = options.get("stdin")
    return {**options, "stdin": stdin[:65_536]} if isinstance(stdin, str | bytes) else options


@fault("expands standard input as a shell would", "standard input")
class Expands(Wrapped):
    async def sh(self, command: Any, **options: Any) -> ExecutionResult:
        stdin = options.get("stdin")
        if isinstance(stdin, str) and '"' not in command:
            told = stdin.replace("$HOME", "/work")
            return await super().sh(command, **{**options, "stdin": told})
        return await super().sh(command, **options)


@fault("calls the callback only at the end", "callback")
class CallsLate(Wrapped):
    async def run(self, code: Any, language: Any = "python", **options: Any) -> ExecutionResult:
        hear = options.pop("on_output", None)
        return _heard(await super().run(code, language, **options), hear)

    async def sh(self, command: Any, **options: Any) -> ExecutionResult:
        hear = options.pop("on_output", None)
        return _heard(await super().sh(command, **options), hear)


def _heard(result: ExecutionResult, hear: Any) -> ExecutionResult:
    for name, text in (("stdout", result.stdout), ("stderr", result.stderr)):
        if hear is not None and text:
            hear(name, text)
    return result


@fault("swallows what a callback raises", "callback")
class Swallows(Wrapped):
    async def run(self, code: Any, language: Any = "python", **options: Any) -> ExecutionResult:
        return await super().run(code, language, **_quiet(options))

    async def sh(self, command: Any, **options: Any) -> ExecutionResult:
        return await super().sh(command, **_quiet(options))


def _quiet(options: dict[str, Any]) -> dict[str, Any]:
    hear = options.get("on_output")
    if hear is None:
        return options

    def heard(stream: str, text: str) -> None:
        with contextlib.suppress(Exception):
            hear(stream, text)

    return {**options, "on_output": heard}


@fault("leaves processes of a command that ran out of time", "time-outs")
class LeavesProcesses(Wrapped):
    async def sh(self, command: Any, **options: Any) -> ExecutionResult:
        result = await super().sh(command, **options)
        if result.status == "timeout":
            again = f"setsid bash -c {shlex.quote(command)} </dev/null >/dev/null 2>&1 & sleep 0.1"
            await self._box.sh(again)
        return result


class OutOfTime(Exception):
    """What a sandbox should never raise of code that took too long."""


@fault("raises where an execution ran out of time", "time-outs", raises=(OutOfTime,))
class Raises(Wrapped):
    def told(self, result: ExecutionResult) -> ExecutionResult:
        if result.status == "timeout":
            raise OutOfTime
        return result


@fault("tries code that failed once more", "state")
class Retries(Wrapped):
    async def run(self, code: Any, language: Any = "python", **options: Any) -> ExecutionResult:
        result = await super().run(code, language, **options)
        return await super().run(code, language, **options) if result.status == "exit_nonzero" else result


@fault("loses variables after an exception", "state")
class LosesVariables(Wrapped):
    async def run(self, code: Any, language: Any = "python", **options: Any) -> ExecutionResult:
        result = await super().run(code, language, **options)
        if language == "python" and result.error is not None:
            await self._box.run("import os; os._exit(0)")
        return result


@fault("runs each bash script in a shell of its own", "bash")
class ForgetsBash(Wrapped):
    async def run(self, code: Any, language: Any = "python", **options: Any) -> ExecutionResult:
        if language == "bash":
            return await super().sh(code, **options)
        return await super().run(code, language, **options)


@fault("makes bash anew after each failure", "bash")
class RestartsBash(Wrapped):
    async def run(self, code: Any, language: Any = "python", **options: Any) -> ExecutionResult:
        result = await super().run(code, language, **options)
        if language == "bash" and result.status == "exit_nonzero":
            await self._box.run("exit", "bash")
        return result


@fault("guesses a language that it does not know", "hostile input")
class Guesses(Wrapped):
    async def run(self, code: Any, language: Any = "python", **options: Any) -> ExecutionResult:
        known = language in self._box.capabilities.languages
        return await super().run(code, language if known else "python", **options)


@fault("runs code of a caller who left the queue", "concurrency")
class RunsAnyway(Wrapped):
    async def run(self, code: Any, language: Any = "python", **options: Any) -> ExecutionResult:
        return self.told(await asyncio.shield(self._box.run(code, language, **options)))
