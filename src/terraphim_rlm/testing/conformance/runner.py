"""Runs cases on a target, each within its time, and sums up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

from terraphim_rlm.testing.conformance.checks import Tidy
from terraphim_rlm.testing.conformance.model import Box, Case, Outcome, Target, lacking

_OPEN_SECONDS = 60.0
_LATE = 10.0
"""Seconds that a case which is out of time has to take its cancellation; then it is left behind."""


class _Held:
    """A sandbox held open across cases. One task opens and closes it: context managers may be bound to their task."""

    def __init__(self, target: Target) -> None:
        self._over = asyncio.Event()
        self._ready: asyncio.Future[Box] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._hold(target))

    async def _hold(self, target: Target) -> None:
        try:
            async with target.open() as box:
                self._ready.set_result(box)
                await self._over.wait()
        except Exception as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    async def box(self) -> Box:
        return await asyncio.wait_for(asyncio.shield(self._ready), _OPEN_SECONDS)

    async def close(self) -> None:
        """Raises what closing raised."""
        self._over.set()
        await _bounded(self._task, _OPEN_SECONDS, "closing the sandbox")


class Conformance:
    """A target under test. An async context manager; cases run one after another."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._held: _Held | None = None
        self._capabilities: Any = None

    async def __aenter__(self) -> Self:
        box = await self._shared()
        self._capabilities = box.capabilities
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._drop()

    @property
    def capabilities(self) -> Any:
        """What the target says of itself."""
        assert self._capabilities is not None, "enter it first"
        return self._capabilities

    async def run(self, case: Case) -> Outcome:
        """Runs one case, or says what the target lacks for it."""
        for need in case.needs:
            if why := lacking(need, self.capabilities):
                return Outcome(case, "skipped", why)
        began = time.monotonic()
        outcome = await self._judged(case, began)
        if outcome.verdict == "failed" and case.gets == "shared":
            await self._drop()  # what it left is nobody's to trust
        return outcome

    async def _judged(self, case: Case, began: float) -> Outcome:
        try:
            await _bounded(asyncio.ensure_future(self._work(case)), case.seconds, "the case")
        except Exception as error:
            why = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
            return Outcome(case, "failed", why, time.monotonic() - began, error)
        return Outcome(case, "passed", "", time.monotonic() - began)

    async def _work(self, case: Case) -> None:
        if case.gets == "opener":
            async with Tidy():
                await case.run(self.target.open)
        elif case.gets == "fresh":
            async with self.target.open(resources=case.resources) as box, Tidy():
                await case.run(box)
        else:
            async with Tidy():
                await case.run(await self._shared())

    async def _shared(self) -> Box:
        if self._held is None:
            self._held = _Held(self.target)
        return await self._held.box()

    async def _drop(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            await held.close()


async def _bounded(task: asyncio.Future[Any], seconds: float, what: str) -> None:
    """Waits for a task. One that is neither over in time nor takes its cancellation is left behind.

    Raises:
        TimeoutError: it was not over in time.
    """
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if done:
        task.result()
        return
    task.cancel()
    await asyncio.wait({task}, timeout=_LATE)
    raise TimeoutError(f"{what} was not over after {seconds:g} s")


async def run_all(
    target: Target, cases: Iterable[Case], emit: Callable[[Outcome], None] | None = None
) -> list[Outcome]:
    """Every case in order; `emit` gets each outcome as it comes."""
    outcomes = []
    async with Conformance(target) as conformance:
        for case in cases:
            outcome = await conformance.run(case)
            outcomes.append(outcome)
            if emit is not None:
                emit(outcome)
    return outcomes


def summary(target: str, outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """`{"target", "passed", "failed": [names], "skipped": {name: reason}, "of"}`."""
    all_of = list(outcomes)
    return {
        "target": target,
        "passed": sum(each.verdict == "passed" for each in all_of),
        "failed": [each.case.name for each in all_of if each.verdict == "failed"],
        "skipped": {each.case.name: each.why for each in all_of if each.verdict == "skipped"},
        "of": len(all_of),
    }
