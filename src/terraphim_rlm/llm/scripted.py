"""A model that says what it was told to say: for tests, demonstrations and recorded runs."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel

from terraphim_rlm.core.errors import (
    InputUnreadable,
    InvalidArgument,
    ModelError,
    PathNotFound,
    PromptTooLong,
    ScriptExhausted,
)
from terraphim_rlm.core.values import Usage
from terraphim_rlm.llm.client import ModelInfo, ModelReply, ModelRequest
from terraphim_rlm.llm.tokens import estimate_messages, estimated_usage

Scripted = str | ModelReply | ModelError
"""What a script holds: a reply, or an error to raise in its place."""
SubReply = str | Callable[[ModelRequest], Scripted]

NO_USAGE = Usage()
_LINE_KEYS = {"reply", "usage", "match"}
_USAGE_KEYS = {field.name for field in fields(Usage)}


@dataclass(frozen=True, slots=True)
class Rule:
    """A scripted reply for every request whose last message matches."""

    match: re.Pattern[str]
    reply: Scripted

    def answers(self, request: ModelRequest) -> bool:
        last = request.messages[-1].content if request.messages else ""
        return self.match.pattern in last or self.match.search(last) is not None


class ScriptedModel:
    """Plays a script.

    Args:
        replies: consumed in order by requests of purpose `turn` and `direct`.
        sub_replies: consumed in order by requests of purpose `query`.
        sub_reply: answers `query` when `sub_replies` is used up: a text, or a function of the request.
        latency: seconds before each answer; 0 = at once, also from `complete_nowait`.
        window: tokens of prompt that it accepts (by our estimate); None = any.
        rules: tried before the lists; a rule is never used up.
        shared: requests of every purpose consume `replies` (the form of a script file).
        sleep: what waiting is; a test may hand in its own.

    Raises:
        ScriptExhausted: from a call, when the script has no reply left.
    """

    def __init__(
        self,
        replies: Iterable[Scripted] = (),
        *,
        sub_replies: Iterable[Scripted] = (),
        sub_reply: SubReply | None = None,
        latency: float = 0.0,
        window: int | None = None,
        rules: Iterable[Rule] = (),
        shared: bool = False,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._replies = list(replies)
        self._sub_replies = self._replies if shared else list(sub_replies)
        self._sub_reply = sub_reply
        self._rules = tuple(rules)
        self._shared = shared
        self._latency = latency
        self._sleep = sleep
        self._used = {"replies": 0, "sub_replies": 0}
        self._info = ModelInfo(name="scripted", window=window, local=True)
        self.requests: list[ModelRequest] = []
        """Every request, in the order of arrival."""

    @classmethod
    def from_file(cls, path: str | Path) -> ScriptedModel:
        """A script of JSON lines `{"reply", "usage"?, "match"?}`.

        A line with `match` (a text, or a regular expression, looked for in the last message) answers
        every request that it fits, first such line first; the others are consumed in order.

        Raises:
            PathNotFound: there is no such file.
            InputUnreadable: it cannot be read as UTF-8 text.
            InvalidArgument: a line is malformed; the message names file and line.
        """
        replies, rules = _read_script(Path(path))
        model = cls(replies, rules=rules, shared=True)
        model._info = replace(model._info, name=f"scripted:{path}")
        return model

    @property
    def info(self) -> ModelInfo:
        return self._info

    async def complete(self, request: ModelRequest) -> ModelReply:
        answer = self._next(request)
        if self._latency:
            await self._sleep(self._latency)
        else:
            await anyio.lowlevel.checkpoint()
        return _finished(answer, request)

    def complete_nowait(self, request: ModelRequest) -> ModelReply | None:
        return None if self._latency else _finished(self._next(request), request)

    async def stream(self, request: ModelRequest) -> AsyncIterator[str | ModelReply]:
        reply = await self.complete(request)
        for piece in re.findall(r"\S*\s*", reply.text):
            if piece:
                yield piece
        yield reply

    async def aclose(self) -> None:
        """Nothing is held open."""

    def _next(self, request: ModelRequest) -> Scripted:
        self.requests.append(request)
        window = self._info.window
        if window is not None and (size := estimate_messages(request.messages)) > window:
            return PromptTooLong(
                f"The prompt has about {size} tokens; {self._info.name} takes {window}.",
                tokens=size,
                window=window,
            )
        for rule in self._rules:
            if rule.answers(request):
                return rule.reply
        sub = request.purpose == "query" and not self._shared
        name, script = ("sub_replies", self._sub_replies) if sub else ("replies", self._replies)
        position = self._used[name]
        if position < len(script):
            self._used[name] += 1
            return script[position]
        if sub and self._sub_reply is not None:
            return self._sub_reply(request) if callable(self._sub_reply) else self._sub_reply
        raise self._exhausted(name, len(script), request)

    def _exhausted(self, name: str, used: int, request: ModelRequest) -> ScriptExhausted:
        where = self._info.name.removeprefix("scripted:")
        message = f"The script has no reply left for a request of purpose {request.purpose!r}: all {used} of its {name} are used."
        fix = (
            f"Add a line to {where}."
            if self._shared
            else f"Give ScriptedModel more {name}, or a sub_reply for sub-calls."
        )
        return ScriptExhausted(message, fix=fix, used=used, purpose=request.purpose)


def _finished(answer: Scripted, request: ModelRequest) -> ModelReply:
    if isinstance(answer, str):
        return ModelReply(answer, estimated_usage(request, answer))
    if isinstance(answer, ModelError):
        raise answer
    return (
        replace(answer, usage=estimated_usage(request, answer.text)) if answer.usage == NO_USAGE else answer
    )


def _read_script(path: Path) -> tuple[list[Scripted], list[Rule]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise PathNotFound(f"There is no script {path}.", path=str(path)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputUnreadable(f"The script {path} cannot be read: {error}", path=str(path)) from error
    replies: list[Scripted] = []
    rules: list[Rule] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        reply, match = parse_row(line, f"{path}:{number}")
        if match is None:
            replies.append(reply)
        else:
            rules.append(Rule(match, reply))
    return replies, rules


def parse_row(line: str, where: str) -> tuple[ModelReply, re.Pattern[str] | None]:
    """A row `{"reply", "usage"?, "match"?}`; `where` names it in the error (`InvalidArgument`)."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _bad(where, f"not JSON ({error})") from error
    if not isinstance(row, dict) or not isinstance(row.get("reply"), str):
        raise _bad(where, 'must be an object with a text "reply"')
    if unknown := sorted(row.keys() - _LINE_KEYS):
        raise _bad(where, f"unknown key {unknown[0]!r}; known are reply, usage and match")
    match = row.get("match")
    if match is not None and not isinstance(match, str):
        raise _bad(where, '"match" must be a text')
    try:
        pattern = re.compile(match) if match is not None else None
    except re.error as error:
        raise _bad(where, f'"match" is not a regular expression: {error}') from error
    return ModelReply(row["reply"], _usage(row.get("usage"), where)), pattern


def _usage(row: Any, where: str) -> Usage:
    if row is None:
        return Usage()
    if not isinstance(row, dict) or not row.keys() <= _USAGE_KEYS:
        raise _bad(where, f'"usage" must be an object with keys of {", ".join(sorted(_USAGE_KEYS))}')
    for name, value in row.items():
        wanted = bool if name == "estimated" else int
        if type(value) is not wanted or value < 0:
            raise _bad(
                where,
                f'"usage.{name}" must be {"true or false" if wanted is bool else "a whole number, at least 0"}',
            )
    return Usage(**{"calls": 1, **row})


def _bad(where: str, what: str) -> InvalidArgument:
    return InvalidArgument(
        f"{where}: {what}.",
        fix='Write one JSON object a line: {"reply": "..", "usage"?: {..}, "match"?: ".."}.',
        where=where,
    )
