"""Where a row plays: the sandboxes that it opens, the steps that it runs in them, and what was seen of both."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from terraphim_rlm.core.errors import InternalError, InvalidArgument, RlmError, SandboxLost
from terraphim_rlm.core.values import ExecutionResult
from terraphim_rlm.sandbox.contract import HOME, Backend, SandboxSpec
from terraphim_rlm.sandbox.sandbox import Sandbox
from terraphim_rlm.testing.attack.conditions import MARK
from terraphim_rlm.testing.attack.lab import Lab
from terraphim_rlm.testing.attack.model import HANG, LATE, PRELUDE, Row, Seen, Step
from terraphim_rlm.testing.attack.service import Service


class Hung(Exception):
    """A step did not end."""


class Stage:
    """One playing of one row.

    Args:
        mark: in the environment of everything that the row runs.
        seed: whatever is random about the row follows from it; payloads have it as `@SEED@`.
        off: protections that are off, for processes that the row starts; in this one they are off already.
    """

    def __init__(
        self, row: Row, backend: Backend, lab: Lab, mark: str, seed: int = 0, off: Sequence[str] = ()
    ) -> None:
        self.row = row
        self.backend = backend
        self.lab = lab
        self.mark = mark
        self.off = tuple(off)
        self.random = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self.seen: list[Seen] = []
        self.wrongs: list[str] = []
        self.harms: list[str] = []
        self.words: Mapping[str, str] = {**lab.words(), "@SEED@": str(seed)}
        self._service = Service(lab, off)

    @property
    def service(self) -> Service:
        """The daemon of sessions; the row must have said that it needs it."""
        assert "service" in self.row.needs, f"{self.row.id} does not say that it needs the service"
        return self._service

    async def play(self) -> None:
        """Runs the steps, then the act.

        Raises:
            Hung: a step was still running long after its time-out.
        """
        async with AsyncExitStack() as stack:
            if "service" in self.row.needs:
                await stack.enter_async_context(self._service)
            await self._steps()
            if self.row.act is not None:
                await self.row.act(self)
            if "service" in self.row.needs:
                self.wrongs += await self._service.breaches()

    async def _steps(self) -> None:
        """Every step, in order; a further sandbox is opened when a step's number asks for it."""
        if not self.row.steps:
            return
        async with AsyncExitStack() as stack:
            box, number = await stack.enter_async_context(self.box()), 1
            for step in self.row.steps:
                if step.sandbox != number:
                    await box.close()
                    box, number = await stack.enter_async_context(self.box()), step.sandbox
                await self.step(box, step)

    def box(self, **spec: Any) -> Sandbox:
        """A sandbox of the row's, not started; `spec` are fields of `SandboxSpec`."""
        folder = str(self.lab.canary.parent)
        own: dict[str, Any] = {
            "resources": self.row.resources,
            "env": {MARK: self.mark},
            "binds": {folder: folder} if self.row.binds else {},
        }
        return Sandbox(self.backend, SandboxSpec(**{**own, **spec}))

    async def step(self, box: Sandbox, step: Step) -> Seen:
        """Runs a step and keeps what was seen of it."""
        self.seen.append(await _run(step, box, self))
        return self.seen[-1]

    def harm(self, what: str) -> None:
        """Something was got that nobody may get."""
        self.harms.append(what)

    def expect(self, holds: bool, otherwise: str) -> None:
        """Something is wrong, though nothing was got."""
        if not holds:
            self.wrongs.append(otherwise)

    def saw(self, data: bytes | str, where: str) -> None:
        """Looks for the canary in what came out of the product."""
        secret = self.lab.secret
        if secret in data if isinstance(data, str) else secret.encode() in data:
            self.harm(f"the canary came out by {where}")

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """What the product may answer with: errors of its own, none of them its fault."""
        try:
            yield
        except RlmError as error:
            self.expect(not isinstance(error, InternalError), f"{type(error).__name__}: {error.message}")

    def filled(self, code: str) -> str:
        for word, value in self.words.items():
            code = code.replace(word, value)
        return code


async def _run(step: Step, box: Sandbox, stage: Stage) -> Seen:
    pieces: list[str] = []
    began = time.monotonic()
    result, refusal = None, ""
    async with _beside(step, box, stage) as beside:
        try:
            async with asyncio.timeout(step.timeout + LATE + HANG):
                result = await _execute(step, box, stage.filled(step.code), pieces)
        except TimeoutError:
            raise Hung(f"I2: a step was still running {LATE + HANG:.0f} s after its time-out") from None
        except (InvalidArgument, SandboxLost) as error:
            refusal = f"{error.message} {error.fix}"
        seconds, alive = time.monotonic() - began, box.is_open
    return Seen(step, result, refusal, seconds, "".join(pieces), beside.result, alive)


async def _execute(step: Step, box: Sandbox, code: str, pieces: list[str]) -> ExecutionResult:
    def keep(_stream: str, text: str) -> None:
        if len(pieces) < 1000:
            pieces.append(text)

    given = {"stdin": step.stdin, "env": dict(step.env), "cwd": step.cwd}
    extra: dict[str, Any] = {name: value for name, value in given.items() if value}
    if step.language == "sh":
        return await box.sh(code, timeout=step.timeout, on_output=keep, **extra)
    if step.language == "python":
        code = PRELUDE + code
    return await box.run(code, step.language, timeout=step.timeout, on_output=keep, **extra)


class _Beside:
    result: ExecutionResult | None = None


@asynccontextmanager
async def _beside(step: Step, box: Sandbox, stage: Stage) -> AsyncIterator[_Beside]:
    """A second interpreter at work in the sandbox while the step runs, and given time to end by itself after it."""
    end = _Beside()
    if not step.beside:
        yield end
        return
    other = box.new_interpreter(f"{HOME}/beside")
    work = asyncio.create_task(other.execute(PRELUDE + stage.filled(step.beside), timeout=step.timeout))
    try:
        await asyncio.wait_for(other.warm.wait(), 10)
        yield end
        with contextlib.suppress(TimeoutError):
            end.result = box.result(await asyncio.wait_for(work, step.timeout + LATE))
    finally:
        work.cancel()
        await other.close()
