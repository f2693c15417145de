"""`/v1/models` and `/v1/chat/completions`: what clients of OpenAI's API know, answered by a run.

A model is `rlm/default` or `rlm/provider/model`. Long messages become the input that code works on, so they may be
longer than any window. Sampling parameters are taken and have no effect: a run is many calls, each with its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from terraphim_rlm.core.errors import InternalError, InvalidArgument, RlmError, UnknownModel
from terraphim_rlm.core.values import Answer, Usage
from terraphim_rlm.faces.server.asking import EVENTS, Runs, check_model, is_over_tcp, stopped_with
from terraphim_rlm.faces.server.problems import Json, dumps, openai_error
from terraphim_rlm.faces.server.waiting import until_gone
from terraphim_rlm.service.ask import AskRequest
from terraphim_rlm.service.models import list_models
from terraphim_rlm.service.running import LiveRun

router = APIRouter()
PREFIX = "rlm/"
DEFAULT = "rlm/default"
LONG = 8_000
"""Characters; a longer message becomes input."""
_MOST_QUESTION = 4_000
_PIECE = 1_000
_MOST_MESSAGES, _MOST_PARTS = 1_000, 100
"""Looked at one by one, in the loop that serves everybody: long texts are cheap, many small ones are not."""
_PING_SECONDS = 10.0


class _Open(BaseModel):
    """Clients send more than we know of."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)


class Part(_Open):
    type: Literal["text"]
    text: str


class MessageBody(_Open):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[Part], Field(fail_fast=True, max_length=_MOST_PARTS)]

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class SchemaBody(_Open):
    schema_: Annotated[dict[str, Any], Field(alias="schema")]


class FormatBody(_Open):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: SchemaBody | None = None


class StreamOptions(_Open):
    include_usage: bool = False


class ChatBody(_Open):
    """What is taken of a request."""

    model: Annotated[str, Field(max_length=4200)]
    messages: Annotated[list[MessageBody], Field(fail_fast=True, min_length=1, max_length=_MOST_MESSAGES)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=1)] | None = None
    response_format: FormatBody | None = None
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    """None: a run has tools of its own, and calls nobody else's."""


@router.get("/v1/models", response_class=Response)
async def models() -> Response:
    """`rlm/default`, and each built-in model that is here; any `rlm/provider/model` may be named."""
    here = [f"{PREFIX}local/{each.name}" for each in await asyncio.to_thread(list_models) if each.installed]
    listed = [{"id": name, "object": "model", "created": 0, "owned_by": "rlm"} for name in (DEFAULT, *here)]
    return Json({"object": "list", "data": listed})


@router.post("/v1/chat/completions", response_class=Response, responses={200: {"content": {EVENTS: {}}}})
async def complete(body: ChatBody, work: Runs, request: Request) -> Response:
    """Answers the last message by a run. A client that leaves stops it."""
    asked = wanted(body, over_tcp=is_over_tcp(request))
    found = await until_gone(request, work.start(asked))
    if body.stream:
        usage = body.stream_options is not None and body.stream_options.include_usage
        return StreamingResponse(_stream(found, body.model, with_usage=usage), media_type=EVENTS)
    answer = await stopped_with(request, found)
    message = {"role": "assistant", "content": answer.text, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": _finish(answer), "logprobs": None}
    head = _head(found, body.model, "chat.completion")
    return Json({**head, "choices": [choice], "usage": usage_of(answer.usage)})


def wanted(body: ChatBody, *, over_tcp: bool) -> AskRequest:
    """The request for a run.

    Raises:
        UnknownModel, InvalidArgument, Forbidden: it asks for what cannot be.
    """
    question, context = split([(message.role, message.text) for message in body.messages])
    schema = None if body.response_format is None else _schema(body.response_format)
    model = model_of(body.model)
    check_model(model, over_tcp=over_tcp)
    return AskRequest(question, text=context, model=model, schema=schema)


def model_of(name: str) -> str | None:
    """None = what the daemon was started with.

    Raises:
        UnknownModel: it is none of ours.
    """
    if name in (DEFAULT, PREFIX.rstrip("/")):
        return None
    if not name.startswith(PREFIX) or len(name) == len(PREFIX):
        raise UnknownModel(
            f"There is no model {name[:80]!r}.", fix=f"Use {DEFAULT} or {PREFIX}provider/model."
        )
    return name.removeprefix(PREFIX)


def split(messages: list[tuple[str, str]]) -> tuple[str, str | None]:
    """Question and input of a conversation: what is short is asked, what is long is worked on.

    Of a long last message, its last paragraph is the question if that is short, else its first one; the whole message is
    input then.

    Raises:
        InvalidArgument: nothing is asked.
    """
    *before, (role, last) = messages
    if role != "user" or not last.strip():
        raise InvalidArgument("The last message must be the user's, and not empty.", name="messages")
    inputs = [f"[{who}]\n{text}" for who, text in before if len(text) > LONG]
    if len(last) > LONG:
        inputs.append(last)
        last = _asked(last)
    short = [f"{who}: {text}" for who, text in before if len(text) <= LONG and text.strip()]
    if sum(map(len, short)) > LONG:
        inputs.insert(0, "\n\n".join(short))
        short = []
    question = "\n\n".join(["The conversation so far:", *short, "Now answer this:", last]) if short else last
    return question, "\n\n".join(inputs) if inputs else None


def _asked(text: str) -> str:
    for paragraph in (text.rstrip().rpartition("\n\n")[2], text.lstrip().partition("\n\n")[0]):
        if 0 < len(paragraph.strip()) <= _MOST_QUESTION:
            return paragraph.strip()
    raise InvalidArgument(
        f"Neither the first nor the last paragraph of the long message is a question of at most {_MOST_QUESTION:,} characters.",
        fix="Put the question into a message or paragraph of its own.",
        name="messages",
    )


def usage_of(usage: Usage) -> dict[str, Any]:
    """The whole tree's, by OpenAI's names."""
    return {
        "prompt_tokens": usage.tokens_in,
        "completion_tokens": usage.tokens_out,
        "total_tokens": usage.tokens,
        "prompt_tokens_details": {"cached_tokens": usage.tokens_cached},
        "completion_tokens_details": {"reasoning_tokens": usage.tokens_reasoning},
    }


def _schema(wanted_format: FormatBody) -> dict[str, Any] | None:
    if wanted_format.type == "json_schema":
        if wanted_format.json_schema is None:
            raise InvalidArgument("response_format.json_schema is missing.", name="response_format")
        return wanted_format.json_schema.schema_
    return {"type": "object"} if wanted_format.type == "json_object" else None


def _finish(answer: Answer) -> str:
    return "length" if answer.partial else "stop"


def _head(found: LiveRun, model: str, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{found.id}", "object": kind, "created": int(time.time()), "model": model}


async def _stream(found: LiveRun, model: str, *, with_usage: bool) -> AsyncIterator[bytes]:
    """Chunks: who speaks at once, the answer when there is one, and a sign of life until then."""
    head = _head(found, model, "chat.completion.chunk")
    absent: dict[str, Any] = {"usage": None} if with_usage else {}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return b"data: %s\n\n" % dumps({**head, "choices": [choice], **absent})

    coming = asyncio.ensure_future(found.answer())
    try:
        yield chunk({"role": "assistant", "content": ""})
        while not (await asyncio.wait({coming}, timeout=_PING_SECONDS))[0]:
            yield b": still working\n\n"
        answer = coming.result()
        for place in range(0, len(answer.text), _PIECE):
            yield chunk({"content": answer.text[place : place + _PIECE]})
        yield chunk({}, _finish(answer))
        if with_usage:
            yield b"data: %s\n\n" % dumps({**head, "choices": [], "usage": usage_of(answer.usage)})
        yield b"data: [DONE]\n\n"
    except RlmError as error:
        yield b"data: %s\n\n" % dumps(openai_error(error))
    except Exception as error:
        yield b"data: %s\n\n" % dumps(openai_error(InternalError(f"{type(error).__name__}: {error}"[:1000])))
    finally:
        coming.cancel()
        if found.task is not None:
            found.task.cancel()  # of a client that left; else it is over
