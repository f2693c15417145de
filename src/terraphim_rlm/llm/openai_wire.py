"""The OpenAI chat format: a request's body, and a reply gathered from its chunks."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from terraphim_rlm.core.errors import ModelUnreachable
from terraphim_rlm.core.values import Usage
from terraphim_rlm.llm import prices
from terraphim_rlm.llm.client import FinishReason, ModelReply, ModelRequest
from terraphim_rlm.llm.failures import from_error_field, json_object
from terraphim_rlm.llm.providers import Provider
from terraphim_rlm.llm.tokens import believed, estimate, estimate_messages

FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "end_turn": "stop",
    "length": "length",
    "max_tokens": "length",
    "content_filter": "refusal",
    "refusal": "refusal",
}
MOST_DOLLARS = 1000.0
"""A reported cost of one call above this is not believed."""


def body(request: ModelRequest, provider: Provider, model: str) -> dict[str, Any]:
    """The body of `POST /chat/completions`, always streamed, with usage at the end.

    Lone surrogates become question marks: JSON texts are UTF-8 on the provider's side.
    """
    anchored = _anchors(request) if provider.takes_anchors and model.startswith("anthropic/") else ()
    fields: dict[str, Any] = {
        "model": model,
        "messages": [
            {"role": m.role, "content": _content(m.content, anchored=index in anchored)}
            for index, m in enumerate(request.messages)
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        **provider.extra,
    }
    if request.max_tokens is not None:
        fields[provider.max_tokens_field] = request.max_tokens
    if request.temperature is not None:
        fields["temperature"] = request.temperature
    if request.grammar is not None and provider.takes_grammar:
        fields["grammar"] = request.grammar
    elif request.schema is not None:
        schema = {"name": "reply", "schema": dict(request.schema)}
        fields["response_format"] = {"type": "json_schema", "json_schema": schema}
    return fields


def _anchors(request: ModelRequest) -> Collection[int]:
    """Messages up to which a provider is told to cache; see `anthropic_wire.body`. Others cache unasked."""
    ours = [index for index, message in enumerate(request.messages) if message.role == "user"]
    system = [index for index, message in enumerate(request.messages) if message.role == "system"]
    return {*system[-1:], *ours[-2:]} if request.purpose == "turn" else ()


def _content(text: str, *, anchored: bool) -> Any:
    plain = text.encode("utf-8", "replace").decode()
    if not anchored or not plain.strip():
        return plain
    return [{"type": "text", "text": plain, "cache_control": {"type": "ephemeral"}}]


class Gathered:
    """Builds one reply from chunks that may be anything."""

    def __init__(self, request: ModelRequest, name: str, base_url: str) -> None:
        self._request = request
        self._name = name
        self._base_url = base_url
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._hidden = 0
        self._finish: str | None = None
        self._usage: Mapping[str, Any] = {}
        self._details: dict[str, Any] = {}

    def take(self, data: str) -> str:
        """Reads one chunk, or one whole unstreamed reply; returns its piece of text."""
        chunk = json_object(data, self._base_url, "OpenAI's protocol")
        if chunk.get("error"):
            raise from_error_field(chunk["error"], self._base_url)
        if isinstance(chunk.get("usage"), dict):
            self._usage = chunk["usage"]
        for ours, theirs in (("id", "id"), ("model", "model")):
            if isinstance(chunk.get(theirs), str):
                self._details[ours] = chunk[theirs][:200]
        choices = chunk.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            return ""
        return self._take_choice(choices[0])

    def reply(self) -> ModelReply:
        """The whole reply.

        Raises:
            ModelUnreachable: no chunk said that the reply had ended, so it was cut.
        """
        if self._finish is None:
            raise ModelUnreachable(
                f"The reply of {self._base_url} was cut off before its end.", base_url=self._base_url
            )
        text, finish = "".join(self._text), FINISH.get(self._finish, "other")
        if self._refusal and not text:
            text, finish = "".join(self._refusal), "refusal"
        return ModelReply(text, self._counted(text), finish, self._details)

    def _take_choice(self, choice: Mapping[str, Any]) -> str:
        part = choice.get("delta") or choice.get("message") or {}
        if isinstance(choice.get("finish_reason"), str):
            self._finish = choice["finish_reason"]
        if not isinstance(part, dict):
            return ""
        for key in ("reasoning", "reasoning_content"):
            if isinstance(part.get(key), str):
                self._hidden += estimate(part[key])
        if isinstance(part.get("refusal"), str):
            self._refusal.append(part["refusal"])
        piece = part.get("content")
        if not isinstance(piece, str):
            return ""
        self._text.append(piece)
        return piece

    def _counted(self, text: str) -> Usage:
        own_in = estimate_messages(self._request.messages)
        own_out = estimate(text) + self._hidden
        tokens_in = believed(self._usage.get("prompt_tokens"), own_in)
        tokens_out = believed(self._usage.get("completion_tokens"), own_out, ceiling=self._request.max_tokens)
        sums = (own_in if tokens_in is None else tokens_in, own_out if tokens_out is None else tokens_out)
        usage = Usage(
            tokens_in=sums[0],
            tokens_cached=self._part("prompt_tokens_details", "cached_tokens", sums[0]),
            tokens_out=sums[1],
            tokens_reasoning=self._part("completion_tokens_details", "reasoning_tokens", sums[1]),
            calls=1,
            estimated=tokens_in is None or tokens_out is None,
        )
        return self._priced(usage)

    def _part(self, group: str, name: str, whole: int) -> int:
        details = self._usage.get(group)
        claim = details.get(name) if isinstance(details, dict) else None
        return claim if isinstance(claim, int) and not isinstance(claim, bool) and 0 <= claim <= whole else 0

    def _priced(self, usage: Usage) -> Usage:
        claim = self._usage.get("cost")
        if isinstance(claim, (int, float)) and not isinstance(claim, bool) and 0 <= claim <= MOST_DOLLARS:
            microdollars: int | None = math.ceil(claim * 1_000_000)
        else:
            microdollars = prices.cost(self._name, usage)
        if microdollars is None:
            self._details["price"] = "unknown"
        return Usage(
            usage.tokens_in,
            usage.tokens_cached,
            usage.tokens_out,
            usage.tokens_reasoning,
            1,
            microdollars or 0,
            usage.estimated,
        )
