"""`trlm bench tasks`: how often a small model finds what was planted in a megabyte of real text.

Beside it, over the same retrieval: *retrieval alone* (its best sentence, whatever it is) and *rules alone* (the host's
judgement without any model). Every question is written to `answers.jsonl` beside the text, so that
`scripts/verify-spans` can check the spans with nothing of this package.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from terraphim_rlm.core.paths import data_dir
from terraphim_rlm.core.values import SCHEMA_VERSION, Limits, to_json
from terraphim_rlm.engine.lookup.decide import LookupResult, decide
from terraphim_rlm.engine.lookup.pipeline import LIMIT, reader
from terraphim_rlm.engine.lookup.question import analyse
from terraphim_rlm.guest import retrieve
from terraphim_rlm.service.rlm import Rlm
from terraphim_rlm.testing.bench.needles import Question, Task, make_task
from terraphim_rlm.testing.bench.rows import row

LookUp = Callable[[str], Awaitable[LookupResult]]
GOALS = {"plain": 23, "paraphrased": None, "unanswerable": 8}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One question, answered three ways."""

    question: Question
    result: LookupResult
    right: bool
    exact: bool
    """The short value, too, is the planted answer and at most four words more."""
    retrieval: bool
    rules: bool
    seconds: float


async def tasks(
    seed: int, *, model: str | None, emit: Callable[[dict[str, Any]], None], folder: Path | None = None
) -> bool:
    """Emits a row per kind of question, and one for time; True when no goal is missed.

    Args:
        seed: which facts, names and places; the text itself depends only on the Python version.
        model: as `--model` takes it; None = the built-in one.
        emit: takes each row.
        folder: where text and answers are kept; None = `bench/tasks-SEED` in the data folder.

    Raises:
        UnknownModel, ModelNotInstalled: the model cannot be opened.
    """
    task = make_task(seed)
    where = folder or data_dir() / "bench" / f"tasks-{seed}"
    keep_text(where, task)
    async with Rlm(model or "local", limits=Limits(tokens=None, seconds=None), route="lookup") as rlm:
        outcomes = [
            await _outcome(task, question, _asked(rlm, where / "text")) for question in task.questions
        ]
    keep_answers(where, outcomes)
    met = True
    for one in rows(task, outcomes, where):
        emit(one)
        met = met and one["met"] is not False
    return met


def _asked(rlm: Rlm, text: Path) -> LookUp:
    """A whole run a question: search in the sandbox, leaves under the ledger, all of it journaled."""

    async def ask(question: str) -> LookupResult:
        answer = await rlm.ask(question, text)
        found = tuple(replace(item, path=str(Path(item.path).relative_to(text))) for item in answer.evidence)
        return LookupResult(answer.text, answer.value, answer.confidence, found)

    return ask


async def _outcome(task: Task, question: Question, ask: LookUp) -> Outcome:
    started = time.perf_counter()
    result = await ask(question.question)
    seconds = time.perf_counter() - started
    plan = analyse(question.question)
    findings = retrieve.search(task.files, plan.to_guest(LIMIT))
    top = findings["passages"][0]["text"] if findings["passages"] else ""
    right = is_right(question, result)
    value = result.value or ""
    exact = right and question.answer in value and len(value.split()) <= len(question.answer.split()) + 4
    rules = without_model(plan, findings, task.files)
    return Outcome(
        question, result, right, exact,
        retrieval=_same(top, question.fact) if question.fact else not top,
        rules=is_right(question, rules), seconds=seconds,
    )  # fmt: skip


def without_model(plan: Any, findings: Any, files: Mapping[str, bytes]) -> LookupResult:
    """What the host's rules alone conclude: every leaf goes unanswered."""
    steps = decide(plan, findings, reader(files))
    try:
        batch = next(steps)
        while True:
            batch = steps.send([None] * len(batch))
    except StopIteration as done:
        result: LookupResult = done.value
        return result


def is_right(question: Question, result: LookupResult) -> bool:
    """The evidence is the planted fact and holds the answer; or nothing was found where nothing is."""
    if not question.fact:
        return result.confidence == "not_found"
    return any(
        _same(e.quote, question.fact) and question.answer in " ".join(e.quote.split())
        for e in result.evidence
    )


def _is_true(outcome: Outcome) -> bool:
    """Nothing of the answer misleads: the evidence is right, and the value, too, holds what was asked for."""
    return outcome.right and outcome.question.answer in (outcome.result.value or "")


def _same(text: str, fact: str) -> bool:
    return bool(fact) and " ".join(text.split()) == fact


def keep_text(folder: Path, task: Task) -> None:
    """Writes the text to `folder/text`, in place of what an earlier bench left there."""
    shutil.rmtree(folder / "text", ignore_errors=True)
    for path, raw in task.files.items():
        target = folder / "text" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(raw)


def keep_answers(folder: Path, outcomes: Iterable[Outcome]) -> None:
    """Writes each question with its answer to `folder/answers.jsonl`."""
    lines = [json.dumps(answer_line(outcome), ensure_ascii=False) for outcome in outcomes]
    (folder / "answers.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def answer_line(outcome: Outcome) -> dict[str, Any]:
    """What `scripts/verify-spans` reads."""
    question, result = outcome.question, outcome.result
    return {
        "schema_version": SCHEMA_VERSION, "kind": question.kind, "question": question.question,
        "expected": question.answer, "fact": question.fact, "text": result.text, "value": result.value,
        "confidence": result.confidence, "evidence": to_json(result.evidence), "reason": result.reason,
        "right": outcome.right, "seconds": round(outcome.seconds, 3),
    }  # fmt: skip


def rows(task: Task, outcomes: list[Outcome], folder: Path) -> Iterable[dict[str, Any]]:
    """The yardstick rows; counts stand in `p50`, and more is better."""
    size = sum(map(len, task.files.values()))
    for kind, goal in GOALS.items():
        some = [o for o in outcomes if o.question.kind == kind]
        exact = "" if kind == "unanswerable" else f"; short value exact: {sum(o.exact for o in some)}"
        peers = {"retrieval alone": sum(o.retrieval for o in some), "rules alone": sum(o.rules for o in some)}
        yield _count(
            f"{kind} right",
            sum(o.right for o in some),
            goal,
            len(some),
            peers,
            f"{_confidences(some)}{exact}",
        )
    wrong = [o for o in outcomes if o.result.confidence == "verified" and not _is_true(o)]
    yield _count(
        "wrong but verified",
        len(wrong),
        0,
        len(outcomes),
        {},
        f"{size:,} bytes of {task.source}, in {folder}",
        fewer=True,
    )
    yield row(
        "time of a question", "s", [o.seconds for o in outcomes], None, why="look-up and leaves, one thread"
    )


def _confidences(outcomes: Iterable[Outcome]) -> str:
    counts: dict[str, int] = {}
    for outcome in outcomes:
        counts[outcome.result.confidence] = counts.get(outcome.result.confidence, 0) + 1
    return ", ".join(f"{name}: {count}" for name, count in sorted(counts.items()))


def _count(
    name: str, count: int, goal: int | None, of: int, peers: dict[str, int], why: str, *, fewer: bool = False
) -> dict[str, Any]:
    met = None if goal is None else (count <= goal if fewer else count >= goal)
    return {**row(name, f"of {of}", [], goal, peers=peers, why=why), "p50": count, "met": met, "n": of}
