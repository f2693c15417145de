"""The benchmark's own material, and the script that checks its spans."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from terraphim_rlm.core.errors import ModelNotInstalled
from terraphim_rlm.engine.lookup.decide import LookupResult, not_found
from terraphim_rlm.guest import retrieve
from terraphim_rlm.testing.bench import needles, needles_data, tasks

SCRIPT = Path(__file__).parents[2] / "scripts" / "verify-spans"
SMALL = 60_000


@pytest.fixture(scope="module")
def task() -> needles.Task:
    return needles.make_task(7, size=SMALL)


def test_the_same_seed_gives_the_same_task_and_another_seed_another(task: needles.Task) -> None:
    assert needles.make_task(7, size=SMALL) == task
    assert needles.make_task(8, size=SMALL).questions != task.questions


def test_there_are_25_plain_15_paraphrased_and_10_unanswerable_questions_all_different(
    task: needles.Task,
) -> None:
    kinds = [q.kind for q in task.questions]
    assert [kinds.count(k) for k in ("plain", "paraphrased", "unanswerable")] == [25, 15, 10]
    assert len({q.question for q in task.questions}) == 50


def test_every_fact_is_in_the_text_once_and_holds_its_answer(task: needles.Task) -> None:
    text = " ".join(" ".join(raw.decode().split()) for raw in task.files.values())
    for question in task.questions:
        if question.fact:
            assert text.count(question.fact) == 1
            assert question.answer in question.fact


def test_no_paraphrase_shares_a_content_word_with_its_fact(task: needles.Task) -> None:
    for question in task.questions:
        if question.kind == "paraphrased":
            assert not needles.shared_content(question.question, question.fact)


def test_a_paraphrase_that_shares_a_word_is_noticed() -> None:
    assert needles.shared_content("Who painted the chapels?", "Lomax was paid to paint the chapel.") == {
        "paint",
        "chapel",
    }


def test_facts_used_for_calibration_are_never_reported(task: needles.Task) -> None:
    trained = {f.question.partition("{")[0] for f in needles_data.PLAIN if f.train}
    assert not [
        q for q in task.questions if q.kind == "plain" and any(q.question.startswith(t) for t in trained)
    ]


@pytest.fixture(scope="module")
def outcomes(task: needles.Task) -> list[tasks.Outcome]:
    """Of a look-up that knows every answer."""
    made = []
    for question in task.questions:
        result = known(task, question) if question.fact else not_found("")
        right = tasks.is_right(question, result)
        made.append(tasks.Outcome(question, result, right, right, False, False, 0.1))
    return made


def known(task: needles.Task, question: needles.Question) -> LookupResult:
    from terraphim_rlm.core.values import Evidence

    for path, raw in task.files.items():
        for start, end in retrieve.sentences(raw) if question.fact.split()[0].encode() in raw else ():
            if " ".join(raw[start:end].decode().split()) == question.fact:
                line = raw.count(b"\n", 0, start) + 1
                item = Evidence(path, start, end, line, raw[start:end].decode(), True)
                return LookupResult(question.fact, question.answer, "verified", (item,))
    raise AssertionError(question)


def verify(folder: Path) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-I", str(SCRIPT), str(folder)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)


def test_the_script_accepts_true_answers(
    task: needles.Task, outcomes: list[tasks.Outcome], tmp_path: Path
) -> None:
    tasks.keep_text(tmp_path, task)
    tasks.keep_answers(tmp_path, outcomes)
    code, report = verify(tmp_path)
    assert (code, report["faults"]) == (0, [])
    assert report["right"] == {"plain": 25, "paraphrased": 15, "unanswerable": 10}


FAULTS = {
    "a shifted span": lambda a: a["evidence"][0].update(start=a["evidence"][0]["start"] + 1),
    "a span outside": lambda a: a["evidence"][0].update(end=10**9),
    "another line": lambda a: a["evidence"][0].update(line=a["evidence"][0]["line"] + 1),
    "an invented quote": lambda a: a["evidence"][0].update(quote="The moon is cheese."),
    "an invented text": lambda a: a.update(text="The moon is cheese."),
    "an answer without evidence": lambda a: a.update(evidence=[]),
    "a wrong value that is verified": lambda a: a.update(value="cheese"),
    "wrong but verified": lambda a: a.update(expected="cheese"),
    "verified without an answer": lambda a: a.update(expected="", fact=""),
    "not found with evidence": lambda a: a.update(confidence="not_found"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_script_notices(
    task: needles.Task, outcomes: list[tasks.Outcome], tmp_path: Path, fault: str
) -> None:
    tasks.keep_text(tmp_path, task)
    tasks.keep_answers(tmp_path, outcomes)
    path = tmp_path / "answers.jsonl"
    answers = [json.loads(line) for line in path.read_text().splitlines()]
    FAULTS[fault](answers[0])
    path.write_text("\n".join(map(json.dumps, answers)))
    code, report = verify(tmp_path)
    assert code == 1
    assert report["faults"]


def test_the_script_imports_nothing_of_the_package() -> None:
    tree = ast.parse(SCRIPT.read_text())
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert names <= sys.stdlib_module_names
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]


def test_the_rows_say_what_missed_its_goal(
    task: needles.Task, outcomes: list[tasks.Outcome], tmp_path: Path
) -> None:
    rows = {r["row"]: r for r in tasks.rows(task, outcomes, tmp_path)}
    assert rows["plain right"] | {"p50": 25, "goal": 23, "met": True, "n": 25} == rows["plain right"]
    assert rows["paraphrased right"]["met"] is None
    assert rows["wrong but verified"]["met"] is True
    lies = [tasks.Outcome(o.question, o.result, False, False, False, False, 0.1) for o in outcomes]
    rows = {r["row"]: r for r in tasks.rows(task, lies, tmp_path)}
    assert (rows["plain right"]["met"], rows["wrong but verified"]["met"]) == (False, False)


@pytest.mark.anyio
async def test_without_weights_the_benchmark_says_how_to_get_them() -> None:
    with pytest.raises(ModelNotInstalled, match="not on this machine"):
        await tasks.tasks(1, model=None, emit=lambda row: None)
