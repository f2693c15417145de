"""Runs rows and their controls against a backend, and judges them."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from terraphim_rlm.core.errors import NotSupported, RlmError
from terraphim_rlm.core.values import ExecutorCapabilities
from terraphim_rlm.sandbox.contract import Backend
from terraphim_rlm.sandbox.selection import choose
from terraphim_rlm.testing.attack import conditions
from terraphim_rlm.testing.attack.bottle import in_bottle, why_none
from terraphim_rlm.testing.attack.harm import harm_done
from terraphim_rlm.testing.attack.lab import Lab
from terraphim_rlm.testing.attack.model import Outcome, Row, Seen
from terraphim_rlm.testing.attack.neighbour import Neighbour
from terraphim_rlm.testing.attack.network import Sinks
from terraphim_rlm.testing.attack.protections import PROTECTIONS
from terraphim_rlm.testing.attack.stage import Hung, Stage

_GROUPS = {"memory-group": "memory", "pids-group": "pids", "cpu-group": "cpu"}
_IN_BOTTLES = ("network", "bottle")
_LEAVE_SECONDS = 10.0
"""That a row which is given up has to let go."""


class Harness:
    """One backend under attack, with a neighbour beside it. An async context manager.

    Args:
        sinks: those of the bottle in which this runs.
    """

    def __init__(self, lab: Lab, sinks: Sinks | None = None, backend: str = "bubblewrap") -> None:
        self._lab = lab
        self._sinks = sinks
        self._name = backend
        self._stack = AsyncExitStack()
        self._inside = sinks is not None
        self._no_bottle = "" if self._inside else None

    async def __aenter__(self) -> Self:
        self.backend: Backend = await self._stack.enter_async_context(await choose(self._name))
        self.capabilities: ExecutorCapabilities = await self.backend.probe()
        self._neighbour = await self._stack.enter_async_context(Neighbour(self.backend))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def row(self, row: Row, seed: int = 0) -> Outcome:
        """Runs a row where it belongs: here, or in a bottle when it names addresses."""
        if missing := await self._missing(row):
            return Outcome(row.id, "row", "not_run", missing)
        if not self._inside and any(need in _IN_BOTTLES for need in row.needs):
            return await in_bottle("row", row, self._lab, seed, self._name)
        return await self.run_row(row, seed)

    async def control(self, row: Row) -> Outcome:
        """Runs a row's control, in a bottle: bubblewrap's, whose protections can be taken off one by one."""
        if self._name != "bubblewrap":
            return Outcome(row.id, "control", "not_run", "bubblewrap's attack proves that it is one")
        if not row.off:
            return Outcome(row.id, "control", "not_run", row.no_control or "only P0 rows have controls")
        for name in row.off:
            if lacking := PROTECTIONS[name].nothing_to_hide():
                return Outcome(row.id, "control", "not_run", lacking)
        if missing := await self._bottle() or await self._missing(row):
            return Outcome(row.id, "control", "not_run", missing)
        return await in_bottle("control", row, self._lab)

    async def run_row(self, row: Row, seed: int = 0) -> Outcome:
        """Runs a row in this very process and checks every condition after it."""
        mark = secrets.token_hex(8)
        self._lab.renew()
        if self._sinks is not None:
            self._sinks.harm()
        await self._neighbour.revive()
        before = conditions.baseline(self._lab)
        self._neighbour.watch()
        began = time.monotonic()
        stage = Stage(row, self.backend, self._lab, mark, seed)
        if failure := await _played(stage):
            if failure.startswith(f"{NotSupported.__name__}: ") and self._name != "bubblewrap":
                return Outcome(row.id, "row", "not_run", failure.partition(": ")[2])
            return Outcome(
                row.id, "row", "failed", failure, time.monotonic() - began, hung=failure.startswith("I2")
            )
        seconds = time.monotonic() - began
        wrong = [*_wrong(row, stage.seen), *dict.fromkeys(stage.wrongs), *harm_done(stage, self._sinks)]
        wrong += self._neighbour.breach()
        wrong += await conditions.breaches(before, self._lab, stage.seen, mark)
        return Outcome(row.id, "row", "failed" if wrong else "passed", "; ".join(wrong), seconds)

    async def _missing(self, row: Row) -> str:
        for need in row.needs:
            if need in _IN_BOTTLES:
                if missing := await self._bottle():
                    return missing
            elif need in _GROUPS:
                if (held := self.capabilities.limits.get(_GROUPS[need], "none")) != "kernel-group":
                    return f"{_GROUPS[need]} is not limited for a sandbox as a whole here ({held})"
            elif missing := _lacks(need, self.backend):
                return missing
        return ""

    async def _bottle(self) -> str:
        if self._no_bottle is None:
            self._no_bottle = await asyncio.to_thread(why_none)
        return self._no_bottle


def _lacks(need: str, backend: Backend) -> str:
    """What this machine, or this backend, lacks for a row."""
    if need == "keeper" and backend.name != "bubblewrap":
        return "it looks at bubblewrap's keeper"
    if need == "root" and os.geteuid() != 0:
        return "only root can do that here"
    if need in ("rust", "go"):
        try:
            backend.toolchain(need)
        except RlmError as error:
            return error.message
    return ""


async def _played(stage: Stage) -> str:
    """Plays a row to its end; what went wrong with the playing itself."""
    task = asyncio.ensure_future(stage.play())
    await asyncio.wait({task}, timeout=stage.row.deadline)
    if not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_LEAVE_SECONDS)
        return f"I2: it was not over after {stage.row.deadline:.0f} s"
    if task.cancelled():
        return "it was cancelled from within"
    failure = task.exception()
    if isinstance(failure, Hung):
        return str(failure)
    if failure is not None and not isinstance(failure, Exception):
        raise failure
    return "" if failure is None else f"{type(failure).__name__}: {failure}"


def _wrong(row: Row, seen: Sequence[Seen]) -> list[str]:
    """What a row itself has to say of how its steps ended."""
    found = []
    for number, each in enumerate(seen, 1):
        if each.status not in each.step.expect:
            said = " ".join(each.text.split())[-300:]
            found.append(f"step {number} ended as {each.status}, not {' or '.join(each.step.expect)}: {said}")
        elif each.status == "ok" and "tried(" in each.step.code and "TRIED" not in each.stdout:
            found.append(f"step {number} did not come to its end")
    own = row.check(list(seen))
    return [*found, own] if own else found
