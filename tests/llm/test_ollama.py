"""The Ollama client against a server on loopback that speaks Ollama's own API."""

from __future__ import annotations

import json
from typing import Any

import pytest

from terraphim_rlm.core.errors import ModelNotInstalled, ModelProtocol, ModelUnreachable, PromptTooLong
from terraphim_rlm.llm.client import Message, ModelReply, ModelRequest
from terraphim_rlm.llm.ollama import OllamaModel, default_base_url
from terraphim_rlm.llm.providers import FORBID_NETWORK
from terraphim_rlm.llm.retry import Retrying
from terraphim_rlm.llm.select import open_model
from terraphim_rlm.testing import Fake, FakeOpenAI

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FORBID_NETWORK, "1")
    monkeypatch.delenv("OLLAMA_HOST", raising=False)


async def no_sleep(seconds: float) -> None: ...


def show(window: int = 131_072) -> Fake:
    return Fake(body=json.dumps({"model_info": {"llama.context_length": window, "general.x": 1}}))


def chat(*pieces: str, **end: Any) -> Fake:
    rows: list[dict[str, Any]] = [
        {"message": {"role": "assistant", "content": piece}, "done": False} for piece in pieces
    ]
    last = {
        "message": {"content": ""},
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": 12,
        "eval_count": 3,
    }
    text = "\n".join(json.dumps(row) for row in [*rows, {**last, **end}])
    return Fake(body=text, content_type="application/x-ndjson")


def client(server: FakeOpenAI, name: str = "llama3.2:3b") -> OllamaModel:
    return OllamaModel(name, base_url=server.base_url, retrying=Retrying(sleep=no_sleep))


def ask(text: str = "hello there", **options: Any) -> ModelRequest:
    return ModelRequest((Message("user", text),), **options)


async def test_it_asks_for_the_model_once_and_then_chats_with_a_context_that_fits():
    async with FakeOpenAI([show(), chat("hel", "lo"), chat("again")]) as server:
        model = client(server)
        assert model.info.window is None
        reply = await model.complete(ask(max_tokens=50, temperature=0.0, schema={"type": "object"}))
        assert (reply.text, reply.finish_reason, reply.usage.tokens_in, reply.usage.tokens_out) == (
            "hello",
            "stop",
            12,
            3,
        )
        assert model.info.window == 131_072
        await model.complete(ask())
        assert [seen.path for seen in server.requests] == ["/api/show", "/api/chat", "/api/chat"]
        body = server.requests[1].body
        assert body["options"] == {"num_ctx": 8192, "num_predict": 50, "temperature": 0.0}
        assert (body["format"], body["truncate"]) == ({"type": "object"}, False)
        await model.aclose()


async def test_the_context_grows_with_the_prompt_and_never_shrinks():
    async with FakeOpenAI(
        [show(65_536), *[chat("x", prompt_eval_count=20_000)] * 2], default=chat("x")
    ) as server:
        model = client(server)
        await model.complete(ask("word " * 16_000))
        await model.complete(ask())
        assert [seen.body["options"]["num_ctx"] for seen in server.requests[1:]] == [32_768, 32_768]
        await model.aclose()


async def test_a_prompt_over_the_models_window_is_refused_and_not_sent():
    async with FakeOpenAI([show(4096)]) as server:
        model = client(server)
        with pytest.raises(PromptTooLong):
            await model.complete(ask("word " * 20_000))
        assert [seen.path for seen in server.requests] == ["/api/show"]
        await model.aclose()


async def test_a_prompt_that_the_server_cut_is_an_error():
    async with FakeOpenAI([show(8192), chat("x", prompt_eval_count=8192)]) as server:
        model = client(server)
        with pytest.raises(PromptTooLong, match="cut the prompt"):
            await model.complete(ask("word " * 4000))
        await model.aclose()


async def test_a_stream_gives_pieces_and_then_the_reply():
    async with FakeOpenAI([show(), chat("a", "b")]) as server:
        model = client(server)
        pieces = [piece async for piece in model.stream(ask())]
        assert pieces[:2] == ["a", "b"]
        assert isinstance(pieces[2], ModelReply)
        await model.aclose()


async def test_a_reply_without_its_end_is_cut_and_asked_for_again():
    cut = Fake(
        body='{"message": {"content": "rm -rf /tmp/a"}, "done": false}\n', content_type="application/x-ndjson"
    )
    async with FakeOpenAI([show(), cut, chat("whole")]) as server:
        model = client(server)
        assert (await model.complete(ask())).text == "whole"
        await model.aclose()


async def test_a_model_that_is_not_pulled_is_an_error_with_the_command():
    async with FakeOpenAI([Fake(status=404, body='{"error": "model not found"}')]) as server:
        model = client(server)
        with pytest.raises(ModelNotInstalled) as caught:
            await model.complete(ask())
        assert caught.value.fix == "Run `ollama pull llama3.2:3b`."
        assert len(server.requests) == 1
        await model.aclose()


async def test_a_refused_connection_asks_whether_it_is_running():
    async with FakeOpenAI() as server:
        model = client(server)
    with pytest.raises(ModelUnreachable) as caught:
        await model.complete(ask())
    assert "ollama serve" in caught.value.fix
    await model.aclose()


@pytest.mark.parametrize("line", ["nope", "[]", '{"error": "out of memory"}', '{"error": {"code": 5}}'])
async def test_a_line_that_is_no_answer_is_an_error(line: str):
    async with FakeOpenAI([show()], default=Fake(body=line, content_type="application/x-ndjson")) as server:
        model = client(server)
        with pytest.raises((ModelProtocol, ModelUnreachable)):
            await model.complete(ask())
        await model.aclose()


@pytest.mark.parametrize("count", [-1, "7", 10**12, None, True])
async def test_counts_that_cannot_be_true_are_estimated(count: Any):
    async with FakeOpenAI([show(), chat("four", prompt_eval_count=count)]) as server:
        model = client(server)
        usage = (await model.complete(ask())).usage
        assert (usage.tokens_in, usage.estimated) == (6, True)
        await model.aclose()


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("box", "http://box:11434"),
        ("box:1234", "http://box:1234"),
        ("http://box:80/", "http://box:80"),
        ("https://ollama.example", "https://ollama.example"),
        ("[::1]", "http://[::1]:11434"),
        ("[::1]:99", "http://[::1]:99"),
    ],
)
def test_the_host_variable_is_read_in_all_of_ollamas_forms(
    monkeypatch: pytest.MonkeyPatch, host: str, url: str
):
    monkeypatch.setenv("OLLAMA_HOST", host)
    assert default_base_url() == url


def test_its_name_selects_it_and_small_models_are_known_as_such():
    assert open_model("ollama/llama3.2:3b").info.profile == "small"
    assert open_model("ollama/qwen3:32b", base_url="http://127.0.0.1:1").info.profile == "default"
