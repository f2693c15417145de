"""Runs the steps of a row in sandboxes of a given backend, and sees."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from terraphim_rlm.core.errors import InvalidArgument, SandboxLost
from terraphim_rlm.core.values import ExecutionResult
from terraphim_rlm.sandbox.contract import HOME, Backend, SandboxSpec
from terraphim_rlm.sandbox.sandbox import Sandbox
from terraphim_rlm.testing.attack.conditions import LATE, MARK
from terraphim_rlm.testing.attack.lab import Lab
from terraphim_rlm.testing.attack.model import PRELUDE, Row, Seen, Step

_HANG = 10.0
"""Seconds past I2's bound after which a step is given up as hanging."""


class Hung(Exception):
    """A step did not end."""


async def run_steps(
    row: Row,
    backend: Backend,
    lab: Lab,
    mark: str,
    *,
    guest: Mapping[str, bytes] | None = None,
    binds: bool = False,
) -> list[Seen]:
    """Every step, in order; a further sandbox is opened when a step's number asks for it.

    Raises:
        Hung: a step was still running long after its time-out.
    """
    inside = {str(lab.canary.parent): str(lab.canary.parent)} if binds else {}
    spec = SandboxSpec(row.resources, {MARK: mark}, inside, guest)
    seen: list[Seen] = []
    async with AsyncExitStack() as stack:
        box, number = await stack.enter_async_context(Sandbox(backend, spec)), 1
        for step in row.steps:
            if step.sandbox != number:
                await box.close()
                box, number = await stack.enter_async_context(Sandbox(backend, spec)), step.sandbox
            seen.append(await _step(step, box, lab))
    return seen


async def _step(step: Step, box: Sandbox, lab: Lab) -> Seen:
    pieces: list[str] = []
    began = time.monotonic()
    result, refusal = None, ""
    async with _beside(step, box, lab) as beside:
        try:
            async with asyncio.timeout(step.timeout + LATE + _HANG):
                result = await _execute(step, box, _filled(step.code, lab), pieces)
        except TimeoutError:
            raise Hung(f"I2: a step was still running {LATE + _HANG:.0f} s after its time-out") from None
        except (InvalidArgument, SandboxLost) as error:
            refusal = f"{error.message} {error.fix}"
        seconds, alive = time.monotonic() - began, box.is_open
    return Seen(step, result, refusal, seconds, "".join(pieces), beside.result, alive)


async def _execute(step: Step, box: Sandbox, code: str, pieces: list[str]) -> ExecutionResult:
    def keep(_stream: str, text: str) -> None:
        if len(pieces) < 1000:
            pieces.append(text)

    extra = {name: value for name, value in (("stdin", step.stdin), ("env", dict(step.env))) if value}
    if step.language == "sh":
        return await box.sh(code, timeout=step.timeout, on_output=keep, **extra)  # type: ignore[arg-type]
    if step.language == "python":
        code = PRELUDE + code
    return await box.run(code, step.language, timeout=step.timeout, on_output=keep, **extra)  # type: ignore[arg-type]


class _Beside:
    result: ExecutionResult | None = None


@asynccontextmanager
async def _beside(step: Step, box: Sandbox, lab: Lab) -> AsyncIterator[_Beside]:
    """A second interpreter at work in the sandbox while the step runs, and given time to end by itself after it."""
    end = _Beside()
    if not step.beside:
        yield end
        return
    other = box.new_interpreter(f"{HOME}/beside")
    work = asyncio.create_task(other.execute(PRELUDE + _filled(step.beside, lab), timeout=step.timeout))
    try:
        await asyncio.wait_for(other.warm.wait(), 10)
        yield end
        with contextlib.suppress(TimeoutError):
            end.result = box.result(await asyncio.wait_for(work, step.timeout + LATE))
    finally:
        work.cancel()
        await other.close()


def _filled(code: str, lab: Lab) -> str:
    for word, value in lab.words().items():
        code = code.replace(word, value)
    return code
