"""Identical sub-calls: answered once where the caller wants the same answer, asked again where he samples."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from terraphim_rlm import Limits
from terraphim_rlm.core.errors import ModelUnreachable
from terraphim_rlm.core.ledger import Ledger
from terraphim_rlm.engine.asker import Asker
from terraphim_rlm.engine.sharing import Sharing
from terraphim_rlm.llm.client import Message, ModelReply, ModelRequest
from terraphim_rlm.testing import ScriptedModel

pytestmark = pytest.mark.anyio

THREADS = (
    "from concurrent.futures import ThreadPoolExecutor\n"
    "with ThreadPoolExecutor(8) as pool: r = list(pool.map(lambda _: llm_query('same', memo=True), range(8)))\n"
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.sandbox
@pytest.mark.parametrize(
    ("code", "calls"),
    [
        ("r = [llm_query('same') for _ in range(5)]", 5),
        ("r = [llm_query('same', memo=True) for _ in range(5)]", 1),
        ("r = [llm_query('same', temperature=0) for _ in range(5)]", 1),
        ("r = [llm_query('same', temperature=0, memo=False) for _ in range(5)]", 5),
        ("r = [llm_query('same', temperature=1) for _ in range(5)]", 5),
        ("r = llm_query_batched(['same'] * 5)", 5),
        ("r = llm_query_batched(['same', 'other'] * 5, memo=True)", 2),
        ("r = [llm_query('same', memo=True), llm_query('same', memo=True, max_tokens=7)]", 2),
        ("r = map_query('Count.', ['a', 'b', 'a', 'a'])", 2),
        ("r = classify(['a', 'a', 'b'], ['x', 'y'])", 2),
        (THREADS, 1),
    ],
)
async def test_a_call_is_made_once_only_where_the_same_answer_is_wanted(
    ask: Any, code: str, calls: int
) -> None:
    replies = iter(range(100))
    asked = await ask([f"```python\n{code}\nFINAL(r)\n```"], sub_reply=lambda _: f"x {next(replies)}")

    assert asked.answer.usage.calls == calls + 1
    assert len([request for request in asked.model.requests if request.purpose == "query"]) == calls


@pytest.mark.sandbox
async def test_a_failed_call_is_not_remembered(ask: Any) -> None:
    code = (
        "```python\ntry: llm_query('p', memo=True)\nexcept ModelCallError as e: first = e.type\n"
        "FINAL([first, llm_query('p', memo=True), llm_query('p', memo=True)])\n```"
    )
    asked = await ask([code], sub_replies=[ModelUnreachable("gone"), "here"])

    assert asked.answer.value == ["ModelUnreachable", "here", "here"]


@pytest.mark.sandbox
async def test_a_child_finds_what_its_parent_asked(ask: Any) -> None:
    root = "```python\na = llm_query('p', memo=True)\nFINAL([a, rlm_query('again?')])\n```"
    asked = await ask([root, "```python\nFINAL(llm_query('p', memo=True))\n```"], sub_replies=["once"])

    assert asked.answer.value == ["once", "once"]


class Held(ScriptedModel):
    """Answers when it is let go."""

    def __init__(self) -> None:
        super().__init__([])
        self.go = asyncio.Event()
        self.began = self.ended = 0

    def complete_nowait(self, request: ModelRequest) -> ModelReply | None:
        return None

    async def complete(self, request: ModelRequest) -> ModelReply:
        self.began += 1
        try:
            await self.go.wait()
        finally:
            self.ended += 1
        return ModelReply("yes")


REQUEST = ModelRequest((Message("user", "p"),), max_tokens=10)


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_calls_in_flight_are_joined_and_one_pays() -> None:
    ledger, model = Ledger(Limits()), Held()
    sharing = Sharing(Asker(ledger))
    asking = [asyncio.create_task(sharing.ask(model, ledger.root, REQUEST)) for _ in range(50)]
    await turn()
    model.go.set()
    replies = await asyncio.gather(*asking)

    assert {reply.text for reply in replies} == {"yes"}
    assert (model.began, ledger.usage.calls, sharing.shared) == (1, 1, 49)


async def test_who_leaves_does_not_end_the_call_of_the_others_but_the_last_one_does() -> None:
    ledger, model = Ledger(Limits()), Held()
    sharing = Sharing(Asker(ledger))
    first, second = (asyncio.create_task(sharing.ask(model, ledger.root, REQUEST)) for _ in range(2))
    await turn()
    first.cancel()
    await turn()
    assert (model.began, model.ended) == (1, 0)
    second.cancel()
    await turn()
    assert (model.began, model.ended, ledger.in_flight) == (1, 1, 0)

    third = asyncio.create_task(sharing.ask(model, ledger.root, REQUEST))
    model.go.set()
    assert (await third).text == "yes"


async def test_a_failure_reaches_everybody_who_waits() -> None:
    ledger = Ledger(Limits())
    model = ScriptedModel([], sub_replies=[ModelUnreachable("gone"), "later"], latency=0.01)
    sharing = Sharing(Asker(ledger))
    both = await asyncio.gather(
        *(sharing.ask(model, ledger.root, REQUEST) for _ in range(2)), return_exceptions=True
    )

    assert [type(error) for error in both] == [ModelUnreachable] * 2
    assert (await sharing.ask(model, ledger.root, REQUEST)).text == "later"


async def test_what_is_remembered_is_bounded_and_the_oldest_goes(monkeypatch: Any) -> None:
    monkeypatch.setattr("terraphim_rlm.engine.sharing._MOST_REMEMBERED", 3)
    ledger = Ledger(Limits())
    sharing, model = Sharing(Asker(ledger)), ScriptedModel([], sub_reply="a")
    requests = [ModelRequest((Message("user", str(n)),)) for n in range(5)]
    for request in requests:
        sharing.remember(model, request, ModelReply("a"))

    assert [sharing.known(model, request) is not None for request in requests] == [
        False,
        False,
        True,
        True,
        True,
    ]
