"""The long-input tasks: made from a seed, right by construction, and played through the real sandbox."""

from __future__ import annotations

import json
from typing import Any

import pytest

from terraphim_rlm.core.errors import InvalidArgument, ModelNotInstalled
from terraphim_rlm.faces.cli.app import run as trlm
from terraphim_rlm.testing.bench.report import page
from terraphim_rlm.testing.bench.rows import machine
from terraphim_rlm.testing.bench.yardsticks import running
from terraphim_rlm.testing.bench.yardsticks.aggregates import LABELS, lines_of
from terraphim_rlm.testing.bench.yardsticks.instances import Instance, exact, f1, near, share
from terraphim_rlm.testing.bench.yardsticks.running import MAKERS, Plan, bench, planned, yardsticks

SMALL = 4_000
QUICK = Plan(sizes=(1_000,), errors=(0.0,), latency=0.0)
each_task = pytest.mark.parametrize("task", MAKERS)


def defined(instance: Instance) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(instance.code, names)
    return names


def worked_out(instance: Instance) -> Any:
    """What an unerring reader of each line comes to, without any engine."""
    names = defined(instance)
    pieces = [line for line in instance.context.splitlines() if line]
    return names["answer"](names["gather"](pieces, [instance.reader(piece) for piece in pieces]))


@each_task
def test_a_seed_always_makes_the_same_task_and_another_seed_another(task: str) -> None:
    first, again, other = (MAKERS[task](seed, SMALL) for seed in (1, 1, 2))
    for one, same, different in zip(first, again, other, strict=True):
        assert (one.context, one.question, one.expected) == (same.context, same.question, same.expected)
        assert one.context != different.context


@each_task
@pytest.mark.parametrize("seed", range(5))
def test_the_expected_answer_is_what_an_unerring_reader_of_every_line_comes_to(task: str, seed: int) -> None:
    for instance in MAKERS[task](seed, SMALL):
        value = json.loads(json.dumps(worked_out(instance)))
        assert instance.score(instance.expected, value) == 1.0, instance.kind


@each_task
def test_an_input_has_the_size_that_was_asked_for(task: str) -> None:
    for size in (8_000, 64_000):
        for instance in MAKERS[task](1, size):
            assert 0.7 * size <= len(instance.context) <= 1.2 * size, instance.kind


@pytest.mark.parametrize("task", ["s-niah", "ruler"])
def test_code_alone_finds_what_stands_in_a_haystack(task: str) -> None:
    for instance in MAKERS[task](3, SMALL):
        names = defined(instance)
        assert instance.score(instance.expected, names["answer"](names["direct"](instance.context))) == 1.0


def test_no_line_names_its_label_and_code_alone_misses_a_third_of_them() -> None:
    lines = lines_of(1, 100_000)
    assert not any(label in line.text.lower() for line in lines for label in LABELS)
    found = defined(MAKERS["oolong"](1, 100_000)[0])["direct"]("\n".join(map(str, lines)))
    assert 0.6 < len(found) / len(lines) < 0.75
    true = [[line.date, line.user, line.label] for line in lines]
    assert all(each in true for each in found)


def test_scores_are_those_of_the_publications() -> None:
    assert (near(10, 10), near(10, 12), near(10, "10"), near(1, True)) == (1.0, 0.75**2, 0.0, 0.0)
    assert (exact("a", " a "), exact("a", "b")) == (1.0, 0.0)
    assert (share(["1", "2"], [2, 3]), share(["1"], "1")) == (0.5, 1.0)
    assert f1([["a", "b"], ["c", "d"]], [["b", "a"]]) == pytest.approx(2 / 3)
    assert (f1([], []), f1([["a", "b"]], []), f1([["a", "b"]], None)) == (1.0, 0.0, 0.0)


@pytest.mark.sandbox
@pytest.mark.anyio
async def test_every_task_is_played_at_depth_0_1_and_2_and_scores_1_where_nothing_can_go_wrong() -> None:
    found: list[dict[str, Any]] = []
    assert await yardsticks(QUICK, found.append)
    scored = [row for row in found if row["unit"] == "score"]
    assert {(row["task"], row["depth"]) for row in scored} == {
        (task, depth) for task in MAKERS for depth in (0, 1, 2)
    }
    assert all(row["met"] is True for row in scored if row["depth"] or row["task"] in ("s-niah", "ruler"))
    calls = {(row["task"], row["depth"]): row["calls"] for row in scored}
    for task in MAKERS:
        assert 2 == calls[task, 0] < calls[task, 1] < calls[task, 2]
    assert all(row["mean"] < 1 for row in scored if row["task"] == "oolong" and row["depth"] == 0)
    drawn = page(
        [("Here", [{**row, "machine": machine()} for row in found])],
        commit="abc",
        date="today",
        group="tasks",
    )
    assert "oolong depth 2, 1,000 tokens" in drawn.split("How it grows")[1]


@pytest.mark.sandbox
@pytest.mark.anyio
async def test_errors_of_the_oracle_lower_the_score_alike_each_time() -> None:
    plan = Plan(tasks=("oolong",), sizes=(4_000,), errors=(0.3,), latency=0.0, depths=(1,))
    first: list[dict[str, Any]] = []
    again: list[dict[str, Any]] = []
    assert await yardsticks(plan, first.append)
    assert await yardsticks(plan, again.append)
    assert first[0]["mean"] == again[0]["mean"] < 1
    assert first[0]["met"] is None
    assert first[0]["p99"] <= first[0]["p50"]


@pytest.mark.sandbox
@pytest.mark.anyio
async def test_a_call_that_the_ledger_did_not_count_stops_the_benchmark(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(running.PolicyModel, "asked", property(lambda model: model.turns))
    with pytest.raises(AssertionError, match="calls counted"):
        await yardsticks(
            Plan(tasks=("s-niah",), sizes=(1_000,), errors=(0.0,), depths=(1,)), lambda row: None
        )


@pytest.mark.anyio
async def test_without_the_built_in_models_weights_the_needles_say_why_and_by_name_they_are_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def none(*about: Any, **more: Any) -> bool:
        raise ModelNotInstalled("There are no weights.")

    monkeypatch.setattr(running, "needles", none)
    monkeypatch.setattr(running, "MAKERS", {})
    found: list[dict[str, Any]] = []
    assert await bench([], QUICK, found.append)
    assert [(row["row"], row["met"]) for row in found] == [("needles", None)]
    assert "There are no weights." in found[0]["why"]
    with pytest.raises(ModelNotInstalled):
        await bench(["needles"], QUICK, found.append)


@pytest.mark.sandbox
def test_the_command_prints_a_row_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["s-niah", "--size", "1000", "--errors", "0", "--latency", "0", "--jsonl"]
    assert trlm(["bench", "tasks", *arguments]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["row"] for row in found if row["unit"] == "score"] == [
        f"s-niah, 1,000 tokens, depth {depth}, 0% errors" for depth in (0, 1, 2)
    ]
    assert {"schema_version", "row", "unit", "p50", "p95", "p99", "goal", "met", "peers", "n", "why", "task", "size", "depth",
            "error_rate", "bytes", "mean", "calls", "tokens", "machine"} == set(found[0])  # fmt: skip


@pytest.mark.parametrize(
    ("sizes", "errors", "latency"), [([10], [0.0], 0.0), ([1_000], [1.5], 0.0), ([1_000], [0.0], -1.0)]
)
def test_a_plan_that_cannot_be_played_is_refused(
    sizes: list[int], errors: list[float], latency: float
) -> None:
    with pytest.raises(InvalidArgument, match="cannot be played"):
        planned(1, sizes, errors, latency)


def test_a_task_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert trlm(["bench", "tasks", "haystack"]) != 0
    assert "s-niah, ruler, oolong, oolong-pairs, needles" in capsys.readouterr().err
