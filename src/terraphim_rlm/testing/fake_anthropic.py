"""A small HTTP server on loopback that speaks Anthropic's message API, and misbehaves as told.

It answers `POST */messages` by the same `Fake`s as `FakeOpenAI`, and keeps a prompt cache of its own: what a request
anchors is read by later requests that begin with the same bytes, as long as the server lives.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from terraphim_rlm.testing.fake_openai import Fake, FakeOpenAI, Seen, cut, size

_KINDS = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large", 429: "rate_limit_error", 529: "overloaded_error",
}  # fmt: skip
_REASONS = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}
_MOST_ANCHORS = 4


class FakeAnthropic(FakeOpenAI):
    """An async context manager with `base_url`, `requests` and `disconnects`; see `FakeOpenAI`.

    A request that the real API would refuse for its form is answered with status 400 and what is wrong with it.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._cached: set[str] = set()

    def answer_to(self, fake: Fake, seen: Seen) -> Fake:
        """The answer, or the refusal of a request that breaks the rules of the API."""
        wrong = _wrong(seen) if fake.status == 200 and fake.body is None else ""
        return Fake(wrong, status=400) if wrong else fake

    def failure(self, fake: Fake) -> dict[str, Any]:
        kind = _KINDS.get(fake.status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": fake.text}}

    def whole(self, fake: Fake, seen: Seen) -> dict[str, Any]:
        return {
            **_message(fake, seen),
            "content": [*_thought(fake), {"type": "text", "text": fake.refusal or fake.text}],
            "stop_reason": _reason(fake),
            "usage": self._usage(fake, seen),
        }

    def chunks(self, fake: Fake, seen: Seen) -> Iterable[bytes]:
        usage: Any = self._usage(fake, seen)
        told: dict[str, Any] = usage if isinstance(usage, dict) else {}
        has_output = "output_tokens" in told
        started = {**told, "output_tokens": 1} if has_output else usage
        message = {**_message(fake, seen), "content": [], "stop_reason": None}
        yield _event("message_start", message=message if usage is False else {**message, "usage": started})
        index = 0
        for block in _thought(fake):
            yield _event("content_block_start", index=index, content_block={**block, "thinking": ""})
            delta = {"type": "thinking_delta", "thinking": block["thinking"]}
            yield _event("content_block_delta", index=index, delta=delta)
            yield _event("content_block_stop", index=index)
            index += 1
        yield _event("content_block_start", index=index, content_block={"type": "text", "text": ""})
        for piece in cut(fake) if not fake.refusal else [fake.refusal]:
            yield _event("content_block_delta", index=index, delta={"type": "text_delta", "text": piece})
        yield _event("content_block_stop", index=index)
        if fake.finish_reason is not None:
            last = {"output_tokens": told["output_tokens"]} if has_output else usage
            rest = {} if usage is False else {"usage": last}
            yield _event("message_delta", delta={"stop_reason": _reason(fake)}, **rest)
        if fake.done:
            yield _event("message_stop")

    def _usage(self, fake: Fake, seen: Seen) -> Any:
        """What the request cost: its prefix up to the longest anchor that is cached was read, the rest is new."""
        if fake.usage is not None:
            return fake.usage
        blocks = _blocks(seen)
        total = sum(size(text) + 4 for text, _ in blocks)
        read = written = 0
        for end, (_, anchored) in enumerate(blocks, 1):
            if anchored:
                prefix = json.dumps([text for text, _ in blocks[:end]])
                length = sum(size(text) + 4 for text, _ in blocks[:end])
                if prefix in self._cached:
                    read = length
                else:
                    self._cached.add(prefix)
                    written = length - read
        read = (fake.cached_tokens and min(fake.cached_tokens, total)) or read
        written = min(written, total - read)
        return {
            "input_tokens": total - read - written,
            "cache_creation_input_tokens": written,
            "cache_read_input_tokens": read,
            "output_tokens": size(fake.refusal or fake.text) + size(fake.reasoning),
        }


def _event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def _message(fake: Fake, seen: Seen) -> dict[str, Any]:
    return {"id": "fake", "type": "message", "role": "assistant", "model": seen.body.get("model")}


def _thought(fake: Fake) -> list[dict[str, Any]]:
    return [{"type": "thinking", "thinking": fake.reasoning}] if fake.reasoning else []


def _reason(fake: Fake) -> str | None:
    if fake.refusal:
        return "refusal"
    return _REASONS.get(fake.finish_reason or "", fake.finish_reason)


def _blocks(seen: Seen) -> list[tuple[str, bool]]:
    """Text of each block of a request, and whether it is an anchor."""
    parts = [*seen.body.get("system", [])]
    for message in seen.body.get("messages", []):
        parts += message["content"]
    return [(part["text"], "cache_control" in part) for part in parts]


def _wrong(seen: Seen) -> str:
    """What the API would not take of a request; empty when it would take all."""
    body, messages = seen.body, seen.body.get("messages") or []
    roles = [message.get("role") for message in messages]
    most, thinking = body.get("max_tokens"), body.get("thinking") or {}
    rules = {
        "x-api-key: missing": bool(seen.headers.get("x-api-key")),
        "anthropic-version: missing": seen.headers.get("anthropic-version") == "2023-06-01",
        "max_tokens: Field required": isinstance(most, int) and most > 0,
        "messages: roles must be user or assistant": set(roles) <= {"user", "assistant"},
        "messages: first message must use the user role": roles[:1] == ["user"],
        "messages: text content blocks must be non-empty": all(text.strip() for text, _ in _blocks(seen)),
        "at most 4 blocks may have cache_control": sum(a for _, a in _blocks(seen)) <= _MOST_ANCHORS,
        "thinking: budget_tokens must be at least 1024 and below max_tokens": thinking.get("type")
        != "enabled"
        or 1024 <= thinking.get("budget_tokens", 0) < most,
        "temperature may not be set with thinking": not (thinking and "temperature" in body),
    }
    return next((rule for rule, kept in rules.items() if not kept), "")
