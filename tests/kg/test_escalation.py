"""A run whose code is held to a knowledge graph: retries with suggestions, then a person, or an error where there is none.

These are the acceptance criteria AC-4 (an unknown term, three retries, then an escalation) and AC-26 (`permissive` only
warns), each from a model's reply to the answer.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from kg_kit import PAGES, graph_file

from terraphim_rlm.core.errors import EscalationRequired, InvalidArgument, PathNotFound
from terraphim_rlm.core.events import Event
from terraphim_rlm.engine.guards import Checks
from terraphim_rlm.guard.asking import Asked, Asking
from terraphim_rlm.guard.default import make_guard
from terraphim_rlm.llm.scripted import ScriptedModel
from terraphim_rlm.service.rlm import Rlm

FREE = Checks(look_first=False, literal=False, unread=False)
sandbox = pytest.mark.sandbox


def cell(code: str) -> str:
    return f"```python\n{code}\n```"


UNKNOWN = [cell(f"print(grep('{word}'))") for word in ("frobnicator", "backgroud", "tsaks", "widgetry")]
DONE = cell("FINAL('done')")


def _pages(folder: Path) -> Path:
    folder.mkdir()
    for name, text in PAGES.items():
        (folder / name).write_text(text)
    return folder


class Run:
    """One run over the small domain."""

    def __init__(self, *replies: str) -> None:
        self.model = ScriptedModel([*replies])
        self.events: list[Event] = []

    async def of(self, folder: Path, **guard: Any) -> Any:
        wanted = make_guard(graph=graph_file(folder), **guard)
        async with wanted:
            rlm = Rlm(self.model, guard=wanted, route="loop", checks=FREE)
            return await rlm.ask("What?", _pages(folder / "pages"), sinks=(self.events.append,))

    def told(self, kind: str) -> list[Any]:
        return [event.data for event in self.events if event.type == kind]

    @property
    def statuses(self) -> list[str]:
        return [each["status"] for each in self.told("cell.finished")]


@sandbox
async def test_ac_4_after_three_retries_with_suggestions_a_person_approves_and_the_code_runs(
    tmp_path: Path,
) -> None:
    asked: list[Asked] = []

    def yes(what: Asked) -> bool:
        asked.append(what)
        return True

    run = Run(*UNKNOWN, DONE)
    answer = await run.of(tmp_path, ask=yes)
    assert answer.text == "done"
    assert run.statuses == ["blocked", "blocked", "blocked", "ok", "ok"]
    prompts = [request.messages[-1].content for request in run.model.requests]
    assert "this was try 1 of 3" in prompts[1]
    assert "Use its terms, such as 'routing'" in prompts[1]
    assert "Did you mean 'background task" in prompts[2]
    assert "this was try 3 of 3" in prompts[3]
    [what] = asked
    assert what.text == "print(grep('widgetry'))"
    assert what.question.startswith("After 3 tries")
    assert [what.text[each.start : each.end] for each in what.findings][:1] == ["widgetry"]
    assert run.told("approval.asked")[0]["text"] == what.text
    assert run.told("approval.decided") == [{"approved": True, "why": "a person said yes"}]
    assert [each["decision"] for each in run.told("verdict")] == ["block", "block", "block", "ask"]
    verdict = run.told("cell.finished")[3]["verdict"]
    assert verdict["decision"] == "warn"
    assert verdict["findings"][-1]["rule"] == "person"


@sandbox
async def test_ac_4_a_person_who_says_no_keeps_the_code_from_running_and_is_not_asked_the_same_again(
    tmp_path: Path,
) -> None:
    count = 0

    async def no(what: Asked) -> bool:
        nonlocal count
        count += 1
        return False

    again = [*UNKNOWN[:3], UNKNOWN[3]]
    run = Run(*UNKNOWN, *again, DONE)
    answer = await run.of(tmp_path, ask=no)
    assert answer.text == "done"
    assert run.statuses == ["blocked"] * 8 + ["ok"]
    assert count == 1, "the same code is decided once"
    assert "A person was asked, and did not let it run." in run.model.requests[4].messages[-1].content
    assert run.told("approval.decided") == [{"approved": False, "why": "a person said no"}]


@sandbox
async def test_ac_4_where_nobody_can_be_asked_the_run_ends_with_an_error_that_names_the_words(
    tmp_path: Path,
) -> None:
    run = Run(*UNKNOWN, DONE)
    with pytest.raises(EscalationRequired, match=r"After 3 tries .* unknown words \(widgetry\)") as caught:
        await run.of(tmp_path)
    assert caught.value.row.mcp == -32031
    assert caught.value.details["unknown"] == ["widgetry"]
    assert run.statuses == ["blocked"] * 3
    assert run.told("run.finished")[0]["status"] == "failed"


@sandbox
async def test_ac_26_permissive_lets_everything_run_and_only_warns(tmp_path: Path) -> None:
    run = Run(*UNKNOWN, DONE)
    answer = await run.of(tmp_path, strictness="permissive")
    assert answer.text == "done"
    assert run.statuses == ["ok"] * 5
    assert [each["decision"] for each in run.told("verdict")] == ["warn"] * 4
    assert run.told("approval.asked") == []


@sandbox
async def test_code_in_known_words_begins_the_count_anew_and_other_rules_are_no_matter_of_words(
    tmp_path: Path,
) -> None:
    harm = cell("import shutil\nshutil.rmtree('/etc')  # frobnicator")
    run = Run(*UNKNOWN[:3], cell("print(len(grep('middleware')))"), *UNKNOWN[:3], harm, harm, DONE)
    answer = await run.of(tmp_path)
    assert answer.text == "done"
    assert run.statuses == ["blocked"] * 3 + ["ok"] + ["blocked"] * 5 + ["ok"]


@sandbox
async def test_kg_chunks_gives_the_paragraphs_that_name_a_concept_by_any_of_its_names(tmp_path: Path) -> None:
    run = Run(
        cell(
            "hits = kg_chunks(['websocket', 'harbor'])\n"
            "print([(hit.path.rpartition('/')[2], hit.line, hit.text, context[hit.path].bytes[hit.start:hit.end] == hit.text.encode()) for hit in hits])"
        ),
        cell("print(kg_chunks('BackgroundTasks', 'x\\n\\nA background\\ntask!', limit=1)[0].text)"),
        cell("try:\n    kg_chunks(['websockt'])\nexcept ModelCallError as error:\n    print(error)"),
        cell(
            "print(len(kg_chunks(['harbour'], path=[name for name in context if 'sea' in name][0])), len(kg_chunks('harbour', limit=1)))\nFINAL('done')"
        ),
    )
    await run.of(tmp_path, strictness="permissive")
    outputs = [each["stdout"] for each in run.told("cell.finished")]
    assert outputs[0] == (
        "[('sea.md', 1, 'The lighthouse stands at the harbour.', True), ('sea.md', 3, 'Harbor.', True), ('sockets.md', 1, "
        "'A web socket lives in a session. The session passes the middleware and the background task.', True)]\n"
    )
    assert outputs[1] == "A background\ntask!\n"
    assert (
        outputs[2]
        == "The knowledge graph has no term 'websockt'. Did you mean 'websocket' or 'web socket'?\n"
    )
    assert outputs[3] == "2 1\n"
    opening = run.model.requests[0].messages[1].content
    assert "There is a knowledge graph of web with concepts such as routing" in opening


@sandbox
async def test_without_a_graph_kg_chunks_says_so_and_nothing_is_told_of_one() -> None:
    model = ScriptedModel(
        [cell("try:\n    kg_chunks('x')\nexcept ModelCallError as error:\n    FINAL(str(error))")]
    )
    answer = await Rlm(model, route="loop", checks=FREE).ask("What?")
    assert answer.text == "This run has no knowledge graph. Use grep."
    assert "knowledge graph" not in model.requests[0].messages[1].content


async def test_a_graph_that_is_not_there_ends_a_run_before_a_model_is_asked(tmp_path: Path) -> None:
    model = ScriptedModel([DONE])
    async with make_guard(graph=tmp_path / "none.json") as guard:
        with pytest.raises(PathNotFound, match=r"none\.json"):
            await Rlm(model, guard=guard, route="loop").ask("What?")
    assert model.requests == []


async def test_no_answer_a_failure_and_anything_but_true_are_a_no() -> None:
    what = Asked("May it?", "x", seconds=30.0)

    async def never(asked: Asked) -> bool:
        await asyncio.Event().wait()
        return True

    def fails(asked: Asked) -> bool:
        raise RuntimeError("no terminal")

    assert (await Asking(never, 0.05).decided(what)).why == "nobody answered within 0.05 s"
    assert (await Asking(fails).decided(what)).why == "asking failed: RuntimeError: no terminal"
    for answer in (False, None, 1, "yes"):
        assert (await Asking(lambda _, answer=answer: answer).decided(what)).approved is False  # type: ignore[misc]
    assert (await Asking(lambda _: True).decided(what)).approved is True


async def test_a_person_is_asked_one_thing_at_a_time() -> None:
    inside = most = 0

    async def slowly(asked: Asked) -> bool:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        for _ in range(5):
            await asyncio.sleep(0)
        inside -= 1
        return True

    asking = Asking(slowly)
    came = await asyncio.gather(*(asking.decided(Asked("?", str(number))) for number in range(5)))
    assert (most, all(each.approved for each in came)) == (1, True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"retries": -1},
        {"retries": True},
        {"ask": print, "ask_seconds": 0},
        {"graph": "x", "strictness": "harsh"},
    ],
)
def test_what_a_guard_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        make_guard(**wrong)


async def test_a_slow_thread_that_asks_holds_up_neither_the_loop_nor_the_end_of_the_process() -> None:
    released = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(asked: Asked) -> bool:
        loop.call_soon_threadsafe(released.set)
        time.sleep(0.2)  # a person who thinks; nothing waits for it
        return True

    deciding = asyncio.ensure_future(Asking(slow, 0.1).decided(Asked("?", "x")))
    await released.wait()
    assert (await deciding).approved is False
