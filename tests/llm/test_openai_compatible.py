"""The OpenAI-compatible client against a real HTTP server on loopback that misbehaves as told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import Any

import pytest

from terraphim_rlm.core.clock import ManualClock
from terraphim_rlm.core.errors import (
    InvalidArgument,
    KeyMissing,
    ModelAuth,
    ModelError,
    ModelProtocol,
    ModelRateLimited,
    ModelRefused,
    ModelTimeout,
    ModelUnreachable,
    PromptTooLong,
)
from terraphim_rlm.llm.client import Message, ModelClient, ModelReply, ModelRequest
from terraphim_rlm.llm.http import Bounds
from terraphim_rlm.llm.openai_compatible import OpenAICompatible
from terraphim_rlm.llm.providers import FORBID_NETWORK, PROVIDERS
from terraphim_rlm.llm.retry import Retrying
from terraphim_rlm.testing import Fake, FakeOpenAI

pytestmark = pytest.mark.anyio
KEY = "sk-very-secret-0123456789"


class Sleeps:
    """A clock that jumps over every pause, and remembers it."""

    def __init__(self) -> None:
        self.pauses: list[float] = []
        self.clock = ManualClock()

    async def __call__(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.clock.advance(seconds)
        await asyncio.sleep(0)


@pytest.fixture
def sleeps() -> Sleeps:
    return Sleeps()


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv(FORBID_NETWORK, "1")


def client(server: FakeOpenAI, sleeps: Sleeps, provider: str = "openai", **bounds: Any) -> OpenAICompatible:
    retrying = Retrying(clock=sleeps.clock, sleep=sleeps, chance=lambda: 0.0, total=200.0)
    return OpenAICompatible(
        PROVIDERS[provider], "tiny", base_url=server.base_url, bounds=Bounds(**bounds), retrying=retrying
    )


def ask(text: str = "hello", **options: Any) -> ModelRequest:
    return ModelRequest((Message("system", "be brief"), Message("user", text)), **options)


async def answer(
    fakes: list[Fake], sleeps: Sleeps, request: ModelRequest | None = None, **bounds: Any
) -> ModelReply:
    async with FakeOpenAI(fakes, default=Fake(status=418, text="the script is out")) as server:
        model = client(server, sleeps, **bounds)
        try:
            return await model.complete(request or ask())
        finally:
            await model.aclose()


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


async def test_a_stream_gives_pieces_as_they_come_and_the_whole_last(sleeps: Sleeps):
    async with FakeOpenAI([Fake("abcdef", chunks=3)]) as server:
        model = client(server, sleeps)
        pieces = [piece async for piece in model.stream(ask())]
        assert pieces[:-1] == ["ab", "cd", "ef"]
        assert isinstance(pieces[-1], ModelReply)
        assert pieces[-1].text == "abcdef"
        await model.aclose()


async def test_a_piece_is_handed_out_before_the_next_one_comes(sleeps: Sleeps):
    async with FakeOpenAI([Fake("ab", chunks=2, chunk_delay=0.02)]) as server:
        model = client(server, sleeps)
        async with contextlib.aclosing(model.stream(ask())) as stream:
            assert await anext(stream) == "a"
            assert server.in_flight == 1
        await model.aclose()


async def test_one_connection_serves_many_calls(sleeps: Sleeps):
    async with FakeOpenAI() as server:
        model = client(server, sleeps)
        began = time.monotonic()
        for _ in range(20):
            await model.complete(ask())
        assert server.connections == 1
        assert time.monotonic() - began < 2
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


async def test_an_answer_that_is_not_streamed_is_taken_too(sleeps: Sleeps):
    reply = await answer([Fake("whole", streamed=False)], sleeps)
    assert (reply.text, reply.usage.tokens_out) == ("whole", 1)


async def test_lone_surrogates_and_null_bytes_can_be_sent(sleeps: Sleeps):
    async with FakeOpenAI() as server:
        model = client(server, sleeps)
        await model.complete(ask("a\ud800b\x00"))
        assert server.requests[0].body["messages"][1]["content"] == "a?b\x00"
        await model.aclose()


# -- failures that are tried again


@pytest.mark.parametrize("status", [500, 502, 503, 529])
async def test_a_provider_out_of_order_twice_is_asked_a_third_time_and_counted_once(
    sleeps: Sleeps, status: int
):
    reply = await answer([Fake(status=status), Fake(status=status), Fake("fine")], sleeps)
    assert (reply.text, reply.usage.calls) == ("fine", 1)
    assert sleeps.pauses == [0.15, 0.3]


async def test_no_reply_is_asked_for_in_compressed_form(sleeps: Sleeps):
    async with FakeOpenAI() as server:
        model = client(server, sleeps)
        await model.complete(ask())
        assert server.requests[0].headers["accept-encoding"] == "identity"
        await model.aclose()


async def test_every_attempt_of_a_call_carries_the_same_idempotency_key(sleeps: Sleeps):
    async with FakeOpenAI([Fake(status=500), Fake(), Fake()]) as server:
        model = client(server, sleeps)
        await model.complete(ask())
        await model.complete(ask())
        keys = [seen.headers["idempotency-key"] for seen in server.requests]
        assert keys[0] == keys[1] != keys[2]
        await model.aclose()


async def test_retry_after_is_waited_for(sleeps: Sleeps):
    await answer([Fake(status=429, headers={"Retry-After": "7"}), Fake()], sleeps)
    assert sleeps.pauses == [7.0]


async def test_a_retry_after_beyond_patience_is_an_error_at_once(sleeps: Sleeps):
    with pytest.raises(ModelRateLimited) as caught:
        await answer([Fake(status=429, headers={"Retry-After": "90"})], sleeps)
    assert sleeps.pauses == []
    assert caught.value.details["retry_after"] == 90


async def test_attempts_are_bounded_and_reported(sleeps: Sleeps):
    with pytest.raises(ModelUnreachable) as caught:
        await answer([Fake(status=503)] * 10, sleeps)
    assert caught.value.details["attempts"] == 4
    assert len(sleeps.pauses) == 3


async def test_the_total_deadline_ends_the_attempts(sleeps: Sleeps):
    with pytest.raises(ModelRateLimited) as caught:
        await answer([Fake(status=429, headers={"Retry-After": "59"})] * 10, sleeps)
    assert caught.value.details["elapsed"] <= 200
    assert sum(sleeps.pauses) <= 200


async def test_a_refused_connection_is_tried_again_and_then_named(sleeps: Sleeps):
    async with FakeOpenAI() as server:
        model = client(server, sleeps)
    with pytest.raises(ModelUnreachable, match="cannot be reached") as caught:
        await model.complete(ask())
    assert caught.value.details["attempts"] == 4
    await model.aclose()


@pytest.mark.parametrize("clean", [False, True])
async def test_a_cut_stream_is_never_a_whole_reply(sleeps: Sleeps, clean: bool):
    reply = await answer([Fake("rm -rf tmp/old", cut_after=3, clean_cut=clean), Fake("whole")], sleeps)
    assert reply.text == "whole"
    with pytest.raises(ModelUnreachable):
        await answer([Fake("rm -rf tmp/old", cut_after=3, clean_cut=clean)] * 4, sleeps)


async def test_a_stream_that_gave_pieces_is_not_begun_again(sleeps: Sleeps):
    async with FakeOpenAI([Fake("abcdef", cut_after=3, clean_cut=True)]) as server:
        model = client(server, sleeps)
        seen: list[object] = []

        async def read() -> None:
            async for piece in model.stream(ask()):
                seen.append(piece)  # noqa: PERF401 (what came before the error counts)

        with pytest.raises(ModelUnreachable):
            await read()
        assert seen == ["ab", "cd"]
        assert len(server.requests) == 1
        await model.aclose()


async def test_a_whole_reply_without_the_end_mark_or_usage_is_whole(sleeps: Sleeps):
    reply = await answer([Fake("abc", done=False, usage=False)], sleeps)
    assert (reply.text, reply.usage.estimated) == ("abc", True)


# -- failures that are final

FINAL = [
    (Fake(status=401, text=f"Incorrect API key provided: {KEY}"), ModelAuth),
    (Fake(status=403), ModelAuth),
    (Fake(status=404, text="no model tiny"), ModelAuth),
    (Fake(status=402), ModelAuth),
    (Fake(status=429, text="insufficient_quota"), ModelAuth),
    (Fake(status=400, text="This model's maximum context length is 8192 tokens"), PromptTooLong),
    (Fake(status=413), PromptTooLong),
    (Fake(status=400, body='{"error": {"code": "content_filter", "message": "no"}}'), ModelRefused),
    (Fake(status=400, text="bad field"), ModelProtocol),
    (Fake(status=307, headers={"Location": "http://127.0.0.1:1/"}), ModelProtocol),
    (Fake(content_type="text/html", body="<html>log in</html>"), ModelProtocol),
    (Fake(content_type="text/event-stream", body="data: {nope\n\n"), ModelProtocol),
    (Fake(content_type="text/event-stream", body="data: [1]\n\n"), ModelProtocol),
    (Fake(content_type="text/event-stream", body="data: " + "[" * 100_000 + "\n\n"), ModelProtocol),
    (
        Fake(content_type="text/event-stream", body='data: {"error": {"code": 401, "message": "x"}}\n\n'),
        ModelAuth,
    ),
    (Fake(headers={"Content-Encoding": "gzip"}), ModelProtocol),
]


@pytest.mark.parametrize(("fake", "error"), FINAL)
async def test_what_will_not_get_better_is_asked_once(sleeps: Sleeps, fake: Fake, error: type[ModelError]):
    async with FakeOpenAI([fake]) as server:
        model = client(server, sleeps)
        with pytest.raises(error) as caught:
            await model.complete(ask())
        assert len(server.requests) == 1
        assert KEY not in json.dumps(caught.value.to_json())
        assert KEY not in repr(caught.value)
        assert len(caught.value.message) < 1000
        await model.aclose()


async def test_an_error_of_a_provider_is_shown_short_and_on_one_line(sleeps: Sleeps):
    with pytest.raises(ModelProtocol) as caught:
        await answer([Fake(status=400, text="line\n\x1b[31mred " + "x" * 100_000)], sleeps)
    assert "\n" not in caught.value.message
    assert "\x1b" not in caught.value.message


# -- odd replies


@pytest.mark.parametrize(
    ("fake", "reason", "text"),
    [
        (Fake("half", finish_reason="length"), "length", "half"),
        (Fake("", refusal="I cannot."), "refusal", "I cannot."),
        (Fake("no", finish_reason="content_filter"), "refusal", "no"),
        (Fake("x", finish_reason="surprise"), "other", "x"),
        (Fake(""), "stop", ""),
        (Fake(" \n"), "stop", " \n"),
        (Fake("", reasoning="thinking " * 100), "stop", ""),
    ],
)
async def test_odd_ends_are_reported_as_they_are(sleeps: Sleeps, fake: Fake, reason: str, text: str):
    reply = await answer([fake], sleeps)
    assert (reply.finish_reason, reply.text) == (reason, text)


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


@pytest.mark.parametrize("usage", LIES)
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


@pytest.mark.parametrize("cost", [-1, 10**9, "1", True, float("nan")])
async def test_a_reported_cost_that_cannot_be_true_is_not_believed(sleeps: Sleeps, cost: Any):
    reply = await answer([Fake(usage={"prompt_tokens": 20, "completion_tokens": 1, "cost": cost})], sleeps)
    assert reply.usage.microdollars == 0
    assert reply.details["price"] == "unknown"


# -- bounds


async def test_an_endless_reply_is_ended_at_the_cap(sleeps: Sleeps):
    with pytest.raises(ModelProtocol, match="more than 100,000 bytes"):
        await answer([Fake("z" * 10_000_000, chunks=1000)], sleeps, reply_bytes=100_000)
    with pytest.raises(ModelProtocol, match="endless"):
        await answer([Fake("z" * 1_000_000, chunks=1)], sleeps, line_bytes=100_000)


async def test_headers_that_never_come_are_a_time_out_twice(sleeps: Sleeps):
    async with FakeOpenAI(default=Fake(hang=True)) as server:
        model = client(server, sleeps, first_byte=0.05)
        with pytest.raises(ModelTimeout):
            await model.complete(ask())
        assert len(server.requests) == 2
        await model.aclose()


@pytest.mark.parametrize("bounds", [{"idle": 0.05}, {"total": 0.1}])
async def test_a_stream_that_stalls_is_a_time_out(sleeps: Sleeps, bounds: dict[str, float]):
    with pytest.raises(ModelTimeout):
        await answer([Fake("abcdef", stall_after=2)] * 2, sleeps, **bounds)


async def test_a_slow_stream_that_goes_on_is_no_time_out(sleeps: Sleeps):
    assert (await answer([Fake("abcdef", chunks=6, chunk_delay=0.03)], sleeps, idle=0.15)).text == "abcdef"


async def test_bytes_that_trickle_without_a_line_do_not_count_as_life(sleeps: Sleeps):
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        try:
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.01)
        except (ConnectionError, asyncio.CancelledError):
            writer.close()

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


async def test_a_cancelled_call_closes_its_request_at_once(sleeps: Sleeps):
    async with FakeOpenAI(default=Fake(hang=True)) as server:
        model = client(server, sleeps)
        task = asyncio.create_task(model.complete(ask()))
        while not server.requests:
            await asyncio.sleep(0)
        task.cancel()
        async with asyncio.timeout(1):
            await asyncio.wait([task])
            while not server.disconnects:
                await asyncio.sleep(0.001)
        assert task.cancelled()
        assert model.statistics().window.in_flight == 0
        await model.aclose()


async def test_a_stream_left_early_closes_its_request(sleeps: Sleeps):
    async with FakeOpenAI(default=Fake("abcdef", chunk_delay=0.01, chunks=6)) as server:
        model = client(server, sleeps)
        stream = model.stream(ask())
        assert await anext(stream) == "a"
        await stream.aclose()
        async with asyncio.timeout(1):
            while not server.disconnects:
                await asyncio.sleep(0.001)
        assert model.statistics().window.in_flight == 0
        await model.aclose()


async def test_replies_of_a_batch_belong_to_their_requests_though_one_fails(sleeps: Sleeps):
    def echo(seen: Any) -> Fake:
        text = seen.body["messages"][-1]["content"]
        return Fake(status=400, text="bad") if text == "3" else Fake(text)

    async with FakeOpenAI(default=echo) as server:
        model = client(server, sleeps)
        got = await asyncio.gather(*(model.complete(ask(str(n))) for n in range(8)), return_exceptions=True)
        assert [g.text if isinstance(g, ModelReply) else type(g) for g in got] == [
            "0",
            "1",
            "2",
            ModelProtocol,
            "4",
            "5",
            "6",
            "7",
        ]
        await model.aclose()


async def test_after_a_429_fewer_calls_fly_and_all_still_succeed(sleeps: Sleeps):
    flying = [0]

    async def run(server: FakeOpenAI) -> None:
        model = client(server, sleeps)
        await asyncio.gather(*(model.complete(ask(str(n))) for n in range(40)))
        flying[0] = model.statistics().window.rate_limited
        await model.aclose()

    def limited(seen: Any) -> Fake:
        return Fake(status=429) if server.in_flight > 4 else Fake(delay=0.001)

    async with FakeOpenAI(default=limited) as server:
        await run(server)
        assert server.most_in_flight > 4
    assert flying[0] >= 1


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
