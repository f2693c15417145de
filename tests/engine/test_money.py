"""Budgets to the last token: ten thousand calls at once, prices nobody knows, and how each limit ends a run."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import Any

import pytest

from terraphim_rlm import Limits, Rlm
from terraphim_rlm.core.errors import BudgetExceeded, InvalidArgument, ModelUnreachable
from terraphim_rlm.core.ledger import Ledger
from terraphim_rlm.core.values import Usage
from terraphim_rlm.engine.asker import Asker
from terraphim_rlm.engine.guards import Checks
from terraphim_rlm.llm import prices
from terraphim_rlm.llm.client import Message, ModelInfo, ModelReply, ModelRequest
from terraphim_rlm.testing import ScriptedModel

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]
LOOK = "```python\nprint(context[:20])\n```"


class Biller:
    """Bills what it likes within what was asked, after a while of its own, and fails now and then."""

    def __init__(self, ledger: Ledger, name: str = "openai/gpt-5-mini") -> None:
        self.info = ModelInfo(name)
        self._ledger = ledger
        self._random = random.Random(7)
        self.billed: list[Usage] = []
        self.most = (0, 0, 0)

    def complete_nowait(self, request: ModelRequest) -> None:
        return None

    async def complete(self, request: ModelRequest) -> ModelReply:
        stats = self._ledger.statistics()
        now = (
            stats.settled.tokens + stats.reserved_tokens,
            stats.settled.microdollars + stats.reserved_microdollars,
            stats.settled.calls + stats.reserved_calls,
        )
        self.most = tuple(map(max, self.most, now))  # type: ignore[assignment]
        for _ in range(self._random.randrange(4)):
            await asyncio.sleep(0)
        if self._random.random() < 0.1:
            raise ModelUnreachable("gone")
        out = self._random.randint(1, request.max_tokens or 1)
        usage = Usage(tokens_in=14, tokens_out=out, calls=1)
        usage = replace(usage, microdollars=prices.cost(self.info.name, usage) or 0)
        self.billed.append(usage)
        return ModelReply("x", usage)


@pytest.mark.parametrize(
    "limits",
    [
        Limits(tokens=None, calls=None, seconds=None),
        Limits(tokens=200_000, calls=None, seconds=None),
        Limits(tokens=None, calls=1_234, seconds=None),
        Limits(tokens=None, calls=None, seconds=None, dollars=0.05),
        Limits(tokens=150_000, calls=5_000, seconds=None, dollars=0.2),
    ],
    ids=["none", "tokens", "calls", "dollars", "all"],
)
async def test_ten_thousand_parallel_sub_calls_are_booked_to_the_last_token_and_never_overspend(
    limits: Limits,
) -> None:
    ledger = Ledger(limits)
    asker, model = Asker(ledger), Biller(ledger)
    request = ModelRequest((Message("user", "p" * 40),), max_tokens=100)
    results = await asyncio.gather(
        *(asker.ask(model, ledger.root, request) for _ in range(10_000)),  # type: ignore[arg-type]
        return_exceptions=True,
    )
    done = [r for r in results if isinstance(r, ModelReply)]
    failed = [r for r in results if isinstance(r, ModelUnreachable)]
    refused = [r for r in results if isinstance(r, BudgetExceeded)]
    stats = ledger.statistics()

    assert len(done) + len(failed) + len(refused) == 10_000
    assert bool(refused) == (limits != Limits(tokens=None, calls=None, seconds=None))
    assert stats.settled.tokens == sum(each.tokens for each in model.billed) + 14 * len(failed)
    assert stats.settled.microdollars == sum(each.microdollars for each in model.billed)
    assert stats.settled.calls == len(done) + len(failed)
    assert (stats.reserved_tokens, stats.reserved_microdollars, stats.reserved_calls) == (0, 0, 0)
    for reached, limit in zip(
        model.most, (limits.tokens, limits.dollars and limits.dollars * 1e6, limits.calls), strict=True
    ):
        assert limit is None or reached <= limit


async def test_ten_thousand_prompts_of_one_cell_are_counted_each(ask: Any) -> None:
    code = "```python\nFINAL(len(llm_query_batched([f'{context} {n}' for n in range(10_000)])))\n```"
    asked = await ask([code], "item", sub_reply="four", limits=Limits(tokens=None, calls=10_001))

    assert asked.answer.value == 10_000
    assert asked.answer.usage.calls == 10_001
    subs = [request for request in asked.model.requests if request.purpose == "query"]
    turns = asked.of("turn.reply")
    spent = sum(len(r.messages[0].content) // 4 + 4 + 1 for r in subs)
    assert asked.answer.usage.tokens == spent + sum(
        each["usage"]["tokens_in"] + each["usage"]["tokens_out"] for each in turns
    )


# -- each limit has its end


def priced(replies: list[Any], **options: Any) -> ScriptedModel:
    model = ScriptedModel(replies, **options)
    model._info = replace(model.info, name="openai/gpt-5")
    return model


DRAFT = "```python\nanswer['content'] = 'draft'\nprint(context[:9], {n})\n```"
ENDS = {
    "tokens": (Limits(tokens=4_500), "token_budget"),
    "calls": (Limits(calls=3), "token_budget"),
    "dollars": (Limits(tokens=None, dollars=0.0099), "cost_budget"),
    "turns": (Limits(turns=3), "max_turns"),
    "seconds": (Limits(seconds=1.0), "time_budget"),
}


@pytest.mark.parametrize("limit", ENDS)
@pytest.mark.parametrize("drafted", [True, False])
async def test_each_limit_ends_a_run_with_its_own_word_and_the_best_there_was(
    limit: str, drafted: bool
) -> None:
    limits, termination = ENDS[limit]
    bill = Usage(tokens_in=900, tokens_out=200, calls=1, microdollars=3_000)
    step = DRAFT if drafted else "```python\nprint(context[:9], {n})\n```"
    last = "```python\nprint('late')\nwhile True: pass\n```" if limit == "seconds" else step
    replies = [ModelReply((step if n < 2 else last).replace("{n}", str(n)), bill) for n in range(9)]
    events: list[Any] = []
    rlm = Rlm(priced(replies), route="loop", limits=limits)
    answer = await rlm.ask("What?", "some input", sinks=(events.append,))

    assert (answer.termination, answer.partial, answer.confidence) == (termination, True, "unverified")
    assert answer.text == ("draft" if drafted else answer.text)
    assert answer.text.startswith("draft" if drafted else ("late" if limit == "seconds" else "some inpu"))
    assert [event.data["code"] for event in events if event.type == "error"]
    assert any(event.type == "budget.warning" and event.data["limit"] == limit for event in events)


@pytest.mark.parametrize("limit", [name for name in ENDS if name != "seconds"])
async def test_the_model_is_told_of_each_limit_that_is_nearly_reached(limit: str) -> None:
    bill = Usage(tokens_in=4_000, tokens_out=200, calls=1, microdollars=3_000)
    wide = {
        "tokens": Limits(tokens=20_000), "calls": Limits(calls=5), "turns": Limits(turns=5),
        "dollars": Limits(tokens=None, dollars=0.0149),
    }  # fmt: skip
    model = priced([ModelReply(DRAFT.replace("{n}", str(n)), bill) for n in range(9)])
    await Rlm(model, route="loop", limits=wide[limit]).ask("What?", "some input")

    told = [request.messages[-1].content for request in model.requests]
    assert f"limits are used: {limit}" in told[-1]
    assert "are used" not in told[1]


# -- prices nobody knows


class Unpriced(ScriptedModel):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._info = replace(self._info, name="openai/nobody-knows-this-one")


@pytest.mark.row("I-08")
async def test_a_model_without_a_price_is_refused_under_a_limit_of_dollars() -> None:
    with pytest.raises(InvalidArgument, match="price of this model is not known") as caught:
        await Rlm(Unpriced(["FINAL(x)"]), limits=Limits(dollars=1.0)).ask("?", "input")
    assert "unpriced" in caught.value.fix
    answer = await Rlm(Unpriced(["x"]), limits=Limits()).ask("?", "input")
    assert answer.usage.microdollars == 0


@pytest.mark.row("I-08")
@pytest.mark.parametrize("latency", [0.0, 0.001])
async def test_or_is_charged_the_highest_price_that_is_known(latency: float) -> None:
    limits = Limits(dollars=20.0, unpriced="maximum")
    code = "```python\nprint(llm_query(context), llm_query_batched(['a', 'b']))\n```"
    model = Unpriced([code, "FINAL(x)"], sub_reply="sub", latency=latency)
    answer = await Rlm(model, route="loop", limits=limits).ask("?", "input")

    usage = answer.usage
    highest = prices.highest(usage.tokens_in, usage.tokens_out)
    assert highest <= usage.microdollars <= highest + usage.calls  # each call is rounded up
    assert usage.estimated
    assert highest >= (prices.cost("openai/o1-pro", usage) or 0) > 0
    poor = Limits(dollars=0.5, unpriced="maximum")
    steps = [f"```python\nprint({n})\n```" for n in range(9)]
    ended = await Rlm(Unpriced(steps), route="loop", limits=poor).ask("?", "input")
    assert ended.termination == "cost_budget"
    assert ended.usage.microdollars <= 500_000


@pytest.mark.row("I-08")
async def test_a_price_that_is_known_is_never_replaced_by_the_highest() -> None:
    bill = Usage(tokens_in=900, tokens_out=200, calls=1, microdollars=3_000)
    limits = Limits(dollars=1.0, unpriced="maximum")
    answer = await Rlm(priced([ModelReply("x", bill)]), limits=limits).ask("?", "input")
    free = await Rlm(ScriptedModel(["x"]), limits=limits).ask("?", "input")

    assert (answer.usage.microdollars, free.usage.microdollars) == (3_000, 0)


@pytest.mark.row("I-08")
def test_what_becomes_of_models_without_a_price_is_one_of_two_words() -> None:
    with pytest.raises(InvalidArgument, match="unpriced"):
        Limits(unpriced="guess")  # type: ignore[arg-type]


async def test_a_schema_may_be_a_pydantic_model_which_has_the_last_word(ask: Any) -> None:
    from pydantic import BaseModel, field_validator

    class Found(BaseModel):
        count: int
        unit: str = "lines"

        @field_validator("count")
        @classmethod
        def _even(cls, value: int) -> int:
            if value % 2:
                raise ValueError("must be even")
            return value

    asked = await ask(
        [LOOK, "FINAL(many)", 'FINAL({"count": 3})', 'FINAL({"count": 4})'],
        schema=Found,
        checks=Checks(verify=lambda p: None if p.value["count"] == 4 else "not four"),
    )
    assert asked.answer.value == {"count": 4}
    assert '"unit"' in asked.said(1)
    assert "not of the asked form" in asked.said(3)
    assert "must be even" in asked.said(4)
    nothing = await ask([LOOK, "FINAL(not found)"], schema=Found)
    assert nothing.answer.termination == "not_found"
    for wrong in (int, 5, Found(count=2)):
        with pytest.raises(InvalidArgument, match="schema"):
            await ask([LOOK], schema=wrong)
