"""The use case of one piece of code: a sandbox of its own, run, gone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.core.values import ExecutionResult, Resources
from terraphim_rlm.sandbox.opening import open_sandbox
from terraphim_rlm.sandbox.streams import OnOutput

LANGUAGES = ("python", "bash", "sh")
_LONGEST_ARGUMENT = 100_000
"""Bytes of a script that is handed over as one argument; Linux refuses 131,072."""


@dataclass(frozen=True, slots=True)
class ExecuteRequest:
    """One piece of code to run."""

    code: str
    language: str = "python"
    """`python`, `bash` or `sh` (which is bash, too)."""
    timeout: float | None = 30.0
    """Seconds; None = as long as it takes."""
    stdin: bytes | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    sandbox: str = "auto"
    resources: Resources = field(default_factory=Resources)


async def execute(request: ExecuteRequest, *, on_output: OnOutput | None = None) -> ExecutionResult:
    """Runs it in a fresh sandbox. What the code does wrong is in the result.

    Args:
        on_output: gets (`stdout` or `stderr`, text) as it comes.

    Raises:
        InvalidArgument: the request asks for what cannot be.
        BackendError: there is no sandbox to be had; the fix is named.
    """
    if request.language not in LANGUAGES:
        raise InvalidArgument(
            f"There is no language {request.language[:40]!r} here.",
            fix=f"Use one of: {', '.join(LANGUAGES)}.",
            language=request.language[:40],
        )
    long = len(request.code.encode("utf-8", "replace")) > _LONGEST_ARGUMENT
    async with open_sandbox(request.sandbox, resources=request.resources) as box:
        if request.language == "python":
            return await box.run(
                request.code,
                timeout=request.timeout,
                stdin=request.stdin,
                env=request.env or None,
                on_output=on_output,
            )
        if long and request.stdin is None and not request.env:
            return await box.run(request.code, "bash", timeout=request.timeout, on_output=on_output)
        return await box.sh(
            request.code,
            timeout=request.timeout,
            stdin=request.stdin,
            env=request.env or None,
            on_output=on_output,
        )
