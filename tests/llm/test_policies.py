"""Retries, windows, prices, profiles, estimates: the policies between a call and its provider."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from terraphim_rlm.core.clock import ManualClock
from terraphim_rlm.core.errors import ModelAuth, ModelRateLimited, ModelUnreachable
from terraphim_rlm.core.values import Usage
from terraphim_rlm.llm import prices, profiles, tokens
from terraphim_rlm.llm.failures import from_error_field, from_status, message_of, retry_after
from terraphim_rlm.llm.retry import Retrying
from terraphim_rlm.llm.window import Window, window_for

pytestmark = pytest.mark.anyio

# -- retries


async def attempts_of(
    errors: list[Exception], total: float = 600.0, chance: float = 0.0
) -> tuple[list[float], object]:
    clock, pauses = ManualClock(), []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        clock.advance(seconds)

    async def attempt() -> str:
        if errors:
            raise errors.pop(0)
        return "done"

    try:
        return pauses, await Retrying(total, clock, sleep, lambda: chance).run(attempt)
    except (ModelRateLimited, ModelUnreachable, ModelAuth) as error:
        return pauses, error


async def test_pauses_double_and_chance_spreads_them():
    assert (await attempts_of([ModelUnreachable("x") for _ in range(3)]))[0] == [0.15, 0.3, 0.6]
    late, _ = await attempts_of([ModelUnreachable("x") for _ in range(3)], chance=1.0)
    assert late == pytest.approx([0.3, 0.6, 1.2])


async def test_a_final_failure_is_not_tried_again():
    pauses, error = await attempts_of([ModelAuth("no"), ModelAuth("no")])
    assert pauses == []
    assert isinstance(error, ModelAuth)
    assert error.details == {"attempts": 1, "elapsed": 0.0}


async def test_no_pause_begins_that_would_end_after_the_deadline():
    pauses, error = await attempts_of(
        [ModelRateLimited("x", retry_after=30.0) for _ in range(9)], total=100.0
    )
    assert pauses == [30.0, 30.0, 30.0]
    assert isinstance(error, ModelRateLimited)


# -- what a provider says


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "2.5"}, 2.5),
        ({"retry-after": "-4"}, 0.0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:10 GMT"}, 10.0),
        ({"retry-after": "inf"}, 1e9),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers: dict[str, str], seconds: float | None):
    assert retry_after(headers, now=1445412480.0) == seconds


@settings(max_examples=50)
@given(st.integers(300, 599), st.text(max_size=400))
def test_every_refusal_becomes_an_error_of_bounded_length(status: int, body: str):
    error = from_status(status, body, {}, "http://127.0.0.1/v1")
    assert len(error.message) < 700
    assert error.message.isprintable()


@settings(max_examples=50)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda c: st.lists(c) | st.dictionaries(st.text(), c),
        max_leaves=5,
    )
)
def test_an_error_field_may_be_anything(value: object):
    assert from_error_field(value, "http://127.0.0.1/v1").message


def test_a_message_deep_in_brackets_is_still_a_message():
    assert message_of("[" * 100_000).startswith("[[[")


# -- windows


async def test_nothing_waits_before_the_first_429():
    window = Window()
    async with asyncio.TaskGroup() as group:
        ready = asyncio.Barrier(200)

        async def call() -> None:
            async with window.slot():
                await ready.wait()

        for _ in range(200):
            group.create_task(call())
    assert window.statistics().limit == 256


async def test_the_first_429_starts_slowly_doubles_each_round_and_then_adds_one():
    window = Window()
    limits = []
    async with window.slot() as slot:
        window._in_flight = 32
        window.rate_limited(slot)
        window._in_flight = 1
    for _ in range(16):
        limits.append(window.statistics().limit)
        window.succeeded()
    assert limits == [*range(1, 17)]
    for _ in range(15):
        window.succeeded()
    assert window.statistics().limit == 17


async def test_later_429s_halve_and_a_burst_counts_once():
    window = Window()
    async with window.slot() as first:
        window._in_flight = 64
        window.rate_limited(first)
        window.rate_limited(first)
        assert window.statistics().rate_limited == 1
        window._in_flight = 0
        for _ in range(31):
            window.succeeded()
        assert window.statistics().limit == 32
        slots = [window.slot() for _ in range(20)]
        entered = [await slot.__aenter__() for slot in slots]
        for slot in entered:
            window.rate_limited(slot)
        assert (window.statistics().limit, window.statistics().rate_limited) == (10, 2)
        for slot in slots:
            await slot.__aexit__(None, None, None)
        window._in_flight = 1


async def test_a_cancelled_waiter_leaves_no_slot_behind():
    window = Window(ceiling=1)
    order: list[str] = []

    async def call(name: str) -> None:
        async with window.slot():
            order.append(name)

    async with window.slot():
        tasks = [asyncio.create_task(call(name)) for name in "abc"]
        await asyncio.sleep(0)
        assert window.statistics().waiting == 3
        tasks[0].cancel()
        await asyncio.sleep(0)
    tasks[1].cancel()  # its turn has been given to it already
    await asyncio.wait(tasks)
    assert order == ["c"]
    assert (window.statistics().in_flight, window.statistics().waiting) == (0, 0)


def test_clients_of_one_provider_share_its_window():
    first = window_for("http://127.0.0.1:1")
    assert window_for("http://127.0.0.1:1") is first
    assert window_for("http://127.0.0.1:2") is not first


# -- prices


def test_prices_are_whole_microdollars_rounded_up():
    usage = Usage(tokens_in=1000, tokens_cached=200, tokens_out=100)
    full = prices.cost("openai/gpt-5-mini", Usage(tokens_in=1000, tokens_out=100))
    assert isinstance(full, int)
    assert 0 < prices.cost("openai/gpt-5-mini", usage) < full
    assert prices.worst_case("openai/gpt-5-mini", 1000, 100) == full
    assert prices.cost("openai/gpt-5-mini", Usage(tokens_in=1)) == 1
    assert prices.context_window("openai/gpt-5-mini") > 100_000


@pytest.mark.parametrize(
    "name", ["openai/no-such-model", "openrouter/x", "elsewhere/gpt-5-mini", "gpt-5-mini", ""]
)
def test_an_unknown_price_is_none_and_not_zero(name: str):
    assert prices.cost(name, Usage(tokens_in=10)) is None
    assert prices.worst_case(name, 1, 1) is None
    assert prices.context_window(name) is None


@pytest.mark.parametrize(
    "name", ["local/smollm2", "ollama/llama3.2:3b", "scripted", "scripted:a/b.jsonl", "manual:/tmp", "oracle"]
)
def test_what_runs_here_costs_no_money(name: str):
    assert prices.cost(name, Usage(tokens_in=10**6)) == 0


# -- profiles


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("llama3.2:3b", "small"),
        ("llama3.2", "small"),
        ("qwen2.5:0.5b-instruct", "small"),
        ("smollm2:135m", "small"),
        ("meta-llama/llama-3.2-1b-instruct", "small"),
        ("gemma3:270m", "small"),
        ("tinyllama", "small"),
        ("phi3:3.8b", "default"),
        ("qwen3-30b-a3b", "default"),
        ("llama3.2-vision:11b", "default"),
        ("gpt-4.1-mini", "default"),
        ("gpt-5-mini", "thinking"),
        ("o3", "thinking"),
        ("deepseek/deepseek-r1", "thinking"),
    ],
)
def test_a_name_tells_its_profile(name: str, profile: str):
    assert profiles.profile_of(name) == profile
    assert profile in profiles.PROFILES


# -- estimates


@given(st.text())
def test_an_estimate_is_never_negative_and_takes_any_text(text: str):
    assert 0 <= tokens.estimate(text + "\ud800") <= len(text) + 1


@given(st.one_of(st.integers(), st.floats(), st.text(), st.none(), st.booleans()), st.integers(0, 10**6))
def test_a_believed_figure_lies_within_reason(claim: object, own: int):
    got = tokens.believed(claim, own)
    assert got is None or own // 16 <= got <= max(own * 16, 20_000)


@pytest.mark.parametrize(
    ("claim", "own", "got"), [(0, 0, 0), (0, 3, None), (1, 3, 1), (5, 100, None), (7, 100, 7)]
)
def test_a_text_cannot_cost_next_to_nothing(claim: int, own: int, got: int | None):
    assert tokens.believed(claim, own) == got


def test_hidden_reasoning_up_to_the_limit_of_the_reply_is_believed():
    assert tokens.believed(60_000, 10, ceiling=64_000) == 60_000
    assert tokens.believed(60_000, 10) is None
