"""Tool calls that a model wrote into its text, in the markup of the common families.

| family | form |
|---|---|
| Hermes, Qwen | `<tool_call>{"name": .., "arguments": {..}}</tool_call>` |
| Qwen coder, Llama 3 | `<function=name><parameter=code>..</parameter></function>`, `<function=name>{..}</function>` |
| GLM | `<tool_call>name<arg_key>..</arg_key><arg_value>..</arg_value></tool_call>` |
| Anthropic, MiniMax, DeepSeek 3.2 | `<invoke name=".."><parameter name="code">..</parameter></invoke>` |
| harmony | `<|channel|>.. to=python code<|message|>..<|call|>` |
| DeepSeek | `<｜tool▁call▁begin｜>name<｜tool▁sep｜>{..}<｜tool▁call▁end｜>` |
| Kimi | `<|tool_call_begin|>functions.name:0<|tool_call_argument_begin|>{..}<|tool_call_end|>` |
| Mistral | `[TOOL_CALLS][{..}]`, `[TOOL_CALLS]name[ARGS]{..}` |
| Llama 3 | `<|python_tag|>..<|eom_id|>`, or a reply that is one JSON object |

A call that names a code or shell tool becomes `Code` or `Shell`. What is opened and not closed is not run.
"""

# ruff: noqa: RUF001, RUF002 - the families spell their tokens with these characters

from __future__ import annotations

import re
from collections.abc import Callable

from terraphim_rlm.engine.replies import calls
from terraphim_rlm.engine.replies.calls import Call
from terraphim_rlm.engine.replies.commands import Command, Dropped

Found = tuple[Command | Dropped, ...]
Reading = tuple[Found, int]
"""What was found, and the offset to go on from."""

_PREFIX = r"(?:antml:|｜DSML｜)?"
_PARAMETER = re.compile(
    rf"<{_PREFIX}parameter(?:=|\s+name=)[\"']?([\w.-]+)[\"']?[^<>\n]{{0,40}}>(.*?)</{_PREFIX}parameter>",
    re.DOTALL,
)
_ARGUMENT = re.compile(r"<arg_key>\s*([\w.-]+)\s*</arg_key>\s*<arg_value>(.*?)</arg_value>", re.DOTALL)
_INLINE_FENCE = re.compile(r"\s*```\w*\s*\n?(.*?)\n?\s*```\s*", re.DOTALL)
_MESSAGE_END = re.compile(r"<\|(?:end|call|return|start|channel)\|>")
_RECIPIENT = re.compile(r"\bto=([\w.-]+)")
_SPECIAL = re.compile(
    r"<｜tool▁calls?▁begin｜>|<｜DSML｜function_calls>|<\|(?:channel|start|python_tag|tool_calls_section_begin)\|>|\[TOOL_CALLS\]"
)


def at(reply: str, position: int) -> Reading | None:
    """The markup at `position`; None when there is none."""
    if reply[position] not in "<[":
        return None
    for opening, read in _FAMILIES:
        if found := opening.match(reply, position):
            return read(reply, found)
    return None


def special_token(reply: str, position: int, end: int) -> int:
    """Offset of a tool call's special token later in a line; -1 when none, or when a quotation precedes it."""
    found = _SPECIAL.search(reply, position, end)
    if not found or any(mark in reply[position : found.start()] for mark in "`\"'“>"):
        return -1
    return found.start()


def bare(reply: str) -> Found:
    """The call that a reply is when it is one JSON object; empty when it is none."""
    start = len(reply) - len(reply.lstrip())
    if not reply.startswith(("{", "[{"), start):
        return ()
    found = calls.from_json(reply)
    return _commands(found, start, len(reply.rstrip())) if isinstance(found, list) else ()


def _commands(found: list[Call] | str, start: int, end: int) -> Found:
    if isinstance(found, str):
        return (Dropped(start, end, "bad_arguments", found),)
    return tuple(calls.command(call, start, end) for call in found)


def _unclosed(reply: str, start: int, tag: str) -> Reading:
    return (Dropped(start, len(reply), "unterminated", tag),), len(reply)


def _skipped(reply: str, found: re.Match[str]) -> Reading:
    return (), found.end()


def _enclosed(
    reply: str, found: re.Match[str], close: str, read: Callable[[str], list[Call] | str]
) -> Reading:
    """A call between its opening match and `close`."""
    end = reply.find(close, found.end())
    if end < 0:
        return _unclosed(reply, found.start(), found[0][:40])
    after = end + len(close)
    return _commands(read(reply[found.end() : end]), found.start(), after), after


def _tool_call(reply: str, found: re.Match[str]) -> Reading:
    return _enclosed(reply, found, f"</{found[1]}>", _any_body)


def _any_body(body: str) -> list[Call] | str:
    text = body.strip()
    if found := re.match(rf"<(?:function=|{_PREFIX}invoke\s+name=)[\"']?([\w.:-]+)[\"']?>", text):
        return _parameters(found[1], text[found.end() :])
    if "<arg_key>" in text:
        name = text.split("<", 1)[0].strip()
        return [Call(name, {key: _trimmed(value) for key, value in _ARGUMENT.findall(text)})]
    fence = _INLINE_FENCE.fullmatch(text)
    return calls.from_json(fence[1] if fence else text)


def _parameters(name: str, body: str) -> list[Call] | str:
    found = {key: _trimmed(value) for key, value in _PARAMETER.findall(body)}
    if found:
        return [Call(name, found)]
    text = re.sub(r"(?:</function>|</[\w:｜]*invoke>)\s*$", "", body).strip()
    return calls.with_arguments(name, text) if text else name[:40]


def _trimmed(value: str) -> str:
    return value.replace("\r\n", "\n").removeprefix("\n").removesuffix("\n")


def _invoke(reply: str, found: re.Match[str]) -> Reading:
    return _enclosed(reply, found, f"</{found[1]}invoke>", lambda body: _parameters(found[2], body))


def _function(reply: str, found: re.Match[str]) -> Reading:
    return _enclosed(reply, found, "</function>", lambda body: _parameters(found[1], body))


def _deepseek(reply: str, found: re.Match[str]) -> Reading:
    return _enclosed(reply, found, "<｜tool▁call▁end｜>", _deepseek_body)


def _deepseek_body(body: str) -> list[Call] | str:
    head, separator, rest = body.partition("<｜tool▁sep｜>")
    if not separator:
        return "no separator"
    if head.strip() == "function":
        head, _, rest = rest.partition("\n")
    fence = _INLINE_FENCE.fullmatch(rest)
    return calls.with_arguments(head.strip(), fence[1] if fence else rest)


def _kimi(reply: str, found: re.Match[str]) -> Reading:
    def read(body: str) -> list[Call] | str:
        head, separator, rest = body.partition("<|tool_call_argument_begin|>")
        return calls.with_arguments(head.strip().split(":")[0], rest) if separator else "no arguments"

    return _enclosed(reply, found, "<|tool_call_end|>", read)


def _python_tag(reply: str, found: re.Match[str]) -> Reading:
    closed = re.compile(r"<\|(?:eom_id|eot_id)\|>").search(reply, found.end())
    if not closed:
        return _unclosed(reply, found.start(), found[0])
    body = reply[found.end() : closed.start()]
    read = calls.from_json(body)
    made = read if isinstance(read, list) else [Call("python", {"code": _trimmed(body)})]
    return _commands(made, found.start(), closed.start()), closed.start()


def _mistral(reply: str, found: re.Match[str]) -> Reading:
    """The only family without a closing mark: its JSON closes itself."""
    start = found.start()
    named = re.compile(r"\s*([\w.-]+)\s*\[ARGS\]\s*").match(reply, found.end())
    read = calls.leading_json(reply, named.end() if named else found.end())
    if read is None:
        return _unclosed(reply, start, found[0])
    value, end = read
    made = calls.with_arguments(named[1], value) if named else calls.from_value(value)
    return _commands(made, start, end), end


def _harmony(reply: str, found: re.Match[str]) -> Reading:
    header = found["header"] + (found["sender"] or "")
    recipient = _RECIPIENT.search(header)
    if recipient is None and "analysis" not in header:
        return (), found.end()
    closed = _MESSAGE_END.search(reply, found.end())
    end = closed.start() if closed else len(reply)
    after = closed.end() if closed and closed[0] in ("<|end|>", "<|call|>") else end
    if recipient is None:
        return (Dropped(found.start(), after, "thinking"),), after
    if closed is None:
        return _unclosed(reply, found.start(), recipient[1][:40])
    body = reply[found.end() : end]
    read = calls.with_arguments(recipient[1], body)
    return _commands(read, found.start(), after), after


_FAMILIES: tuple[tuple[re.Pattern[str], Callable[[str, re.Match[str]], Reading]], ...] = (
    (re.compile(r"<(tool_call|function_call|tool_use)>"), _tool_call),
    (re.compile(rf"<({_PREFIX})invoke\s+name=[\"']([\w.:-]{{1,80}})[\"']\s*>"), _invoke),
    (re.compile(r"<function=[\"']?([\w.:-]{1,80})[\"']?>"), _function),
    (re.compile(r"<｜tool▁call▁begin｜>"), _deepseek),
    (re.compile(r"<\|tool_call_begin\|>"), _kimi),
    (re.compile(r"<\|python_tag\|>"), _python_tag),
    (re.compile(r"\[TOOL_CALLS\]"), _mistral),
    (
        re.compile(
            r"(?:<\|start\|>assistant(?P<sender>[^<\n]{0,80}))?<\|channel\|>"
            r"(?P<header>[^<\n]{0,120}(?:<\|constrain\|>[^<\n]{0,40})?)<\|message\|>"
        ),
        _harmony,
    ),
    (
        re.compile(
            rf"</?{_PREFIX}(?:function_calls|tool_calls|minimax:tool_call)>"
            r"|<｜tool▁(?:calls▁begin|calls▁end)｜>|<\|tool_calls_section_(?:begin|end)\|>"
        ),
        _skipped,
    ),
)
