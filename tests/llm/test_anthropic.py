"""What is particular to Anthropic's format: anchors of its cache, thinking, errors within a stream, prices."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from llm.http_kit import KEY, Sleeps, answer, client
from terraphim_rlm import Limits, Rlm
from terraphim_rlm.core.errors import (
    KeyMissing,
    ModelAuth,
    ModelError,
    ModelProtocol,
    ModelRateLimited,
    ModelUnreachable,
    PromptTooLong,
)
from terraphim_rlm.llm import prices
from terraphim_rlm.llm.anthropic import AnthropicModel
from terraphim_rlm.llm.anthropic_wire import body
from terraphim_rlm.llm.client import Message, ModelClient, ModelRequest
from terraphim_rlm.llm.profiles import PROFILES
from terraphim_rlm.llm.providers import FORBID_NETWORK
from terraphim_rlm.llm.select import open_model
from terraphim_rlm.testing import Fake, FakeAnthropic

pytestmark = pytest.mark.anyio
CHAT = (
    Message("system", "be brief"),
    Message("user", "one"),
    Message("assistant", "1"),
    Message("user", "two"),
)
ANCHOR = {"type": "ephemeral"}


@pytest.fixture
def sleeps() -> Sleeps:
    return Sleeps("anthropic")


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv(FORBID_NETWORK, "1")


def turn(*messages: Message, **options: Any) -> ModelRequest:
    return ModelRequest(messages or CHAT, purpose="turn", **options)


async def test_a_request_is_what_the_api_takes(sleeps: Sleeps):
    async with FakeAnthropic([Fake("hello wörld 🌍", reasoning="hm" * 4)]) as server:
        model = client(server, sleeps)
        assert isinstance(model, ModelClient)
        reply = await model.complete(ModelRequest(CHAT, temperature=1.5, max_tokens=77, node="node-1"))
        seen = server.requests[0]
        assert (reply.text, reply.finish_reason) == ("hello wörld 🌍", "stop")
        assert (reply.usage.tokens_out, reply.usage.tokens_reasoning, reply.usage.estimated) == (6, 2, False)
        assert (seen.path, seen.headers["x-api-key"]) == ("/v1/messages", KEY)
        assert "authorization" not in seen.headers
        assert seen.body == {
            "model": "tiny",
            "max_tokens": 77,
            "stream": True,
            "temperature": 1.0,
            "system": [{"type": "text", "text": "be brief"}],
            "messages": [
                {"role": role, "content": [{"type": "text", "text": text}]}
                for role, text in (("user", "one"), ("assistant", "1"), ("user", "two"))
            ],
        }
        await model.aclose()


def test_a_conversation_anchors_its_prefix_and_a_sub_call_nothing() -> None:
    def anchored(request: ModelRequest) -> list[str]:
        fields = body(request, "m", PROFILES["claude"])
        blocks = fields["system"] + [part for m in fields["messages"] for part in m["content"]]
        return [part["text"] for part in blocks if part.get("cache_control") == ANCHOR]

    assert anchored(turn()) == ["be brief", "one", "two"]
    assert anchored(turn(*CHAT, Message("assistant", "2"), Message("user", "three"))) == [
        "be brief",
        "two",
        "three",
    ]
    assert anchored(turn(*CHAT[:2])) == ["be brief", "one"]
    assert anchored(ModelRequest(CHAT)) == []


@pytest.mark.parametrize(
    ("profile", "request_", "thinking"),
    [
        ("claude", turn(), None),
        ("claude-budget", turn(max_tokens=8192), {"type": "enabled", "budget_tokens": 4096}),
        ("claude-budget", turn(max_tokens=3000), {"type": "enabled", "budget_tokens": 1500}),
        ("claude-budget", turn(max_tokens=2000), None),
        ("claude-budget", ModelRequest(CHAT, max_tokens=8192), None),
        ("claude-adaptive", turn(), {"type": "adaptive"}),
        ("claude-adaptive", ModelRequest(CHAT, purpose="direct"), {"type": "adaptive"}),
        ("claude-adaptive", ModelRequest(CHAT), None),
        ("default", turn(max_tokens=8192), None),
    ],
)
def test_thinking_is_asked_for_as_the_family_wants_it_and_never_with_a_temperature(
    profile: str, request_: ModelRequest, thinking: dict[str, Any] | None
) -> None:
    fields = body(replace(request_, temperature=0.3), "m", PROFILES[profile])
    assert fields.get("thinking") == thinking
    assert ("temperature" in fields) == (thinking is None)


async def test_empty_texts_and_lone_surrogates_can_be_sent(sleeps: Sleeps):
    async with FakeAnthropic() as server:
        model = client(server, sleeps)
        await model.complete(
            turn(Message("user", " \n"), Message("assistant", ""), Message("user", "a\ud800b\x00"))
        )
        texts = [m["content"][0]["text"] for m in server.requests[0].body["messages"]]
        assert texts == ["(empty)", "(empty)", "a?b\x00"]
        assert "system" not in server.requests[0].body
        await model.aclose()


# -- failures


def event(kind: str, message: str = "x") -> Fake:
    data = json.dumps({"type": "error", "error": {"type": kind, "message": message}})
    return Fake(content_type="text/event-stream", body=f"event: error\ndata: {data}\n\n")


@pytest.mark.parametrize(
    "kind", ["overloaded_error", "rate_limit_error", "api_error", "timeout_error", "what_error", "5"]
)
async def test_an_error_within_a_stream_is_tried_again_where_its_status_would_be(sleeps: Sleeps, kind: str):
    assert (await answer([event(kind), event(kind), Fake("fine")], sleeps)).text == "fine"
    assert len(sleeps.pauses) == 2


@pytest.mark.parametrize(
    ("fake", "error"),
    [
        (event("authentication_error", f"invalid x-api-key {KEY}"), ModelAuth),
        (event("permission_error"), ModelAuth),
        (event("not_found_error"), ModelAuth),
        (event("billing_error"), ModelAuth),
        (event("request_too_large"), PromptTooLong),
        (event("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"), PromptTooLong),
        (event("invalid_request_error", "Your credit balance is too low"), ModelAuth),
        (event("invalid_request_error"), ModelProtocol),
        (Fake(status=400, text="Your credit balance is too low to access the Anthropic API."), ModelAuth),
        (Fake(status=400, text="input length and `max_tokens` exceed context limit: 199000 + 9000 > 200000, context window"), PromptTooLong),
    ],
)  # fmt: skip
async def test_what_will_not_get_better_is_asked_once(sleeps: Sleeps, fake: Fake, error: type[ModelError]):
    async with FakeAnthropic([fake]) as server:
        model = client(server, sleeps)
        with pytest.raises(error):
            await model.complete(turn())
        assert len(server.requests) == 1
        await model.aclose()


async def test_overload_and_rate_limits_end_in_their_own_errors(sleeps: Sleeps):
    with pytest.raises(ModelUnreachable, match="overloaded"):
        await answer([Fake(status=529, text="Overloaded")] * 9, sleeps)
    with pytest.raises(ModelRateLimited):
        await answer([Fake(status=429, headers={"Retry-After": "1"})] * 9, sleeps)


@pytest.mark.parametrize(
    ("reason", "ours"),
    [("end_turn", "stop"), ("stop_sequence", "stop"), ("tool_use", "stop"), ("max_tokens", "length"),
     ("model_context_window_exceeded", "length"), ("refusal", "refusal"), ("pause_turn", "other"), ("new", "other")],
)  # fmt: skip
async def test_each_reason_to_stop_has_its_meaning(sleeps: Sleeps, reason: str, ours: str):
    assert (await answer([Fake("x", finish_reason=reason)], sleeps)).finish_reason == ours
    assert (await answer([Fake("x", finish_reason=reason, streamed=False)], sleeps)).finish_reason == ours


@pytest.mark.parametrize(
    "events",
    ['{"type": "message_start", "message": 5}', '{"type": "content_block_delta", "delta": "x"}', '{"type": 7}', "{}",
     '{"type": "ping"}', '{"type": "content_block_start", "content_block": null}', '{"type": "new_kind", "text": "no"}',
     '{"type": "message_delta", "delta": {"stop_reason": null}, "usage": []}',
     '{"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": "{"}}'],
)  # fmt: skip
async def test_events_that_may_be_anything_say_nothing(sleeps: Sleeps, events: str):
    end = '{"type": "message_delta", "delta": {"stop_reason": "end_turn"}}'
    stream = "".join(f"data: {each}\n\n" for each in (events, end, '{"type": "message_stop"}'))
    reply = await answer([Fake(content_type="text/event-stream", body=stream)], sleeps)
    assert (reply.text, reply.finish_reason, reply.usage.estimated) == ("", "stop", True)


# -- usage and money


LIES: list[Any] = [
    {"input_tokens": 0, "output_tokens": 0}, {"input_tokens": -5, "output_tokens": -1}, {}, "many", False,
    {"input_tokens": 10**12, "output_tokens": 10**12}, {"input_tokens": "12", "output_tokens": None},
    {"input_tokens": 4, "cache_read_input_tokens": 10**12, "output_tokens": 1},
    {"input_tokens": True, "cache_creation_input_tokens": True, "output_tokens": 1.5},
]  # fmt: skip


@pytest.mark.parametrize("usage", LIES)
async def test_usage_that_cannot_be_true_is_replaced_by_our_own_estimate(sleeps: Sleeps, usage: Any):
    request = ModelRequest((Message("user", "x" * 40_000),))
    got = (await answer([Fake("y" * 80_000, usage=usage)], sleeps, request)).usage
    assert (got.tokens_in, got.tokens_cached, got.estimated) == (10_004, 0, True)
    assert got.tokens_out in (20_000, 20_001)


def test_a_cache_that_is_read_costs_less_and_one_that_is_written_more() -> None:
    from terraphim_rlm.core.values import Usage

    name = "anthropic/claude-sonnet-4-5"
    plain = prices.cost(name, Usage(tokens_in=10_000, tokens_out=100))
    read = prices.cost(name, Usage(tokens_in=10_000, tokens_cached=9_000, tokens_out=100))
    written = prices.cost(name, Usage(tokens_in=10_000, tokens_out=100), written=9_000)
    assert (plain, read, written) == (31_500, 7_200, 38_250)
    assert prices.worst_case(name, 10_000, 100) == 39_000
    assert prices.context_window(name) == 200_000


@pytest.mark.sandbox
async def test_a_whole_run_pays_for_its_cache_as_the_server_keeps_it(
    monkeypatch: pytest.MonkeyPatch, sleeps: Sleeps
):
    look = "```python\nprint(context[{n}:{n}1])\n```"
    fakes = [*(Fake(look.format(n=n)) for n in range(1, 7)), Fake("FINAL(done)")]
    async with FakeAnthropic(fakes) as server:
        model = AnthropicModel("claude-sonnet-4-5", base_url=server.base_url)
        answered = await Rlm(model, route="loop", limits=Limits(tokens=None, dollars=1.0)).ask(
            "What?", "text " * 9000
        )
        await model.aclose()
        usage = answered.usage

        assert answered.text == "done"
        assert usage.tokens_cached / usage.tokens_in > 0.7
        assert not usage.estimated
        assert (
            0
            < usage.microdollars
            < (prices.cost("anthropic/claude-sonnet-4-5", replace(usage, tokens_cached=0)) or 0)
        )
        thinking = [seen.body.get("thinking", {}).get("type") for seen in server.requests]
        assert thinking == ["enabled"] * 7
        systems = {json.dumps(seen.body["system"]) for seen in server.requests}
        assert len(systems) == 1


# -- names and keys


def test_it_is_called_by_name_and_needs_its_key(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(FORBID_NETWORK)
    model = open_model("anthropic/claude-opus-4-7")
    assert isinstance(model, AnthropicModel)
    assert (model.info.name, model.info.window, model.info.profile) == (
        "anthropic/claude-opus-4-7", 1_000_000, "claude-adaptive",
    )  # fmt: skip
    assert open_model("anthropic/claude-next").info.window == 200_000
    assert KEY not in repr(model) + repr(vars(model)) + repr(vars(model._connection))
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    with pytest.raises(KeyMissing) as caught:
        open_model("anthropic/claude-opus-4-7")
    assert "export ANTHROPIC_API_KEY=" in caught.value.fix


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"messages": [{"role": "assistant", "content": [{"type": "text", "text": "x"}]}]}, "first message"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": 5000}}, "budget_tokens"),
        ({"thinking": {"type": "adaptive"}, "temperature": 1}, "temperature"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": " "}]}]}, "non-empty"),
    ],
)
async def test_the_double_refuses_what_the_api_refuses(
    monkeypatch: pytest.MonkeyPatch, sleeps: Sleeps, change: dict[str, Any], says: str
):
    monkeypatch.setattr("terraphim_rlm.llm.anthropic.body", lambda *args: {**body(*args), **change})
    with pytest.raises(ModelProtocol, match=says):
        await _with_default(sleeps)


async def _with_default(sleeps: Sleeps) -> None:
    async with FakeAnthropic() as server:
        model = client(server, sleeps)
        try:
            await model.complete(turn(max_tokens=3000))
        finally:
            await model.aclose()
