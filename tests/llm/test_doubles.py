"""The oracle, and the model that is played by files."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from terraphim_rlm.core.errors import InvalidArgument, ModelProtocol, ModelRateLimited, PromptTooLong
from terraphim_rlm.core.values import Usage
from terraphim_rlm.llm.client import Message, ModelClient, ModelReply, ModelRequest
from terraphim_rlm.llm.select import open_model
from terraphim_rlm.testing import ManualModel, OracleLimits, OracleModel
from terraphim_rlm.testing.oracle import MALFORMED, WRONG

pytestmark = pytest.mark.anyio


def ask(text: str = "hello", **options: object) -> ModelRequest:
    return ModelRequest((Message("user", text),), **options)  # type: ignore[arg-type]


# -- oracle


async def test_the_oracle_knows_what_its_mapping_or_function_knows():
    model = OracleModel({"France": "Paris", "Italy": "Rome"})
    assert isinstance(model, ModelClient)
    texts = [(await model.complete(ask(f"Capital of {c}?"))).text for c in ("Italy", "France", "Mars")]
    assert texts == ["Rome", "Paris", "not found"]
    assert OracleModel(lambda r: r.messages[0].content[::-1]).complete_nowait(ask("abc")).text == "cba"


async def test_its_rates_are_kept_and_depend_on_the_request_not_on_the_order():
    model = OracleModel(lambda r: "true", error_rate=0.2, malformed_rate=0.1, seed=7)
    requests = [ask(str(n)) for n in range(1000)]
    there = [model.complete_nowait(r).text for r in requests]
    back = [model.complete_nowait(r).text for r in reversed(requests)][::-1]
    assert there == back
    assert 150 < there.count(WRONG) < 250
    assert 70 < there.count(MALFORMED) < 130
    other = OracleModel(lambda r: "true", error_rate=0.2, malformed_rate=0.1, seed=8)
    assert [other.complete_nowait(r).text for r in requests] != there
    with pytest.raises(InvalidArgument):
        OracleModel({}, error_rate=0.9, malformed_rate=0.2)


async def test_its_limits_are_those_of_a_provider():
    gate = asyncio.Event()

    async def sleep(seconds: float) -> None:
        await gate.wait()

    model = OracleModel({"a": "b"}, latency=1, limits=OracleLimits(in_flight=1, window=50), sleep=sleep)
    assert model.complete_nowait(ask("a")) is None
    first = asyncio.create_task(model.complete(ask("a")))
    await asyncio.sleep(0)
    with pytest.raises(ModelRateLimited):
        await model.complete(ask("a"))
    gate.set()
    assert (await first).text == "b"
    with pytest.raises(PromptTooLong):
        await model.complete(ask("a" * 1000))


# -- manual


class Player:
    """Answers in place of a sleep: each pause runs the next step."""

    def __init__(self, *steps: object) -> None:
        self.steps = list(steps)
        self.pauses: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.pauses.append(seconds)
        step = self.steps.pop(0) if self.steps else None
        if callable(step):
            step()
        await asyncio.sleep(0)


def put(path: Path, text: str | bytes) -> object:
    return lambda: path.write_bytes(text if isinstance(text, bytes) else text.encode())


async def test_a_request_is_a_file_and_its_reply_another(tmp_path: Path):
    player = Player(None, put(tmp_path / "0001.reply.txt", "FINAL(4)"))
    model = ManualModel(tmp_path, sleep=player)
    assert isinstance(model, ModelClient)
    assert model.complete_nowait(ask()) is None
    reply = await model.complete(ask("2+2?", node="node-7", grammar='root ::= "4"'))
    assert (reply.text, reply.usage.estimated) == ("FINAL(4)", True)
    request = json.loads((tmp_path / "0001.request.json").read_text())
    assert request == {
        "messages": [{"role": "user", "content": "2+2?"}],
        "model": f"manual:{tmp_path}",
        "node": "node-7",
        "purpose": "query",
        "grammar": 'root ::= "4"',
    }
    assert sorted(os.listdir(tmp_path)) == ["0001.reply.txt", "0001.request.json"]


async def test_a_json_reply_brings_its_usage(tmp_path: Path):
    text = json.dumps({"reply": "x", "usage": {"tokens_in": 5, "tokens_out": 2}}, indent=2)
    model = ManualModel(tmp_path, sleep=Player(put(tmp_path / "0001.reply.json", text)))
    assert (await model.complete(ask())).usage == Usage(tokens_in=5, tokens_out=2, calls=1)


async def test_a_reply_that_is_still_being_written_is_not_taken(tmp_path: Path):
    path = tmp_path / "0001.reply.txt"
    model = ManualModel(tmp_path, sleep=Player(put(path, ""), put(path, "FIN"), put(path, "FINAL(4)")))
    assert (await model.complete(ask())).text == "FINAL(4)"


async def test_waiting_is_no_busy_loop(tmp_path: Path):
    player = Player(*[None] * 20, put(tmp_path / "0001.reply.txt", "x"))
    await ManualModel(tmp_path, sleep=player).complete(ask())
    assert player.pauses[:3] == [0.02, 0.04, 0.08]
    assert max(player.pauses) == 0.5


async def test_several_requests_wait_at_once_and_each_gets_its_own_reply(tmp_path: Path):
    model = ManualModel(tmp_path, sleep=Player())
    tasks = [asyncio.create_task(model.complete(ask(f"q{n}"))) for n in range(3)]
    while len(os.listdir(tmp_path)) < 3:
        await asyncio.sleep(0)
    for path in tmp_path.glob("*.request.json"):
        question = json.loads(path.read_text())["messages"][0]["content"]
        (tmp_path / path.name.replace(".request.json", ".reply.txt")).write_text(question.upper())
    assert [(await task).text for task in tasks] == ["Q0", "Q1", "Q2"]


async def test_numbers_go_on_in_a_folder_that_is_not_empty(tmp_path: Path):
    (tmp_path / "0041.reply.txt").write_text("an old reply")
    (tmp_path / "notes.md").write_text("")
    model = ManualModel(tmp_path, sleep=Player(put(tmp_path / "0042.reply.txt", "new")))
    assert (await model.complete(ask())).text == "new"
    assert (tmp_path / "0041.reply.txt").read_text() == "an old reply"


async def test_two_models_on_one_folder_never_take_the_same_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    models = [ManualModel(tmp_path) for _ in range(2)]
    monkeypatch.setattr(ManualModel, "_highest", lambda self: 0)
    assert [model._publish(ask()) for model in models] == ["0001", "0002"]


async def test_the_request_of_a_cancelled_call_is_marked(tmp_path: Path):
    task = asyncio.create_task(ManualModel(tmp_path, sleep=Player()).complete(ask()))
    while not os.listdir(tmp_path):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert os.listdir(tmp_path) == ["0001.cancelled.json"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("json", b"{nope"),
        ("json", b'{"reply": 3}'),
        ("json", b"\xff"),
        ("txt", b"\xff\xfe"),
        ("txt", b"x" * (16 * 1024 * 1024 + 1)),
    ],
)
async def test_a_reply_that_cannot_be_used_is_an_error_that_names_the_file(
    tmp_path: Path, name: str, content: bytes
):
    path = tmp_path / f"0001.reply.{name}"
    with pytest.raises(ModelProtocol) as caught:
        await ManualModel(tmp_path, sleep=Player(put(path, content))).complete(ask())
    assert str(path) in caught.value.message


async def test_a_stream_of_it_ends_with_the_whole_reply(tmp_path: Path):
    model = ManualModel(tmp_path, sleep=Player(put(tmp_path / "0001.reply.txt", "hi")))
    pieces = [piece async for piece in model.stream(ask())]
    assert pieces[0] == "hi"
    assert isinstance(pieces[1], ModelReply)


def test_a_folder_that_cannot_be_is_an_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidArgument, match="cannot be used"):
        open_model(f"manual:{tmp_path}/file")
    assert open_model(f"manual:{tmp_path}/new/folder").info.name == f"manual:{tmp_path}/new/folder"
