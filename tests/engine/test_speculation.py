"""Calls begun while a reply streams: found by the cells, counted when they are not, and never without the guard's leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from terraphim_rlm import Limits, Rlm
from terraphim_rlm.core.errors import ConfigInvalid, ModelUnreachable
from terraphim_rlm.core.events import Event
from terraphim_rlm.core.values import Answer, Finding, Verdict
from terraphim_rlm.engine.guards import Checks
from terraphim_rlm.faces.cli.tree import RunTree
from terraphim_rlm.llm.client import ModelReply, ModelRequest
from terraphim_rlm.llm.select import read_settings
from terraphim_rlm.service.runs import show_run
from terraphim_rlm.testing import ScriptedModel

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]
UNASKED = Checks(look_first=False, literal=False, unread=False)
ASKS = "a = llm_query('one')\nb = llm_query('two')\nprint(context, a, b)"


class Streaming(ScriptedModel):
    """Streams a reply line by line, and ends it when the sub-calls that are expected by then have come.

    Args:
        expects: how many sub-calls.
        holds: a sub-call waits for ever when this says so.
        breaks: the first stream breaks off instead of ending.
    """

    def __init__(
        self,
        replies: list[str],
        *,
        expects: int = 0,
        holds: Callable[[str], bool] = lambda said: False,
        breaks: bool = False,
    ) -> None:
        super().__init__(replies, sub_reply=lambda request: f"re {request.messages[-1].content}")
        self._expects = expects
        self._came = asyncio.Event()
        self._holds = holds
        self._breaks = breaks
        self.streams = 0
        self.asked_while_streaming: list[str] = []
        self.cut: list[str] = []
        self._is_streaming = False

    @property
    def sub_calls(self) -> list[str]:
        return [request.messages[-1].content for request in self.requests if request.purpose == "query"]

    def complete_nowait(self, request: ModelRequest) -> ModelReply | None:
        return None

    async def complete(self, request: ModelRequest) -> ModelReply:
        reply = await super().complete(request)
        said = request.messages[-1].content
        if request.purpose == "query":
            if self._is_streaming:
                self.asked_while_streaming.append(said)
                if len(self.asked_while_streaming) >= self._expects:
                    self._came.set()
            try:
                await (asyncio.Event().wait() if self._holds(said) else asyncio.sleep(0))
            except asyncio.CancelledError:
                self.cut.append(said)
                raise
        return reply

    async def stream(self, request: ModelRequest) -> AsyncIterator[str | ModelReply]:
        self.streams += 1
        reply = await super().complete(request)
        self._is_streaming = True
        try:
            for line in reply.text.splitlines(keepends=True):
                yield line
                await asyncio.sleep(0)
            if self._expects:
                await self._came.wait()
            if self._breaks:
                self._breaks = False
                self._replies.insert(self._used["replies"], reply)
                raise ModelUnreachable("The line broke.")
        finally:
            self._is_streaming = False
        yield reply


def block(code: str, after: str = "And so on.\n" * 5) -> str:
    return f"I will ask.\n```repl\n{code}\n```\n{after}"


async def asked(model: Streaming, **options: Any) -> tuple[Answer, list[dict[str, Any]], list[Event]]:
    """The answer, what was told of speculation, and all events."""
    events: list[Event] = []
    rlm = Rlm(model, route="loop", checks=UNASKED, **{"speculate": True, **options})
    answer = await rlm.ask("What?", "input", sinks=(events.append,))
    return answer, [dict(event.data) for event in events if event.type == "speculation.finished"], events


async def test_calls_are_made_while_the_reply_streams_and_the_cell_finds_them() -> None:
    model = Streaming([block(ASKS), "FINAL_VAR(b)"], expects=2)
    answer, told, _ = await asked(model)
    assert (answer.text, model.asked_while_streaming, model.sub_calls) == (
        "re two",
        ["one", "two"],
        ["one", "two"],
    )
    assert [(each["begun"], each["used"], each["wasted"]) for each in told] == [(2, 2, 0)]
    assert answer.usage.calls == 4


async def test_switched_off_nothing_is_streamed_and_nothing_is_told() -> None:
    model = Streaming([block(ASKS), "FINAL_VAR(b)"], expects=2)
    answer, told, _ = await asked(model, speculate=False)
    assert (answer.text, model.streams, model.asked_while_streaming, told) == ("re two", 0, [], [])


async def test_each_call_begun_serves_one_call_of_the_cell_so_that_votes_stay_votes() -> None:
    model = Streaming(
        [block("v = [llm_query('vote') for _ in ['a', 'b', 'c']]\nprint(context, v)"), "FINAL(done)"]
    )
    answer, told, _ = await asked(model)
    assert model.sub_calls == ["vote"] * 3
    assert (told[0]["begun"], told[0]["used"], answer.usage.calls) == (3, 3, 5)


async def test_a_call_that_wants_the_same_answer_again_is_made_once() -> None:
    code = "v = [llm_query('same', memo=True) for _ in ['a', 'b', 'c']] + llm_query_batched(['same', 'same'], memo=True)\nprint(context)"
    model = Streaming([block(code), "FINAL(done)"], expects=1)
    answer, told, _ = await asked(model)
    assert model.sub_calls == ["same"]
    assert (told[0]["begun"], told[0]["used"], answer.usage.calls) == (1, 1, 3)


async def test_what_no_cell_asks_for_is_counted_with_its_cost_and_told() -> None:
    model = Streaming([block(f"print(context)\nundefined\n{ASKS}"), "FINAL(done)"], expects=2)
    answer, told, events = await asked(model)
    (only,) = told
    assert (only["begun"], only["used"], only["wasted"], only["usage"]["calls"]) == (2, 0, 2, 2)
    assert only["usage"]["tokens_out"] > 0
    seen = sum(
        event.data["usage"]["calls"]
        for event in events
        if event.type in ("turn.reply", "call.finished", "speculation.finished")
    )
    assert answer.usage.calls == seen == 4
    tree = RunTree()
    for event in events:
        tree(event)
    assert tree.ahead.startswith("begun ahead of their cells: 2 sub-calls; 2 for nothing, ")
    assert any(tree.ahead in line.text for line in tree.lines())
    assert show_run(answer.run_id).summary.usage == answer.usage


async def test_calls_in_flight_for_a_block_that_does_not_run_are_cut_short_and_count_as_spent() -> None:
    blocks = "```repl\nprint(context)\n1 / 0\n```\nThen:\n```repl\nx = llm_query('late')\n```\nAnd so on.\nAnd on.\n"
    model = Streaming([blocks, "FINAL(done)"], expects=1, holds=lambda said: said == "late")
    answer, told, _ = await asked(model)
    assert (model.asked_while_streaming, model.cut) == (["late"], ["late"])
    assert (told[0]["wasted"], told[0]["usage"]["estimated"]) == (1, True)
    assert answer.usage.tokens >= told[0]["usage"]["tokens_out"] >= 4096


async def test_a_cancelled_run_leaves_no_call_behind() -> None:
    begun = asyncio.Event()
    model = Streaming([block(ASKS)], expects=10, holds=lambda said: begun.set() or True)
    task = asyncio.create_task(asked(model))
    await asyncio.wait_for(begun.wait(), 30)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert sorted(model.cut) == sorted(model.asked_while_streaming) != []


class Guarded:
    """Blocks code that holds a word; notes what was asked while the reply streamed."""

    def __init__(self, word: str) -> None:
        self.word = word
        self.asked: list[str] = []

    async def verdict(self, code: str, language: str) -> Verdict:
        self.asked.append(code)
        if self.word in code:
            return Verdict("block", (Finding("word", "high", 0, 1, "no"),))
        return Verdict("allow")


async def test_a_block_that_the_guard_would_stop_begins_nothing_and_neither_does_what_follows_it() -> None:
    guard = Guarded("secret")
    blocks = "```repl\nsecret = llm_query('secret one')\n```\nThen:\n```repl\nx = llm_query('after')\n```\nAnd so on.\nAnd on.\n"
    model = Streaming([blocks, "FINAL(done)"])
    _, told, events = await asked(model, guard=guard)
    assert (model.sub_calls, told) == ([], [])
    assert [event.data["status"] for event in events if event.type == "cell.finished"] == ["blocked"]


async def test_the_guard_is_asked_once_for_a_block_and_before_its_calls_begin() -> None:
    guard = Guarded("never")
    model = Streaming([block(ASKS), "FINAL_VAR(b)"], expects=2)
    await asked(model, guard=guard)
    assert guard.asked == [ASKS]
    assert model.asked_while_streaming == ["one", "two"]


async def test_where_the_budget_has_no_room_nothing_is_begun_and_the_cell_asks_by_itself() -> None:
    model = Streaming([block(ASKS), "FINAL_VAR(b)"], expects=1)
    answer, told, _ = await asked(model, limits=Limits(calls=2, tokens=None))
    assert (answer.usage.calls, answer.partial) == (2, True)
    assert [(each["begun"], each["used"]) for each in told] == [
        (1, 1)
    ]  # the reply itself holds the other call
    assert model.sub_calls == ["one"]


async def test_a_stream_that_breaks_off_is_asked_for_whole() -> None:
    model = Streaming([block(ASKS), "FINAL_VAR(b)"], expects=2, breaks=True)
    answer, told, _ = await asked(model)
    assert answer.text == "re two"
    assert [(each["begun"], each["used"]) for each in told] == [(2, 2)]


async def test_a_call_begun_that_fails_fails_in_the_cell_that_asks_for_it() -> None:
    model = Streaming(
        [block("try:\n    pass\nfinally:\n    print(context)\nx = llm_query('one')"), "FINAL(done)"]
    )
    model._sub_reply = lambda request: ModelUnreachable("The provider is down.")
    _, told, events = await asked(model)
    assert [event.data["status"] for event in events if event.type == "cell.finished"] == ["exit_nonzero"]
    assert (told[0]["begun"], told[0]["used"]) == (1, 1)


async def test_the_configuration_switches_it_on_and_says_when_it_is_neither(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    file = tmp_path / "c.toml"
    monkeypatch.setenv("TRLM_CONFIG", str(file))
    assert read_settings().speculate is False
    file.write_text("speculate = true\n")
    assert read_settings().speculate is True
    file.write_text('speculate = "yes"\n')
    with pytest.raises(ConfigInvalid, match="true or false"):
        read_settings()
