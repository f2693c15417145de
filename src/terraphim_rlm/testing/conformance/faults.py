"""Tests of the suite itself: every planted fault must fail a case, by what the case asserts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from terraphim_rlm.testing.conformance.lies import (
    files,
    machines,
    options,
    results,
    rollbacks,
    states,
    streams,
)
from terraphim_rlm.testing.conformance.lies.wrapped import FAULTS, Fault, Wrapped, wrapped
from terraphim_rlm.testing.conformance.model import Case, Target
from terraphim_rlm.testing.conformance.runner import Conformance

__all__ = ["FAULTS", "Caught", "Fault", "Wrapped", "catch", "catch_all", "faults", "table", "wrapped"]
_ = (files, machines, options, results, rollbacks, states, streams)  # importing them fills the table


@dataclass(frozen=True, slots=True)
class Caught:
    """What became of one fault."""

    fault: Fault
    failing: tuple[str, ...]
    """Cases that failed by what they assert, the first few."""
    errors: tuple[str, ...] = ()
    """Cases that ended otherwise; they prove nothing."""
    skipped: tuple[str, ...] = ()

    @property
    def missed(self) -> bool:
        """True when the fault passed for a good sandbox. Not, where the target lacks what cases of it need."""
        return not self.failing and not self.skipped


async def catch(fault: Fault, target: Target, cases: Iterable[Case], enough: int = 1) -> Caught:
    """Runs the cases of the fault's groups over the lying target, until `enough` have failed."""
    failing: list[str] = []
    errors: list[str] = []
    skipped: list[str] = []
    async with Conformance(fault.wrap(target)) as conformance:
        for case in cases:
            if case.group not in fault.groups:
                continue
            outcome = await conformance.run(case)
            if outcome.verdict == "skipped":
                skipped.append(case.name)
            elif outcome.verdict == "failed":
                told = isinstance(outcome.error, (AssertionError, *fault.raises))
                (failing if told else errors).append(case.name)
            if len(failing) >= enough:
                break
    return Caught(fault, tuple(failing), tuple(errors), tuple(skipped))


def faults(kind: str = "sandbox") -> Sequence[Fault]:
    """The planted faults of a kind."""
    if kind == "engine":
        from terraphim_rlm.testing.conformance.engine import lies

        return lies.FAULTS
    return FAULTS


async def catch_all(
    target: Target,
    cases: Sequence[Case],
    enough: int,
    emit: Callable[[Caught], None] | None = None,
    kind: str = "sandbox",
) -> list[Caught]:
    """Every fault of a kind, see `catch`; `emit` gets each as it comes."""
    caught = []
    for each in faults(kind):
        caught.append(await catch(each, target, cases, enough))
        if emit is not None:
            emit(caught[-1])
    return caught


def table(target: str, caught: Iterable[Caught]) -> dict[str, Any]:
    """`{"target", "caught": {fault: [cases]}, "missed": [faults], "unproven": {fault: why}, "of"}`."""
    all_of = list(caught)
    return {
        "target": target,
        "caught": {each.fault.name: list(each.failing) for each in all_of if each.failing},
        "missed": [each.fault.name for each in all_of if each.missed],
        "unproven": {
            each.fault.name: f"{len(each.skipped)} of its cases need what the target lacks"
            for each in all_of
            if not each.failing and not each.missed
        },
        "of": len(all_of),
    }
