"""What is particular to the OpenAI chat format, and to keys and addresses."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from llm.http_kit import KEY, Sleeps, answer, ask, client
from rows import named
from terraphim_rlm.core.errors import (
    InvalidArgument,
    KeyMissing,
    ModelTimeout,
)
from terraphim_rlm.core.ledger import Ledger
from terraphim_rlm.core.values import Limits
from terraphim_rlm.engine.asker import Asker
from terraphim_rlm.llm.client import Message, ModelClient, ModelRequest
from terraphim_rlm.llm.http import Bounds
from terraphim_rlm.llm.openai_compatible import OpenAICompatible
from terraphim_rlm.llm.openai_wire import body
from terraphim_rlm.llm.providers import FORBID_NETWORK, PROVIDERS
from terraphim_rlm.llm.retry import Retrying
from terraphim_rlm.testing import Fake, FakeOpenAI

pytestmark = pytest.mark.anyio


@pytest.fixture
def sleeps() -> Sleeps:
    return Sleeps()


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, KEY)
    monkeypatch.setenv(FORBID_NETWORK, "1")


async def test_a_reply_carries_text_usage_and_reason(sleeps: Sleeps):
    async with FakeOpenAI([Fake("hello wörld 🌍", cached_tokens=3, reasoning="hm")]) as server:
        model = client(server, sleeps)
        assert isinstance(model, ModelClient)
        assert model.complete_nowait(ask()) is None
        reply = await model.complete(ask(temperature=0.5, max_tokens=77, node="node-1"))
        assert (reply.text, reply.finish_reason) == ("hello wörld 🌍", "stop")
        assert (reply.usage.tokens_in, reply.usage.tokens_cached, reply.usage.tokens_out) == (11, 3, 4)
        assert (reply.usage.calls, reply.usage.estimated) == (1, False)
        seen = server.requests[0]
        assert seen.headers["authorization"] == f"Bearer {KEY}"
        assert seen.body == {
            "model": "tiny",
            "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": 0.5,
            "max_tokens": 77,
        }
        await model.aclose()
        await model.aclose()


async def test_schema_and_grammar_go_only_where_they_are_obeyed(sleeps: Sleeps):
    async with FakeOpenAI() as server:
        for provider in ("openai", "llamacpp"):
            model = client(server, sleeps, provider)
            assert model.info.supports_grammar is (provider == "llamacpp")
            await model.complete(ask(schema={"type": "object"}))
            await model.complete(ask(grammar='root ::= "a"'))
            await model.aclose()
        bodies = [seen.body for seen in server.requests]
        assert bodies[0]["response_format"]["json_schema"]["schema"] == {"type": "object"}
        assert ["grammar" in body for body in bodies] == [False, False, False, True]
        assert "authorization" not in server.requests[2].headers


async def test_lone_surrogates_and_null_bytes_can_be_sent(sleeps: Sleeps):
    async with FakeOpenAI() as server:
        model = client(server, sleeps)
        await model.complete(ask("a\ud800b\x00"))
        assert server.requests[0].body["messages"][1]["content"] == "a?b\x00"
        await model.aclose()


@pytest.mark.row("H16")
@pytest.mark.parametrize(
    "before",
    named(
        {
            "error": [Fake(status=500)],
            "cut": [Fake("half", cut_after=2)],
            "cut-cleanly": [Fake("half", cut_after=2, clean_cut=True)],
            "busy-then-error": [Fake(status=429), Fake(status=503)],
        }
    ),
)
async def test_a_call_that_was_sent_more_than_once_is_paid_once(sleeps: Sleeps, before: list[Fake]):
    async with FakeOpenAI([*before, Fake("fine")]) as server:
        model, ledger = client(server, sleeps), Ledger(Limits())
        reply = await Asker(ledger).ask(model, ledger.root, ask())
        sent = [seen.headers["idempotency-key"] for seen in server.requests]
        assert (len(sent), len(set(sent))) == (len(before) + 1, 1)
        assert (ledger.usage.calls, ledger.usage.tokens) == (1, reply.usage.tokens)
        await model.aclose()


@pytest.mark.row("H16")
async def test_every_attempt_of_a_call_carries_the_same_idempotency_key(sleeps: Sleeps):
    async with FakeOpenAI([Fake(status=500), Fake(), Fake()]) as server:
        model = client(server, sleeps)
        await model.complete(ask())
        await model.complete(ask())
        keys = [seen.headers["idempotency-key"] for seen in server.requests]
        assert keys[0] == keys[1] != keys[2]
        await model.aclose()


LIES: list[Any] = [
    {"prompt_tokens": 0, "completion_tokens": 0},
    {"prompt_tokens": -5, "completion_tokens": -1},
    {"prompt_tokens": 10**12, "completion_tokens": 10**12},
    {"prompt_tokens": "12", "completion_tokens": None},
    {"prompt_tokens": True, "completion_tokens": 1.5},
    {"prompt_tokens_details": "x", "completion_tokens_details": []},
    {},
    "many",
    False,
]


@pytest.mark.row("H11")
@pytest.mark.parametrize(
    "usage", LIES, ids=["zero", "negative", "huge", "text", "bool", "details", "empty", "word", "none"]
)
async def test_usage_that_cannot_be_true_is_replaced_by_our_own_estimate(sleeps: Sleeps, usage: Any):
    got = (await answer([Fake("y" * 400, usage=usage)], sleeps, ask("x" * 4000))).usage
    assert (got.tokens_in, got.tokens_out, got.estimated) == (1010, 100, True)


async def test_parts_of_usage_never_exceed_the_whole(sleeps: Sleeps):
    usage = {
        "prompt_tokens": 20,
        "completion_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 10**9},
        "completion_tokens_details": {"reasoning_tokens": 5},
        "cost": 0.0000123,
    }
    got = (await answer([Fake("y" * 40, usage=usage)], sleeps)).usage
    assert (got.tokens_cached, got.tokens_reasoning, got.microdollars) == (0, 5, 13)


@pytest.mark.row("H11")
@pytest.mark.parametrize("cost", [-1, 10**9, "1", True, float("nan")])
async def test_a_reported_cost_that_cannot_be_true_is_not_believed(sleeps: Sleeps, cost: Any):
    reply = await answer([Fake(usage={"prompt_tokens": 20, "completion_tokens": 1, "cost": cost})], sleeps)
    assert reply.usage.microdollars == 0
    assert reply.details["price"] == "unknown"


@pytest.mark.row("H04")
async def test_bytes_that_trickle_without_a_line_do_not_count_as_life(sleeps: Sleeps):
    tasks: list[asyncio.Task[None] | None] = []

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.current_task())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        try:
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.01)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(trickle, "127.0.0.1", 0)
    url = "http://{}:{}/v1".format(*server.sockets[0].getsockname()[:2])
    model = OpenAICompatible(
        PROVIDERS["openai"],
        "tiny",
        base_url=url,
        bounds=Bounds(first_byte=0.06),
        retrying=Retrying(sleep=sleeps),
    )
    with pytest.raises(ModelTimeout):
        await model.complete(ask())
    await model.aclose()
    server.close()
    await asyncio.wait([task for task in tasks if task])


# -- keys and addresses


def test_a_missing_key_is_an_error_that_names_its_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(FORBID_NETWORK)
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(KeyMissing) as caught:
        OpenAICompatible(PROVIDERS["openai"], "tiny")
    assert "export OPENAI_API_KEY=" in caught.value.fix


def test_a_key_that_no_header_can_carry_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-a\nX-Evil: 1")
    with pytest.raises(KeyMissing) as caught:
        OpenAICompatible(PROVIDERS["openai"], "tiny", base_url="http://127.0.0.1:1/v1")
    assert "Evil" not in json.dumps(caught.value.to_json())


def test_the_key_is_in_no_repr():
    model = OpenAICompatible(PROVIDERS["openai"], "tiny", base_url="http://127.0.0.1:1/v1")
    shown = repr(model) + repr(vars(model)) + repr(vars(model._connection)) + str(model.info)
    assert KEY not in shown


def test_the_key_is_not_sent_in_the_clear_to_another_machine(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(FORBID_NETWORK)
    model = OpenAICompatible(PROVIDERS["openai"], "tiny", base_url="http://models.example/v1")
    assert model._connection.key.reveal() == ""


@pytest.mark.parametrize(
    "url", ["ftp://x/v1", "127.0.0.1:8000", "http://", "http://127.0.0.1:99999/v1", "http://u:p@127.0.0.1/v1"]
)
def test_a_base_url_that_is_none_is_refused(url: str):
    with pytest.raises(InvalidArgument) as caught:
        OpenAICompatible(PROVIDERS["openai"], "tiny", base_url=url)
    assert "u:p" not in caught.value.message


@pytest.mark.parametrize(
    "url", [None, "https://127.0.0.1.example/v1", "http://10.0.0.1/v1", "http://localhost.example/"]
)
def test_the_switch_forbids_every_address_but_loopback(url: str | None):
    with pytest.raises(InvalidArgument, match=FORBID_NETWORK):
        OpenAICompatible(PROVIDERS["openai"], "tiny", base_url=url)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/v1/", "http://localhost:1/v1", "http://[::1]:1/v1", "http://127.8.8.8/v1"]
)
def test_the_switch_allows_loopback(url: str):
    assert OpenAICompatible(PROVIDERS["openai"], "tiny", base_url=url)._connection.base_url == url.rstrip("/")


def test_anchors_go_to_models_that_want_to_be_told_what_to_cache() -> None:
    chat = (
        Message("system", "s"),
        Message("user", "1"),
        Message("assistant", "a"),
        Message("user", "2"),
        Message("user", "3"),
    )

    def anchored(provider: str, model: str, purpose: Any) -> list[int]:
        messages = body(ModelRequest(chat, purpose=purpose), PROVIDERS[provider], model)["messages"]
        return [index for index, message in enumerate(messages) if isinstance(message["content"], list)]

    assert anchored("openrouter", "anthropic/claude-sonnet-4.5", "turn") == [0, 3, 4]
    assert anchored("openrouter", "anthropic/claude-sonnet-4.5", "query") == []
    assert anchored("openrouter", "openai/gpt-5", "turn") == []
    assert anchored("openai", "anthropic/x", "turn") == []
