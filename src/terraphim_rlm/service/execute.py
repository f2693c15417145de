"""The use case of one piece of code: a sandbox of its own, run, written down, gone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from terraphim_rlm.core.clock import SYSTEM_CLOCK
from terraphim_rlm.core.values import ExecutionResult, Resources
from terraphim_rlm.guard.default import make_guard
from terraphim_rlm.guard.judging import GuardMode
from terraphim_rlm.sandbox.contract import SandboxSpec
from terraphim_rlm.sandbox.languages.table import SPOKEN, language
from terraphim_rlm.sandbox.link.streams import OnOutput
from terraphim_rlm.sandbox.packages.requirements import normalised
from terraphim_rlm.sandbox.sandbox import Sandbox
from terraphim_rlm.sandbox.selection import choose
from terraphim_rlm.service.executions import Execution, check
from terraphim_rlm.service.live import Live, Made
from terraphim_rlm.store.journal import Journal

_LONGEST_ARGUMENT = 100_000
"""Bytes of a script that is handed over as one argument; Linux refuses 131,072."""
_SECONDS = 31_536_000.0
"""How long its session may last: as long as an execution may."""


@dataclass(frozen=True, slots=True)
class ExecuteRequest:
    """One piece of code to run in a sandbox of its own."""

    execution: Execution
    sandbox: str = "auto"
    resources: Resources = field(default_factory=Resources)
    packages: tuple[str, ...] = ()
    """Python packages for the code to import."""
    guard: GuardMode = "block"
    """How the rules on the code act."""


async def execute(
    request: ExecuteRequest,
    *,
    on_output: OnOutput | None = None,
    on_step: Callable[[str], None] | None = None,
) -> ExecutionResult:
    """Runs it in a fresh sandbox. What the code does wrong is in the result; the journal keeps both.

    Args:
        on_output: gets (`stdout` or `stderr`, text) as it comes.
        on_step: gets a line for each step of fetching packages.

    Raises:
        InvalidArgument: the request asks for what cannot be.
        PackageNotFound: a package is not to be had.
        BackendError: there is no sandbox to be had, or no package index; the fix is named.
        StoreError: it could not be written down.
    """
    execution = _fitting(request.execution)
    check(execution)
    packages = normalised(request.packages)
    spec = SandboxSpec(request.resources, packages=packages, on_step=on_step)
    guard = make_guard(request.guard)
    with Journal() as journal:
        async with guard, await choose(request.sandbox) as backend, Sandbox(backend, spec) as box:
            made = Made(backend.name, packages=packages, once=True, guard=request.guard)
            live = Live(box, made, journal, SYSTEM_CLOCK, guard, _SECONDS)
            try:
                return await live.executions.execute(execution, on_output=on_output)
            finally:
                live.tell("session.destroyed")


def _fitting(execution: Execution) -> Execution:
    """In a fresh sandbox both shells are the same: the one-shot takes input and variables, the other any length."""
    if language(execution.language, SPOKEN).name not in ("sh", "bash"):
        return execution
    long = len(execution.code.encode("utf-8", "replace")) > _LONGEST_ARGUMENT
    plain = execution.stdin is None and not execution.env
    return replace(execution, language="bash" if long and plain else "sh")
