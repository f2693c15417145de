"""Anthropic's message format: a request's body, and a reply gathered from its events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from terraphim_rlm.core.errors import ModelUnreachable
from terraphim_rlm.core.values import Usage
from terraphim_rlm.llm import prices
from terraphim_rlm.llm.client import FinishReason, ModelReply, ModelRequest
from terraphim_rlm.llm.failures import from_status, json_object
from terraphim_rlm.llm.profiles import ModelProfile
from terraphim_rlm.llm.tokens import believed, estimate, estimate_messages

DEFAULT_REPLY_TOKENS = 4096
"""Of a request that names no limit; the API demands one."""
LEAST_THINKING = 1024
"""The API refuses a smaller budget of thinking."""
FINISH: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
}
_PROTOCOL = "Anthropic's protocol"
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""What an error within a stream would have been as a status."""
_ANCHOR = {"cache_control": {"type": "ephemeral"}}
_EMPTY = "(empty)"
"""The API takes no empty text."""


def body(request: ModelRequest, model: str, profile: ModelProfile) -> dict[str, Any]:
    """The body of `POST /messages`, always streamed.

    A conversation has three cache anchors: the system prompt, which all runs share; the message before the last of
    ours, up to which the request before this one was written to the cache; and the last one, to be written for the next.
    A sub-call has none: nobody sends its prefix again, and writing to the cache costs a quarter more.
    """
    system = [m.content for m in request.messages if m.role == "system"]
    turns = [m for m in request.messages if m.role != "system"]
    ours = [index for index, message in enumerate(turns) if message.role == "user"]
    anchored = set(ours[-2:]) if request.purpose == "turn" else set()
    most = request.max_tokens or DEFAULT_REPLY_TOKENS
    fields: dict[str, Any] = {
        "model": model,
        "max_tokens": most,
        "stream": True,
        "messages": [
            {"role": m.role, "content": [_block(m.content, anchored=index in anchored)]}
            for index, m in enumerate(turns)
        ],
    }
    if system:
        fields["system"] = [_block("\n\n".join(system), anchored=request.purpose == "turn")]
    if thinking := _thinking(request, profile, most):
        fields["thinking"] = thinking
    elif request.temperature is not None:  # the API refuses the two together
        fields["temperature"] = min(request.temperature, 1.0)
    return fields


def _block(text: str, *, anchored: bool) -> dict[str, Any]:
    plain = text.encode("utf-8", "replace").decode()
    return {"type": "text", "text": plain if plain.strip() else _EMPTY, **(_ANCHOR if anchored else {})}


def _thinking(request: ModelRequest, profile: ModelProfile, most: int) -> dict[str, Any] | None:
    """For turns and direct questions; a sub-call is asked for something small."""
    if request.purpose == "query" or profile.thinking == "none":
        return None
    if profile.thinking == "adaptive":
        return {"type": "adaptive"}
    budget = min(profile.thinking_headroom, most // 2)
    return {"type": "enabled", "budget_tokens": budget} if budget >= LEAST_THINKING else None


class Gathered:
    """Builds one reply from events that may be anything."""

    def __init__(self, request: ModelRequest, name: str, base_url: str) -> None:
        self._request = request
        self._name = name
        self._base_url = base_url
        self._text: list[str] = []
        self._hidden = 0
        self._finish: str | None = None
        self._usage: dict[str, Any] = {}
        self._details: dict[str, Any] = {}

    def take(self, data: str) -> str:
        """Reads one event; returns its piece of text. Events of a kind that we do not know say nothing to us."""
        event = json_object(data, self._base_url, _PROTOCOL)
        kind = event.get("type")
        if kind == "error" or "error" in event:
            raise self._error(event.get("error"))
        if kind == "message_start" and isinstance(event.get("message"), dict):
            self._begin(event["message"])
        elif kind == "content_block_start" and isinstance(event.get("content_block"), dict):
            return self._piece(event["content_block"])
        elif kind == "content_block_delta" and isinstance(event.get("delta"), dict):
            return self._piece(event["delta"])
        elif kind == "message_delta":
            self._add_usage(event.get("usage"))
            delta = event.get("delta")
            if isinstance(delta, dict) and isinstance(delta.get("stop_reason"), str):
                self._finish = delta["stop_reason"]
        return ""

    def take_whole(self, data: str) -> None:
        """Reads a reply that was not streamed."""
        message = json_object(data, self._base_url, _PROTOCOL)
        if message.get("type") == "error":
            raise self._error(message.get("error"))
        self._begin(message)
        blocks = message.get("content")
        for block in blocks if isinstance(blocks, list) else []:
            if isinstance(block, dict):
                self._piece(block)
        if isinstance(message.get("stop_reason"), str):
            self._finish = message["stop_reason"]

    def reply(self) -> ModelReply:
        """The whole reply.

        Raises:
            ModelUnreachable: no event said that the reply had ended, so it was cut.
        """
        if self._finish is None:
            raise ModelUnreachable(
                f"The reply of {self._base_url} was cut off before its end.", base_url=self._base_url
            )
        text = "".join(self._text)
        return ModelReply(text, self._counted(text), FINISH.get(self._finish, "other"), self._details)

    def _begin(self, message: Mapping[str, Any]) -> None:
        for name in ("id", "model"):
            if isinstance(message.get(name), str):
                self._details[name] = message[name][:200]
        self._add_usage(message.get("usage"))

    def _add_usage(self, usage: Any) -> None:
        """Figures of a stream are totals, and later ones are truer."""
        if isinstance(usage, dict):
            self._usage.update(usage)

    def _piece(self, block: Mapping[str, Any]) -> str:
        if isinstance(block.get("thinking"), str):
            self._hidden += estimate(block["thinking"])
        text = block.get("text")
        if not isinstance(text, str) or not text:
            return ""
        self._text.append(text)
        return text

    def _error(self, error: Any) -> Exception:
        kind = error.get("type") if isinstance(error, dict) else None
        status = _STATUS.get(kind, 500) if isinstance(kind, str) else 500
        return from_status(status, json.dumps({"error": error}, default=str), {}, self._base_url)

    def _counted(self, text: str) -> Usage:
        own_in, own_out = estimate_messages(self._request.messages), estimate(text) + self._hidden
        read, written = self._count("cache_read_input_tokens"), self._count("cache_creation_input_tokens")
        fresh = self._usage.get("input_tokens")
        whole = fresh + read + written if type(fresh) is int else None
        tokens_in = believed(whole, own_in) if type(fresh) is int and fresh >= 0 else None
        tokens_out = believed(self._usage.get("output_tokens"), own_out, ceiling=self._request.max_tokens)
        if tokens_in is None:
            read = written = 0
        usage = Usage(
            tokens_in=own_in if tokens_in is None else tokens_in,
            tokens_cached=read,
            tokens_out=own_out if tokens_out is None else tokens_out,
            tokens_reasoning=min(self._hidden, own_out if tokens_out is None else tokens_out),
            calls=1,
            estimated=tokens_in is None or tokens_out is None,
        )
        price = prices.cost(self._name, usage, written=written)
        if price is None:
            self._details["price"] = "unknown"
        return Usage(
            usage.tokens_in,
            usage.tokens_cached,
            usage.tokens_out,
            usage.tokens_reasoning,
            1,
            price or 0,
            usage.estimated,
        )

    def _count(self, name: str) -> int:
        claim = self._usage.get(name)
        return claim if type(claim) is int and claim > 0 else 0
