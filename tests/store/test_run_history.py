"""Reading runs: the list, one run as a tree, and what is said when there is none."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from terraphim_rlm.core.clock import ManualClock
from terraphim_rlm.core.errors import InvalidArgument, JournalCorrupt, RunNotFound
from terraphim_rlm.core.events import EventLog
from terraphim_rlm.core.ids import new_id
from terraphim_rlm.core.values import Answer, Usage
from terraphim_rlm.service.runs import list_runs, runs_to_json, show_run
from terraphim_rlm.store.journal import Journal
from terraphim_rlm.store.verify import verify

pytestmark = pytest.mark.anyio


def add_run(journal: Journal, *, status: str = "done", question: str = "Why?", output: str = "2") -> str:
    log, root, child = EventLog(new_id("run"), [journal.sink], ManualClock()), new_id("node"), new_id("node")
    usage = Usage(tokens_in=7, tokens_out=3, calls=1)
    log.emit("run.started", root, None, question=question, model="scripted")
    log.emit("turn.reply", root, None, turn=1, text="..", usage=usage)
    log.emit("node.started", child, root, depth=1, question="part")
    log.emit("cell.finished", child, root, execution_id="exec-1", status="ok", stdout=output)
    log.emit("answer", child, root, **Answer(log.run, "child's").to_json())
    log.emit("answer", root, None, **Answer(log.run, "42", termination="final_var").to_json())
    log.emit("run.finished", root, None, status=status, termination="final_var", usage=usage, seconds=1.5)
    return log.run


def test_without_a_journal_there_are_no_runs_and_none_is_made(own_data_folder: Path) -> None:
    assert list_runs() == []
    with pytest.raises(RunNotFound, match="no runs yet"):
        show_run("run-1")
    assert not own_data_folder.exists()


def test_the_latest_runs_come_first_and_the_list_is_cut() -> None:
    with Journal() as journal:
        runs = [add_run(journal) for _ in range(5)]
    assert [run.id for run in list_runs()] == sorted(runs, reverse=True)
    assert [run.id for run in list_runs(limit=2)] == sorted(runs, reverse=True)[:2]


def test_a_summary_says_what_was_asked_what_came_of_it_and_what_it_cost() -> None:
    with Journal() as journal:
        run = add_run(journal)
    summary = list_runs()[0]
    assert (summary.id, summary.status, summary.question, summary.model) == (run, "done", "Why?", "scripted")
    assert (summary.answer, summary.termination, summary.seconds) == ("42", "final_var", 1.5)
    assert (summary.usage, summary.turns, summary.spent_tokens) == (Usage(7, 0, 3, 0, 1), 1, 10)


async def test_reading_works_while_a_run_is_being_written() -> None:
    with Journal() as journal:
        log, node = EventLog(new_id("run"), [journal.sink]), new_id("node")
        log.emit("run.started", node, None, question="Why?", model="scripted")
        for number in range(20):
            log.emit("turn.parsed", node, None, turn=number)
            await journal.commit()
            assert list_runs(status="running")[0].id == log.run
            assert show_run(log.run).events_total == number + 2


def test_the_status_selects() -> None:
    with Journal() as journal:
        add_run(journal)
        cancelled = add_run(journal, status="cancelled")
    assert [run.id for run in list_runs(status="cancelled")] == [cancelled]
    assert list_runs(status="interrupted") == []


def test_a_run_is_shown_as_a_tree_of_its_nodes() -> None:
    with Journal() as journal:
        run = add_run(journal)
    detail = show_run(run)
    (root,) = detail.nodes
    (child,) = root.children
    assert [event["type"] for event in root.events] == ["run.started", "turn.reply", "answer", "run.finished"]
    assert [event["seq"] for event in child.events] == [3, 4, 5]
    assert detail.events_total == 7
    assert json.loads(json.dumps(detail.to_json()))["summary"]["id"] == run


@pytest.mark.parametrize("form", [str, str.lower, lambda run: run[4:], lambda run: run[:20]])
def test_a_run_is_found_by_a_beginning_of_its_id(form: Any) -> None:
    with Journal() as journal:
        run = add_run(journal)
    assert show_run(form(run)).summary.id == run


def test_a_beginning_that_several_runs_share_is_refused_with_their_ids() -> None:
    with Journal() as journal:
        runs = [add_run(journal) for _ in range(2)]
    with pytest.raises(InvalidArgument, match="Several") as caught:
        show_run(runs[0][:8])
    assert all(run in caught.value.message for run in runs)


@pytest.mark.parametrize("wrong", ["run-", "", "%", "run-0'; DROP TABLE runs", "node-1", "run-" + "Z" * 26])
def test_a_run_that_is_not_there_is_named_with_the_nearest(wrong: str) -> None:
    with Journal() as journal:
        run = add_run(journal)
    with pytest.raises(RunNotFound) as caught:
        show_run(wrong)
    assert run in caught.value.fix


def test_long_output_is_described_and_fetched_when_asked_for() -> None:
    with Journal() as journal:
        run = add_run(journal, output="x" * 100_000)
    cell = show_run(run).nodes[0].children[0].events[1]
    assert cell["data"]["stdout"]["bytes"] == 100_000
    blob = journal.blobs.path(cell["data"]["stdout"]["blob"])
    assert show_run(run, whole=True).nodes[0].children[0].events[1]["data"]["stdout"] == "x" * 100_000
    assert verify(journal.path).problems == ()
    blob.write_bytes(b"y" * 100_000)
    assert len(verify(journal.path).problems) >= 1
    with pytest.raises(JournalCorrupt, match=blob.name):
        show_run(run, whole=True)


def test_more_events_than_asked_for_are_counted() -> None:
    with Journal() as journal:
        run = add_run(journal)
    detail = show_run(run, max_events=2)
    assert (len(detail.nodes[0].events), detail.events_total) == (2, 7)


@pytest.mark.parametrize("limit", [0, -1, 10_001, True, math.nan, "5"])
def test_absurd_limits_are_refused(limit: Any) -> None:
    with pytest.raises(InvalidArgument, match="limit"):
        list_runs(limit)


def test_an_unknown_status_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidArgument) as caught:
        list_runs(status="broken")  # type: ignore[arg-type]
    assert "interrupted" in caught.value.fix


def test_hostile_events_neither_stop_the_journal_nor_the_list() -> None:
    with Journal() as journal:
        log, node = EventLog(new_id("run"), [journal.sink]), new_id("node")
        log.emit("run.started", node, None, question=["not", "text"], model=None)
        log.emit("turn.reply", node, None, usage={"tokens_in": "many", "tokens_out": -5, "calls": 10**30})
        log.emit("call.finished", node, "no such parent", usage=[1, 2], ok="\ud800")
        log.emit("answer", node, None, text="\ud800" * 9, confidence=7, termination={}, partial="yes")
        log.emit("error", node, None, code=1, message="m" * 10_000, fix=None)
        log.emit("run.finished", node, None, status="perfect", termination=1, usage=None, seconds=math.inf)
    summary = list_runs()[0]
    assert (summary.status, summary.question, summary.termination) == ("failed", "", None)
    assert (summary.answer, summary.partial, summary.usage.tokens) == ("?" * 9, False, 0)
    assert len(show_run(summary.id).nodes[0].events) == 6
    assert runs_to_json([summary])["schema_version"] == 1
