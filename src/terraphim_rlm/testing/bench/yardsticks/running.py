"""`trlm bench tasks`: whole benchmarks end to end through the sandbox, at depth 0, 1 and 2, without a key."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from terraphim_rlm.core.errors import InvalidArgument, ModelNotInstalled
from terraphim_rlm.core.values import Answer, Limits
from terraphim_rlm.service.rlm import Rlm
from terraphim_rlm.testing.bench.rows import Goal, row, summary
from terraphim_rlm.testing.bench.tasks import tasks as needles
from terraphim_rlm.testing.bench.yardsticks.aggregates import oolong, oolong_pairs
from terraphim_rlm.testing.bench.yardsticks.haystack import ruler, s_niah
from terraphim_rlm.testing.bench.yardsticks.instances import Instance, Maker
from terraphim_rlm.testing.bench.yardsticks.policies import DEPTHS, PolicyModel

MAKERS: dict[str, Maker] = {"s-niah": s_niah, "ruler": ruler, "oolong": oolong, "oolong-pairs": oolong_pairs}
NEEDLES = "needles"
"""Real text with planted facts, read by a real model; see `bench.tasks`."""
CHARACTERS_A_TOKEN = 4
_CODE_ALONE = ("s-niah", "ruler")
"""Tasks that code alone can work out; the others need a reader."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is played."""

    tasks: Sequence[str] = tuple(MAKERS)
    seed: int = 1
    sizes: Sequence[int] = (8_000, 32_000, 128_000)
    """Tokens of an input, about: four characters each."""
    depths: Sequence[int] = DEPTHS
    errors: Sequence[float] = (0.0, 0.1)
    """Shares of sub-calls that the oracle answers wrongly."""
    latency: float = 0.01
    """Seconds of each sub-call."""


@dataclass(slots=True)
class _Cell:
    """The runs of one task at one size and depth, with one rate of errors."""

    task: str
    size: int
    depth: int
    error_rate: float
    scores: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    bytes: int = 0


async def yardsticks(plan: Plan, emit: Callable[[dict[str, Any]], None]) -> bool:
    """Emits a row for the score, then rows for the time, of each task, size and depth; True when no goal is missed.

    Raises:
        AssertionError: the ledger's count of calls is not what the models were asked.
    """
    met = True
    async for one in rows(plan):
        emit(one)
        met = met and one["met"] is not False
    return met


async def rows(plan: Plan) -> AsyncIterator[dict[str, Any]]:
    """Each row as soon as it is known."""
    for task in plan.tasks:
        grown: list[_Cell] = []
        for error_rate in plan.errors:
            async for cell in _cells(task, plan, error_rate):
                yield _scored(cell)
                if error_rate == 0:
                    grown.append(cell)
        for cell in grown:
            yield _timed(cell)


async def _cells(task: str, plan: Plan, error_rate: float) -> AsyncIterator[_Cell]:
    """Played cells; code alone makes no sub-calls, and so has no errors."""
    model = PolicyModel(error_rate=error_rate, latency=plan.latency, seed=plan.seed)
    limits = Limits(tokens=None, seconds=None, calls=None, depth=1)
    async with Rlm(model, limits=limits, route="loop") as rlm:
        for depth in plan.depths:
            for size in plan.sizes if depth or error_rate == 0 else ():
                cell = _Cell(task, size, depth, error_rate)
                for instance in MAKERS[task](plan.seed, size * CHARACTERS_A_TOKEN):
                    model.play(instance, depth)
                    await _play(cell, instance, model, rlm)
                yield cell


async def _play(cell: _Cell, instance: Instance, model: PolicyModel, rlm: Rlm) -> None:
    """One run, from the question to the score."""
    await rlm.wait_ready()
    started = time.perf_counter()
    answer = await rlm.ask(instance.question, instance.context)
    cell.seconds.append(time.perf_counter() - started)
    if answer.usage.calls != model.asked or answer.partial:
        raise AssertionError(
            f"{instance.task}, {instance.kind}: {answer.usage.calls} calls counted, {model.asked} made; {answer}"
        )
    value = answer.value if answer.value is not None else answer.text
    cell.scores.append(instance.score(instance.expected, value))
    cell.answers.append(answer)
    cell.bytes = len(instance.context)


def _scored(cell: _Cell) -> dict[str, Any]:
    """Scores from 0 to 1; where nothing can go wrong, the worst one must be 1."""
    whole = cell.error_rate == 0 and (cell.depth > 0 or cell.task in _CODE_ALONE)
    name = f"{cell.task}, {cell.size:,} tokens, depth {cell.depth}, {cell.error_rate:.0%} errors"
    count = len(cell.scores)
    mean = sum(cell.scores) / count
    calls = sum(answer.usage.calls for answer in cell.answers) / count
    tokens = sum(answer.usage.tokens for answer in cell.answers) / count
    made = row(
        name, "score", cell.scores, Goal(1.0, at=1.0, least=True) if whole else None,
        why=f"mean {mean:.3f}; a run made {calls:,.0f} calls with {tokens:,.0f} tokens",
    )  # fmt: skip
    return {
        **made,
        **summary(cell.scores, least=True),
        **_about(cell),
        "mean": round(mean, 4),
        "calls": round(calls, 1),
        "tokens": round(tokens),
    }


def _timed(cell: _Cell) -> dict[str, Any]:
    name = f"growth: {cell.task} depth {cell.depth}, {cell.size:,} tokens"
    return {**row(name, "s", cell.seconds, None, why="a whole run, spare ready"), **_about(cell)}


def _about(cell: _Cell) -> dict[str, Any]:
    return {
        "task": cell.task, "size": cell.size, "depth": cell.depth, "error_rate": cell.error_rate, "bytes": cell.bytes,
    }  # fmt: skip


async def bench(
    names: Sequence[str], plan: Plan, emit: Callable[[dict[str, Any]], None], *, model: str | None = None
) -> bool:
    """What `trlm bench tasks` measures; True when no goal is missed.

    Args:
        names: keys of `MAKERS`, and `needles`, which asks a real model; none of them means all.
        model: of `needles`, as `--model` takes it; None = the built-in one.

    Raises:
        InvalidArgument: there is no such task, or nothing to play.
        UnknownModel, ModelNotInstalled: the model of `needles` cannot be opened. Where nobody named it, a row says so.
    """
    unknown = sorted(set(names) - {*MAKERS, NEEDLES})
    if unknown:
        raise InvalidArgument(
            f"There is no task {unknown[0][:80]!r}.", fix=f"Use some of: {', '.join([*MAKERS, NEEDLES])}."
        )
    chosen = names or [*MAKERS, NEEDLES]
    met = await yardsticks(replace(plan, tasks=[name for name in MAKERS if name in chosen]), emit)
    if NEEDLES not in chosen:
        return met
    try:
        return await needles(plan.seed, model=model, emit=emit) and met
    except ModelNotInstalled as error:
        if names or model:
            raise
        emit(row("needles", "", [], None, why=f"not run: {error.message} {error.fix}"))
        return met


def planned(seed: int, sizes: Sequence[int] | None, errors: Sequence[float] | None, latency: float) -> Plan:
    """A plan from what a caller gave; what he left out is as ever.

    Raises:
        InvalidArgument: a size, a share or a time that can be none.
    """
    plan = Plan(seed=seed, latency=latency)
    plan = replace(plan, sizes=tuple(sizes or plan.sizes), errors=tuple(errors or plan.errors))
    wrong = [
        *(f"--size {size}" for size in plan.sizes if not 1_000 <= size <= 10_000_000),
        *(f"--errors {share}" for share in plan.errors if not 0 <= share <= 1),
        *([f"--latency {latency}"] if not 0 <= latency <= 60 else []),
    ]
    if wrong:
        raise InvalidArgument(
            f"{wrong[0]} cannot be played.",
            fix="Give sizes of 1,000 to 10,000,000 tokens, shares of 0 to 1, and at most 60 seconds.",
        )
    return plan
