"""What holds for every reply whatever: no error, honest spans, bounds, linear time."""

# ruff: noqa: RUF001 - chat templates spell their tokens with these characters

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from terraphim_rlm.engine.replies import REASONS, Code, Final, FinalVar, ParsedReply, arguments, parse
from terraphim_rlm.engine.replies.parser import MAX_COMMANDS, MAX_DROPPED
from terraphim_rlm.engine.replies.text import Lines
from terraphim_rlm.service.parse import parsed_to_json

_PIECES = [
    "```", "````", "~~~", "```python", "```bash\n", "```text\n", "``` \n", "\n", "\r\n", " ", "    ", "\t", "> ", "- ",
    "1. ", "print(1)", "x = '''", '"""', "'", '"', "(", ")", "\\", "FINAL(", "FINAL ", "FINAL_VAR(x)", "RUN(ls)",
    "RUN ", "CODE(", "QUERY_LLM(", "QUERY_LLM_BATCHED([", "SNAPSHOT(a)", "FINALE(", "Output:\n", "<think>", "</think>",
    "[THINK]", "<tool_call>", "</tool_call>", '{"name": "python", "arguments": {"code": "x"}}', "<invoke name=\"python\">",
    "<parameter name=\"code\">", "</parameter>", "</invoke>", "<|channel|>", "analysis", " to=python code", "<|message|>",
    "<|end|>", "<|call|>", "<|im_end|>", "<|im_start|>user", "[TOOL_CALLS]", "word", ".", "“", "\u00a0", "\x00", "\ud800",
    "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>", "<<EOF\n", "EOF\n",
]  # fmt: skip
_REPLIES = st.one_of(
    st.text(st.characters(codec=None), max_size=200),
    st.lists(st.sampled_from(_PIECES), max_size=30).map("".join),
    st.lists(st.sampled_from(_PIECES), max_size=30).map("\n".join),
)
_MANY = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


def _check(reply: str) -> ParsedReply:
    parsed = parse(reply)
    for item in (*parsed.commands, *parsed.dropped):
        assert 0 <= item.start <= item.end <= len(reply)
    starts = [command.start for command in parsed.commands]
    assert starts == sorted(starts)
    assert len(parsed.commands) <= MAX_COMMANDS
    assert len(parsed.dropped) <= MAX_DROPPED
    assert {item.reason for item in parsed.dropped} <= set(REASONS)
    assert all(not isinstance(command, (Final, FinalVar)) for command in parsed.commands[:-1])
    assert parsed.commands or parsed.notice
    assert "\n" not in (parsed.notice or "")
    assert len(parsed.notice or "") <= 400
    return parsed


@_MANY
@given(_REPLIES)
def test_any_string_is_parsed_with_spans_inside_the_reply(reply: str) -> None:
    parsed = _check(reply)
    json.dumps(parsed_to_json(parsed), allow_nan=False)


@_MANY
@given(_REPLIES)
def test_the_transcript_is_the_reply_with_spans_left_out(reply: str) -> None:
    parsed = parse(reply)
    gone = {"invented_output", "end_of_turn"}
    if not any(item.reason in gone for item in parsed.dropped):
        assert parsed.transcript == reply
    rest = iter(reply)
    assert all(char in rest for char in parsed.transcript)


@_MANY
@given(_REPLIES)
def test_what_the_transcript_shows_gives_the_same_commands(reply: str) -> None:
    def said(parsed: ParsedReply) -> list[object]:
        return [
            (c.language, c.code) if isinstance(c, Code) else (c.kind, getattr(c, c.__slots__[0]))
            for c in parsed.commands
        ]

    first = parse(reply)
    assert said(parse(first.transcript)) == said(first)


@pytest.mark.parametrize(
    "unit",
    [
        "`", "(", ")", "\\", "'", "“", "> ", "- ", "1. ", "\t", "\n", "```\n", "```python\n", "```python\n(\n```\n",
        "~~~python\nx='''\n~~~\n", "FINAL(", "FINAL(\n", "FINAL('\n", 'FINAL("""\n', "RUN(it's 'a \" \n", "FINAL is\n",
        "final(\n", "<tool_call>", "<tool_call>\n", "<tool_call></tool_call>", "<think>", "</think>\n",
        "<think></think>", "<|channel|>", "a<|channel|>analysis<|message|>", '<invoke name="x">\n', "[TOOL_CALLS]\n",
        "[{", '{"name":', "Output:\n", "```python\n1\n```\n```\n2\n```\n", "</s>", "<<EOF\n", "    ```\n", "&lt;",
    ],
)  # fmt: skip
def test_the_time_of_a_parse_grows_with_the_reply_and_no_faster(unit: str) -> None:
    def seconds(size: int) -> float:
        reply = "```python\nx\n```\n" + unit * (size // len(unit))
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            parse(reply)
            best = min(best, time.process_time() - start)
        return best

    small, large = 4_000, 64_000
    # Quadratic time would be 256 times as long; the half millisecond keeps the clock's grain out of the ratio.
    assert seconds(large) <= 64 * (seconds(small) + 0.0005)


@pytest.mark.parametrize("unit", ["`", "(", "<tool_call>\n", "FINAL(\n", "```python\nx\n```\n"])
def test_a_megabyte_of_anything_gives_a_bounded_reply(unit: str) -> None:
    _check(unit * (1_000_000 // len(unit)))


def test_arguments_that_never_close_are_looked_through_a_few_times_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[int] = []
    closing = arguments.closing

    def counted(lines: Lines, opened: int, stop: int, *, quotes: bool) -> int:
        looks.append(opened)
        return closing(lines, opened, stop, quotes=quotes)

    monkeypatch.setattr(arguments, "closing", counted)
    parsed = parse("FINAL(\n" * 20_000)
    assert parsed.commands == ()
    assert 1 <= len(looks) <= 8


def test_many_looks_at_one_long_line_cost_one_search() -> None:
    class Counting(str):
        searches = 0

        def find(self, *args: Any) -> int:
            Counting.searches += 1
            return super().find(*args)

    lines = Lines(Counting("x" * 1_000 + "\n"))
    assert {lines.at(position).end for position in range(1_000)} == {1_000}
    assert Counting.searches == 1


def test_more_commands_than_the_bound_are_left_out_and_said() -> None:
    parsed = parse("```python\nx\n```\n" * 300)
    assert len(parsed.commands) == MAX_COMMANDS
    assert [item.reason for item in parsed.dropped] == ["too_many"]
    assert "first commands" in (parsed.notice or "")
