"""Runs rows and their controls against a backend, and judges them."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

from terraphim_rlm.core.errors import InvalidArgument
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
from terraphim_rlm.testing.attack.steps import Hung, run_steps
from terraphim_rlm.testing.attack.table import ROWS

Emit = Callable[[Mapping[str, Any]], None]
TIERS = ("pr",)
_GROUPS = {"memory-group": "memory", "pids-group": "pids", "cpu-group": "cpu"}


class Harness:
    """One backend under attack, with a neighbour beside it. An async context manager."""

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

    async def row(self, row: Row) -> Outcome:
        """Runs a row where it belongs: here, or in a bottle when it names addresses."""
        if missing := await self._missing(row):
            return Outcome(row.id, "row", "not_run", missing)
        if "network" in row.needs and not self._inside:
            return await in_bottle("row", row, self._lab)
        return await self.run_row(row)

    async def control(self, row: Row) -> Outcome:
        """Runs a row's control, in a bottle."""
        if not row.off:
            return Outcome(row.id, "control", "not_run", row.no_control or "only P0 rows have controls")
        for name in row.off:
            if lacking := PROTECTIONS[name].nothing_to_hide():
                return Outcome(row.id, "control", "not_run", lacking)
        if missing := await self._bottle():
            return Outcome(row.id, "control", "not_run", missing)
        if missing := await self._missing(row):
            return Outcome(row.id, "control", "not_run", missing)
        return await in_bottle("control", row, self._lab)

    async def run_row(self, row: Row) -> Outcome:
        """Runs a row in this very process and checks every condition after it."""
        mark = secrets.token_hex(8)
        self._lab.renew()
        if self._sinks is not None:
            self._sinks.harm()
        before = conditions.baseline(self._lab)
        self._neighbour.watch()
        began = time.monotonic()
        try:
            seen = await run_steps(row, self.backend, self._lab, mark, binds=row.binds)
        except Hung as error:
            return Outcome(row.id, "row", "failed", str(error), time.monotonic() - began)
        seconds = time.monotonic() - began
        wrong = [*_wrong(row, seen), *harm_done(row, seen, self._lab, self._sinks)]
        wrong += self._neighbour.breach()
        wrong += await conditions.breaches(before, self._lab, seen, mark)
        return Outcome(row.id, "row", "failed" if wrong else "passed", "; ".join(wrong), seconds)

    async def _missing(self, row: Row) -> str:
        for need in row.needs:
            if need == "network":
                if missing := await self._bottle():
                    return missing
            elif self.capabilities.limits.get(_GROUPS[need]) != "kernel-group":
                held = self.capabilities.limits.get(_GROUPS[need], "none")
                return f"{_GROUPS[need]} is not limited for a sandbox as a whole here ({held})"
        return ""

    async def _bottle(self) -> str:
        if self._no_bottle is None:
            self._no_bottle = await asyncio.to_thread(why_none)
        return self._no_bottle


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


async def attack(backend: str, tier: str, emit: Emit) -> dict[str, Any]:
    """Runs the table against a backend.

    Args:
        backend: name of a sandbox backend.
        tier: `pr`, every row of the table once, with its control.
        emit: gets each row as it is over: id, severity, name, verdict, why, seconds, control, control_why.

    Returns:
        {"backend", "cases", "passed", "failed": [ids], "not_run": {id: reason}, "p0_failed": [ids], "controls_proven"}.
        A P0 row counts as failed when its control did no harm; one without a control says why in `not_run`
        as `ID control`.

    Raises:
        InvalidArgument: no such tier or backend.
        BackendUnavailable: the backend does not work here.
    """
    if tier not in TIERS:
        raise InvalidArgument(
            f"There is no tier {tier!r}.", fix=f"Use one of: {', '.join(TIERS)}.", tier=tier
        )
    outcomes: dict[str, tuple[Outcome, Outcome]] = {}
    with Lab() as lab:
        async with Harness(lab, backend=backend) as harness:
            for row in ROWS.values():
                pair = await harness.row(row), await harness.control(row)
                outcomes[row.id] = pair
                emit(described(row, *pair))
    return summary(backend, outcomes)


def described(row: Row, outcome: Outcome, control: Outcome) -> dict[str, Any]:
    """One row as it is emitted."""
    return {
        "id": row.id,
        "severity": row.severity,
        "name": row.name,
        "verdict": verdict(row, outcome, control),
        "why": outcome.why,
        "seconds": round(outcome.seconds, 2),
        "control": control.verdict,
        "off": list(row.off),
        "control_why": control.why,
    }


def verdict(row: Row, outcome: Outcome, control: Outcome) -> str:
    """`failed` too when a control could have done the harm and did not: then the row proves nothing."""
    if row.off and outcome.verdict == "passed" and control.verdict == "failed":
        return "failed"
    return outcome.verdict


def summary(backend: str, outcomes: Mapping[str, tuple[Outcome, Outcome]]) -> dict[str, Any]:
    verdicts = {key: verdict(ROWS[key], *pair) for key, pair in outcomes.items()}
    failed = [key for key, word in verdicts.items() if word == "failed"]
    not_run = {key: outcomes[key][0].why for key, word in verdicts.items() if word == "not_run"}
    for key, (_outcome, control) in outcomes.items():
        if ROWS[key].severity == "P0" and control.verdict == "not_run" and key not in not_run:
            not_run[f"{key} control"] = control.why
    return {
        "backend": backend,
        "cases": len(outcomes),
        "passed": sum(word == "passed" for word in verdicts.values()),
        "failed": failed,
        "not_run": not_run,
        "p0_failed": [key for key in failed if ROWS[key].severity == "P0"],
        "controls_proven": sum(control.verdict == "passed" for _outcome, control in outcomes.values()),
    }
