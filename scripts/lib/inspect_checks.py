"""Inspect's own checks of sandbox providers, over ours. Run by `scripts/lib/inspect-checks`, where Inspect is installed."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from inspect_ai.util import (
    ExecResult,
    OutputLimitExceededError,
    SandboxEnvironment,
    SandboxEnvironmentLimits,
    SandboxUserUnsupportedError,
)
from inspect_ai.util._sandbox.self_check import *  # noqa: F403 - pytest collects them here

from terraphim_rlm import Resources, Sandbox, open_sandbox
from terraphim_rlm.core.errors import FileTooLarge, PathDenied, PathIsFolder, PathNotFound

pytestmark = pytest.mark.anyio
USER = "sandbox"
_NOT_EXECUTABLE = 126
"""What a shell ends with where it may not run a program."""
_MOST_COMMAND = 30_000
"""Characters, so that four bytes for each stay below what Linux takes as one argument."""
IMPOSSIBLE = {
    "test_exec_as_user": "no user of a sandbox may become root or make users: that is what it is for",
}


class Provider(SandboxEnvironment):
    """One of our sandboxes, as Inspect uses them."""

    def __init__(self, box: Sandbox) -> None:
        super().__init__()
        self._box = box

    async def exec(
        self,
        cmd: list[str],
        input: str | bytes | None = None,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        user: str | None = None,
        timeout: int | None = None,
        timeout_retry: bool = True,
        concurrency: bool = True,
    ) -> ExecResult[str]:
        """Never runs a command twice, whatever `timeout_retry` is: it may have done half of its work."""
        if user not in (None, USER):
            raise SandboxUserUnsupportedError(f"There is no user but {USER}; {user!r} was asked for.")
        asked: dict[str, Any] = {"stdin": input, "cwd": cwd, "env": env, "timeout": timeout}
        options = {name: value for name, value in asked.items() if value is not None}
        async with self._written(shlex.join(cmd)) as command:
            result = await self._box.sh(command, **options)
        if result.status == "timeout":
            raise TimeoutError(f"{cmd[0]} was not over after {timeout} s.")
        if result.truncated:
            raise OutputLimitExceededError(SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE_STR, result.stdout)
        if result.exit_code == _NOT_EXECUTABLE and "Permission denied" in result.stderr:
            raise PermissionError(result.stderr.strip())
        code = result.exit_code if result.exit_code is not None else 128 + (result.signal or 9)
        return ExecResult(code == 0, code, result.stdout, result.stderr)

    @asynccontextmanager
    async def _written(self, command: str) -> AsyncIterator[str]:
        """A command that says the same; what is too long for an argument is read from a file."""
        if len(command) <= _MOST_COMMAND:
            yield command
            return
        script = f"/tmp/.inspect-{secrets.token_hex(8)}"  # noqa: S108 - the sandbox's own
        await self._box.files.write(script, command)
        try:
            yield f". {script}"
        finally:
            await self._box.files.remove(script)

    async def write_file(self, file: str, contents: str | bytes) -> None:
        with _as_os_errors():
            await self._box.files.write(file, contents)

    async def read_file(self, file: str, text: bool = True) -> Any:
        with _as_os_errors():
            content = await self._box.files.read(file, limit=SandboxEnvironmentLimits.MAX_READ_FILE_SIZE)
        return content.decode() if text else content

    @classmethod
    async def sample_cleanup(cls, *_: Any, **__: Any) -> None:
        """The fixture closes what it opened."""


@contextmanager
def _as_os_errors() -> Iterator[None]:
    try:
        yield
    except PathNotFound as error:
        raise FileNotFoundError(str(error)) from error
    except PathDenied as error:
        raise PermissionError(str(error)) from error
    except PathIsFolder as error:
        raise IsADirectoryError(f"{error} (a directory)") from error
    except FileTooLarge as error:
        raise OutputLimitExceededError(SandboxEnvironmentLimits.MAX_READ_FILE_SIZE_STR, None) from error


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def box(anyio_backend: str) -> AsyncIterator[Sandbox]:
    limits = Resources(output_bytes=SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE)
    async with open_sandbox("bubblewrap", resources=limits) as opened:
        yield opened


@pytest.fixture
def sandbox_env(box: Sandbox, request: pytest.FixtureRequest) -> Provider:
    reason = IMPOSSIBLE.get(request.node.originalname)
    if reason:
        request.applymarker(pytest.mark.xfail(reason=reason, raises=SandboxUserUnsupportedError, strict=True))
    return Provider(box)
