"""What holds for every model behind HTTP, in both formats, against servers on loopback that misbehave as told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from dataclasses import dataclass
from typing import Any

import pytest

from llm.http_kit import FORMATS, KEY, Sleeps, answer, ask, client
from rows import named
from terraphim_rlm.core.errors import (
    ModelAuth,
    ModelError,
    ModelProtocol,
    ModelRateLimited,
    ModelRefused,
    ModelTimeout,
    ModelUnreachable,
    PromptTooLong,
)
from terraphim_rlm.llm.client import ModelReply
from terraphim_rlm.llm.providers import FORBID_NETWORK
from terraphim_rlm.testing import Fake, FakeOpenAI

pytestmark = pytest.mark.anyio


@pytest.fixture(params=FORMATS)
def sleeps(request: pytest.FixtureRequest) -> Sleeps:
    return Sleeps(request.param)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, KEY)
    monkeypatch.setenv(FORBID_NETWORK, "1")


async def test_a_stream_gives_pieces_as_they_come_and_the_whole_last(sleeps: Sleeps):
    async with sleeps.server([Fake("abcdef", chunks=3)]) as server:
        model = client(server, sleeps)
        pieces = [piece async for piece in model.stream(ask())]
        assert pieces[:-1] == ["ab", "cd", "ef"]
        assert isinstance(pieces[-1], ModelReply)
        assert pieces[-1].text == "abcdef"
        await model.aclose()


async def test_a_piece_is_handed_out_before_the_next_one_comes(sleeps: Sleeps):
    async with sleeps.server([Fake("ab", chunks=2, chunk_delay=0.02)]) as server:
        model = client(server, sleeps)
        async with contextlib.aclosing(model.stream(ask())) as stream:
            assert await anext(stream) == "a"
            assert server.in_flight == 1
        await model.aclose()


async def test_one_connection_serves_many_calls(sleeps: Sleeps):
    async with sleeps.server() as server:
        model = client(server, sleeps)
        began = time.monotonic()
        for _ in range(20):
            await model.complete(ask())
        assert server.connections == 1
        assert time.monotonic() - began < 2
        await model.aclose()


async def test_an_answer_that_is_not_streamed_is_taken_too(sleeps: Sleeps):
    reply = await answer([Fake("whole", streamed=False)], sleeps)
    assert (reply.text, reply.usage.tokens_out) == ("whole", 1)


# -- failures that are tried again


@pytest.mark.row("H03")
@pytest.mark.parametrize("status", [500, 502, 503, 529])
async def test_a_provider_out_of_order_twice_is_asked_a_third_time_and_counted_once(
    sleeps: Sleeps, status: int
):
    reply = await answer([Fake(status=status), Fake(status=status), Fake("fine")], sleeps)
    assert (reply.text, reply.usage.calls) == ("fine", 1)
    assert sleeps.pauses == [0.15, 0.3]


async def test_no_reply_is_asked_for_in_compressed_form(sleeps: Sleeps):
    async with sleeps.server() as server:
        model = client(server, sleeps)
        await model.complete(ask())
        assert server.requests[0].headers["accept-encoding"] == "identity"
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


@dataclass
class Nowhere:
    """In place of a server."""

    base_url: str


@pytest.mark.row("H01")
@pytest.mark.parametrize("how", ["refused", "no-name", "no-tls", "reset", "silent-hang-up"])
async def test_what_cannot_be_reached_is_tried_again_and_then_named(
    sleeps: Sleeps, monkeypatch: pytest.MonkeyPatch, how: str
):
    met: list[str] = []

    async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.append(how)
        if how == "reset":
            writer.transport.abort()
            return
        await reader.read(100)
        writer.write(b"no TLS here\r\n\r\n" if how == "no-tls" else b"")
        writer.close()

    def unknown(*about: Any, **options: Any) -> Any:
        met.append(how)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    server = await asyncio.start_server(hangs_up, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    if how == "refused":
        server.close()
    if how == "no-name":
        host = "localhost"
        monkeypatch.setattr(socket, "getaddrinfo", unknown)
    model = client(Nowhere(f"http{'s' * (how == 'no-tls')}://{host}:{port}/v1"), sleeps)  # type: ignore[arg-type]
    with pytest.raises(ModelUnreachable) as caught:
        await model.complete(ask())
    monkeypatch.undo()
    assert caught.value.details["attempts"] == 4
    assert len(sleeps.pauses) == 3
    assert len(met) == (0 if how == "refused" else 4)
    await model.aclose()
    server.close()


@pytest.mark.row("H05")
@pytest.mark.parametrize("clean", [False, True])
async def test_a_cut_stream_is_never_a_whole_reply(sleeps: Sleeps, clean: bool):
    reply = await answer(
        [Fake("rm -rf tmp/old", cut_after=sleeps.lead + 2, clean_cut=clean), Fake("whole")], sleeps
    )
    assert reply.text == "whole"
    with pytest.raises(ModelUnreachable):
        await answer([Fake("rm -rf tmp/old", cut_after=sleeps.lead + 2, clean_cut=clean)] * 4, sleeps)


@pytest.mark.row("H05")
async def test_a_stream_that_gave_pieces_is_not_begun_again(sleeps: Sleeps):
    async with sleeps.server([Fake("abcdef", cut_after=sleeps.lead + 2, clean_cut=True)]) as server:
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
    (Fake(headers={"Content-Encoding": "gzip"}), ModelProtocol),
]


@pytest.mark.row("H13")
@pytest.mark.parametrize(
    ("fake", "error"),
    FINAL,
    ids=[
        "401",
        "403",
        "404",
        "402",
        "quota",
        "context-length",
        "413",
        "content-filter",
        "bad-field",
        "redirect",
        "html",
        "broken-event",
        "list-event",
        "nested-event",
        "compressed",
    ],
)
async def test_what_will_not_get_better_is_asked_once(sleeps: Sleeps, fake: Fake, error: type[ModelError]):
    async with sleeps.server([fake]) as server:
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


# -- bounds


HUGE: dict[str, tuple[Fake, dict[str, int], str]] = {
    "many-chunks": (Fake("z" * 10_000_000, chunks=1000), {"reply_bytes": 100_000}, "more than 100,000 bytes"),
    "one-line": (Fake("z" * 1_000_000, chunks=1), {"line_bytes": 100_000}, "endless"),
    "reasoning": (
        Fake("", reasoning="z" * 10_000_000, chunks=1000),
        {"reply_bytes": 100_000},
        "more than|endless",
    ),
    "an-error": (Fake(status=400, text="z" * 20_000_000), {"reply_bytes": 100_000}, "z"),
}


@pytest.mark.row("H09")
@pytest.mark.parametrize(("fake", "bounds", "said"), named(HUGE))
async def test_an_endless_reply_is_ended_at_the_cap(
    sleeps: Sleeps, fake: Fake, bounds: dict[str, int], said: str
):
    with pytest.raises(ModelProtocol, match=said) as caught:
        await answer([fake], sleeps, **bounds)
    assert len(caught.value.message) < 1000


@pytest.mark.row("H04")
async def test_headers_that_never_come_are_a_time_out_twice(sleeps: Sleeps):
    async with sleeps.server(default=Fake(hang=True)) as server:
        model = client(server, sleeps, first_byte=0.25)
        with pytest.raises(ModelTimeout):
            await model.complete(ask())
        assert len(server.requests) == 2
        await model.aclose()


@pytest.mark.row("H04")
@pytest.mark.parametrize("bounds", [{"idle": 0.05}, {"total": 0.1}], ids=["idle", "total"])
async def test_a_stream_that_stalls_is_a_time_out(sleeps: Sleeps, bounds: dict[str, float]):
    with pytest.raises(ModelTimeout):
        await answer([Fake("abcdef", stall_after=2)] * 2, sleeps, **bounds)


@pytest.mark.row("H04")
async def test_a_slow_stream_that_goes_on_is_no_time_out(sleeps: Sleeps):
    assert (await answer([Fake("abcdef", chunks=6, chunk_delay=0.03)], sleeps, idle=0.15)).text == "abcdef"


@pytest.mark.row("H15")
async def test_a_cancelled_call_closes_its_request_at_once(sleeps: Sleeps):
    async with sleeps.server(default=Fake(hang=True)) as server:
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
    async with sleeps.server(default=Fake("abcdef", chunk_delay=0.01, chunks=6)) as server:
        model = client(server, sleeps)
        stream = model.stream(ask())
        assert await anext(stream) == "a"
        await stream.aclose()
        async with asyncio.timeout(1):
            while not server.disconnects:
                await asyncio.sleep(0.001)
        assert model.statistics().window.in_flight == 0
        await model.aclose()


@pytest.mark.row("H17")
async def test_replies_of_a_batch_belong_to_their_requests_though_one_fails(sleeps: Sleeps):
    def echo(seen: Any) -> Fake:
        text = seen.body["messages"][-1]["content"]
        text = text if isinstance(text, str) else text[0]["text"]
        return Fake(status=400, text="bad") if text == "3" else Fake(text)

    async with sleeps.server(default=echo) as server:
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

    async with sleeps.server(default=limited) as server:
        await run(server)
        assert server.most_in_flight > 4
    assert flying[0] >= 1
