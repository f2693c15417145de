"""How much of the table is run, and what is told of it.

`pr`: every row once, with its control. `full`: every row many times, each with a seed of its own, its control once.
"""

from __future__ import annotations

import faulthandler
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.testing.attack.catalogue import without_row
from terraphim_rlm.testing.attack.harness import Harness
from terraphim_rlm.testing.attack.lab import Lab
from terraphim_rlm.testing.attack.model import Outcome, Row
from terraphim_rlm.testing.attack.table import ROWS

Emit = Callable[[Mapping[str, Any]], None]
TIERS = ("pr", "full")
REPEATS = 20
MOST_REPEATS = 10_000
P1_RATE = 0.99
"""Of all playings of P1 rows together, at least so many must pass; of P0 rows, all."""
_BLOCKED_SECONDS = 120.0
"""Past a row's own deadline: then the harness itself stands still, and ends with a traceback of where."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run."""

    tier: str = "pr"
    repeats: int | None = None
    """Playings of each row; None = 1 for `pr`, 20 for `full`."""
    seed: int = 1
    """Of the first playing; each further one has the next."""
    rows: tuple[str, ...] = ()
    """Only these; none = all."""

    def __post_init__(self) -> None:
        if self.tier not in TIERS:
            raise InvalidArgument(
                f"There is no tier {self.tier!r}.", fix=f"Use one of: {', '.join(TIERS)}.", tier=self.tier
            )
        if self.repeats is not None and not 1 <= self.repeats <= MOST_REPEATS:
            raise InvalidArgument(f"A row can be run 1 to {MOST_REPEATS:,} times, not {self.repeats}.")
        if unknown := [name for name in self.rows if name not in ROWS]:
            why = without_row(ROWS).get(unknown[0], "")
            raise InvalidArgument(
                f"There is no row {unknown[0][:40]!r}{f': it {why}' if why else ''}.",
                fix=f"Rows are {', '.join(list(ROWS)[:3])} .. {list(ROWS)[-1]}.",
            )

    @property
    def times(self) -> int:
        return self.repeats or (REPEATS if self.tier == "full" else 1)

    @property
    def chosen(self) -> Sequence[Row]:
        return [ROWS[name] for name in self.rows] if self.rows else list(ROWS.values())


@dataclass(frozen=True, slots=True)
class Played:
    """All playings of one row, and its control."""

    row: Row
    outcomes: Sequence[Outcome]
    """In the order of their seeds; one that says `not_run` stands for all."""
    control: Outcome

    @property
    def passes(self) -> int:
        return sum(outcome.verdict == "passed" for outcome in self.outcomes)

    @property
    def hung(self) -> bool:
        return any(outcome.hung for outcome in self.outcomes)

    @property
    def why(self) -> str:
        """Of the first that did not pass."""
        for number, outcome in enumerate(self.outcomes):
            if outcome.verdict != "passed":
                often = f"{len(self.outcomes) - self.passes} of {len(self.outcomes)}, first at number {number + 1}: "
                return (often if len(self.outcomes) > 1 else "") + outcome.why
        return ""

    @property
    def verdict(self) -> str:
        """`failed` too when a control could have done the harm and did not: then the row proves nothing."""
        if self.outcomes[0].verdict == "not_run":
            return "not_run"
        unproven = bool(self.row.off) and self.control.verdict == "failed"
        return "passed" if self.passes == len(self.outcomes) and not unproven else "failed"


async def attack(
    backend: str, plan: Plan, emit: Emit, progress: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Runs the table against a backend.

    Args:
        backend: name of a sandbox backend.
        emit: gets each row as it is over, see `described`.
        progress: gets a line for each playing of a row.

    Returns:
        `{"backend", "cases", "passed", "failed": [ids], "why": {id: reason}, "not_run": {id: reason}, "p0_failed": [ids],
        "controls_proven", "tier", "repeats", "seed", "p1_rate", "hung": [ids], "met", "seconds"}`.
        `cases` are those of the catalogue, so that `passed`, `failed` and `not_run` (without `ID control`) come to it.
        A row counts as failed when one playing did, or its control did no harm; `why` has both reasons. A P0 row without a control says why in
        `not_run` as `ID control`. `met`: no P0 row failed, P1 rows reach their rate, nothing hung.

    Raises:
        InvalidArgument: there is no such backend.
        BackendUnavailable: the backend does not work here.
    """
    began = time.monotonic()
    played: dict[str, Played] = {}
    with Lab() as lab:
        async with Harness(lab, backend=backend) as harness:
            for row in plan.chosen:
                played[row.id] = each = await _play(harness, row, plan, progress)
                emit(described(each))
    return {**summary(backend, plan, played), "seconds": round(time.monotonic() - began, 1)}


async def _play(harness: Harness, row: Row, plan: Plan, progress: Callable[[str], None]) -> Played:
    outcomes: list[Outcome] = []
    faulthandler.dump_traceback_later(plan.times * row.deadline * 2 + _BLOCKED_SECONDS, exit=True)
    try:
        for number in range(plan.times):
            outcomes.append(await harness.row(row, plan.seed + number))
            if plan.times > 1:
                good = sum(each.verdict == "passed" for each in outcomes)
                progress(f"{row.id}: {good} of {number + 1} passed, {plan.times - number - 1} to come")
            if outcomes[-1].verdict == "not_run":
                break
        control = await harness.control(row)
    finally:
        faulthandler.cancel_dump_traceback_later()
    return Played(row, outcomes, control)


def described(played: Played) -> dict[str, Any]:
    """One row as it is emitted."""
    row, control = played.row, played.control
    return {
        "id": row.id,
        "severity": row.severity,
        "name": row.name,
        "verdict": played.verdict,
        "why": played.why,
        "seconds": round(sum(outcome.seconds for outcome in played.outcomes), 2),
        "passes": played.passes,
        "repeats": len(played.outcomes),
        "control": control.verdict,
        "off": list(row.off),
        "control_why": control.why,
    }


def summary(backend: str, plan: Plan, played: Mapping[str, Played]) -> dict[str, Any]:
    """What all rows come to; see `attack`."""
    verdicts = {key: each.verdict for key, each in played.items()}
    failed = [key for key, word in verdicts.items() if word == "failed"]
    not_run = {key: played[key].why for key, word in verdicts.items() if word == "not_run"}
    unbuilt = {} if plan.rows else without_row(ROWS)
    cases = len(played) + len(unbuilt)
    for key, each in played.items():
        if each.row.severity == "P0" and each.control.verdict == "not_run" and key not in not_run:
            not_run[f"{key} control"] = each.control.why
    p0_failed = [key for key in failed if played[key].row.severity == "P0"]
    hung = [key for key, each in played.items() if each.hung]
    rate = p1_rate(played)
    return {
        "backend": backend,
        "cases": cases,
        "passed": sum(word == "passed" for word in verdicts.values()),
        "failed": failed,
        "why": {key: _reason(played[key]) for key in failed},
        "not_run": {**not_run, **unbuilt},
        "p0_failed": p0_failed,
        "controls_proven": sum(each.control.verdict == "passed" for each in played.values()),
        "tier": plan.tier,
        "repeats": plan.times,
        "seed": plan.seed,
        "p1_rate": rate,
        "hung": hung,
        "met": not p0_failed and not hung and (rate is None or rate >= P1_RATE),
    }


def _reason(played: Played) -> str:
    """Why a row counts as failed."""
    unproven = f"control: {played.control.why}" if played.control.verdict == "failed" else ""
    return "; ".join(filter(None, (played.why, unproven)))


def p1_rate(played: Mapping[str, Played]) -> float | None:
    """How many playings of the P1 rows passed, of all that ran; None when none did."""
    own = [each for each in played.values() if each.row.severity != "P0" and each.verdict != "not_run"]
    ran = sum(len(each.outcomes) for each in own)
    return round(sum(each.passes for each in own) / ran, 4) if ran else None
