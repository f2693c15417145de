"""The scripted model: order, purposes, errors and script files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from terraphim_rlm.core.errors import (
    InputUnreadable,
    InvalidArgument,
    ModelRateLimited,
    PathNotFound,
    PromptTooLong,
    ScriptExhausted,
)
from terraphim_rlm.core.values import Usage
from terraphim_rlm.llm.client import Message, ModelClient, ModelReply, ModelRequest, Purpose
from terraphim_rlm.llm.scripted import ScriptedModel
from terraphim_rlm.llm.select import open_model

pytestmark = pytest.mark.anyio


def ask(text: str = "hello", purpose: Purpose = "turn") -> ModelRequest:
    return ModelRequest((Message("user", text),), purpose=purpose)


async def test_turns_and_sub_calls_consume_their_own_lists_in_order():
    model = ScriptedModel(["one", "two"], sub_replies=["head", "tail"])
    assert isinstance(model, ModelClient)
    texts = [(await model.complete(ask(purpose=p))).text for p in ("turn", "query", "direct", "query")]
    assert texts == ["one", "head", "two", "tail"]
    assert [r.purpose for r in model.requests] == ["turn", "query", "direct", "query"]


async def test_sub_reply_answers_when_the_list_is_used_up():
    model = ScriptedModel([], sub_replies=["first"], sub_reply=lambda r: r.messages[-1].content.upper())
    assert [(await model.complete(ask("abc", "query"))).text for _ in range(2)] == ["first", "ABC"]


async def test_an_error_in_the_script_is_raised_in_its_place():
    model = ScriptedModel([ModelRateLimited("slow down"), "after"])
    with pytest.raises(ModelRateLimited):
        await model.complete(ask())
    assert (await model.complete(ask())).text == "after"


async def test_usage_is_estimated_unless_it_is_given():
    given = Usage(tokens_in=7, tokens_out=2, calls=1)
    model = ScriptedModel(["x" * 40, ModelReply("y", given)])
    first = (await model.complete(ask())).usage
    assert (first.tokens_out, first.calls, first.estimated) == (10, 1, True)
    assert (await model.complete(ask())).usage == given


async def test_a_used_up_script_says_how_many_replies_were_used_and_what_to_do():
    model = ScriptedModel(["only"], sub_reply=None)
    await model.complete(ask())
    with pytest.raises(ScriptExhausted, match="all 1 of its replies") as caught:
        await model.complete(ask())
    assert caught.value.details == {"used": 1, "purpose": "turn"}
    with pytest.raises(ScriptExhausted, match="all 0 of its sub_replies") as caught:
        model.complete_nowait(ask(purpose="query"))
    assert "sub_reply" in caught.value.fix


async def test_without_latency_the_reply_needs_no_waiting():
    assert ScriptedModel(["now"]).complete_nowait(ask()).text == "now"


async def test_with_latency_the_reply_waits_that_long_and_takes_its_place_at_once():
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    model = ScriptedModel(["late"], latency=2.5, sleep=sleep)
    assert model.complete_nowait(ask()) is None
    assert model.requests == []
    assert (await model.complete(ask())).text == "late"
    assert slept == [2.5]


async def test_a_stream_gives_the_pieces_and_then_the_whole_reply():
    pieces = [piece async for piece in ScriptedModel([" a b\n\nc"]).stream(ask())]
    assert "".join(pieces[:-1]) == " a b\n\nc" == pieces[-1].text
    assert len(pieces) > 3


async def test_a_prompt_over_the_window_is_refused_with_its_size():
    with pytest.raises(PromptTooLong, match=r"about 104 tokens.* takes 50"):
        await ScriptedModel(["x"], window=50).complete(ask("a" * 400))


def script(path: Path, *rows: object) -> str:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return f"scripted:{path}"


async def test_a_script_file_answers_by_match_first_and_the_rest_in_order(tmp_path: Path):
    name = script(
        tmp_path / "s.jsonl",
        {"reply": "first"},
        "",
        {"reply": "42", "match": "age of (Ann|Bob)", "usage": {"tokens_in": 3, "tokens_out": 1}},
        {"reply": "brackets", "match": "a(b"} | {"match": r"a\(b"},
        {"reply": "second"},
    )
    model = open_model(name)
    texts = [
        (await model.complete(ask(t, p))).text
        for t, p in [
            ("the age of Bob?", "query"),
            ("x", "query"),
            ("a(b", "turn"),
            ("the age of Ann", "turn"),
            ("y", "turn"),
        ]
    ]
    assert texts == ["42", "first", "brackets", "42", "second"]
    assert (await model.complete(ask("age of Ann"))).usage == Usage(tokens_in=3, tokens_out=1, calls=1)
    assert model.info.name == name
    with pytest.raises(ScriptExhausted) as caught:
        await model.complete(ask())
    assert str(tmp_path / "s.jsonl") in caught.value.fix


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{nope", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "must be an object"),
        ('{"reply": 3}', "must be an object"),
        ('{"reply": "x", "delay": 1}', "unknown key 'delay'"),
        ('{"reply": "x", "match": "a("}', "not a regular expression"),
        ('{"reply": "x", "match": 7}', '"match" must be a text'),
        ('{"reply": "x", "usage": []}', '"usage" must be an object'),
        ('{"reply": "x", "usage": {"tokens_in": -1}}', "usage.tokens_in"),
        ('{"reply": "x", "usage": {"tokens_in": true}}', "usage.tokens_in"),
        ('{"reply": "x", "usage": {"estimated": 1}}', "usage.estimated"),
    ],
)
def test_a_bad_line_is_an_error_that_names_file_and_line(tmp_path: Path, line: str, why: str):
    name = script(tmp_path / "s.jsonl", {"reply": "fine"}, line)
    with pytest.raises(InvalidArgument) as caught:
        open_model(name)
    assert caught.value.message.startswith(f"{tmp_path}/s.jsonl:2: ")
    assert why in caught.value.message


def test_a_script_that_is_not_there_or_not_text_is_an_error(tmp_path: Path):
    with pytest.raises(PathNotFound):
        ScriptedModel.from_file(tmp_path / "none")
    (tmp_path / "b").write_bytes(b"\xff\xfe")
    with pytest.raises(InputUnreadable):
        ScriptedModel.from_file(tmp_path / "b")
