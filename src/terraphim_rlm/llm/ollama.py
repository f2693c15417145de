"""Ollama by its own API.

Not by its OpenAI-compatible one, which cannot set `num_ctx`: a prompt longer than the server's default would be cut
in silence. API: https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from terraphim_rlm.core.errors import (
    ModelError,
    ModelNotInstalled,
    ModelUnreachable,
    PromptTooLong,
)
from terraphim_rlm.core.values import Usage
from terraphim_rlm.llm import profiles
from terraphim_rlm.llm.client import FinishReason, ModelInfo, ModelReply, ModelRequest
from terraphim_rlm.llm.failures import from_error_field, json_object
from terraphim_rlm.llm.http import DEFAULT_BOUNDS, Bounds, Connection
from terraphim_rlm.llm.http_model import DEFAULT_RETRYING, HttpModel, Pieces
from terraphim_rlm.llm.providers import Key, checked_base_url
from terraphim_rlm.llm.retry import Retrying
from terraphim_rlm.llm.tokens import believed, estimate, estimate_messages

PORT = 11434
LEAST_CONTEXT = 8192
"""Ollama loads a model anew for each other `num_ctx`, so it starts roomy, and only grows, by doubling."""
DEFAULT_REPLY_TOKENS = 2048
CAUTION = 1.5
"""Our estimate of a prompt may be this much too low (code, other scripts)."""
_PROTOCOL = "Ollama's protocol"
_FINISH: dict[str, FinishReason] = {"stop": "stop", "length": "length"}


def default_base_url() -> str:
    """`$OLLAMA_HOST` in any of the forms that Ollama takes (host, host:port, URL), else this machine."""
    host = os.environ.get("OLLAMA_HOST", "").strip() or "127.0.0.1"
    scheme, _, rest = host.rpartition("://")
    # A server listens on 0.0.0.0 and is called at 127.0.0.1.
    name = rest.rstrip("/").replace("0.0.0.0", "127.0.0.1")  # noqa: S104
    has_port = ":" in name.rsplit("]", 1)[-1] or bool(scheme)
    return f"{scheme or 'http'}://{name}" if has_port else f"http://{name}:{PORT}"


class OllamaModel(HttpModel):
    """A model that an Ollama server has pulled.

    `info.window` is what the server says of the model; None before the first call.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        bounds: Bounds = DEFAULT_BOUNDS,
        retrying: Retrying = DEFAULT_RETRYING,
    ) -> None:
        url = checked_base_url(base_url or default_base_url()).removesuffix("/v1")
        info = ModelInfo(f"ollama/{model}", profile=profiles.profile_of(model), local=True)
        super().__init__(info, Connection(url, Key(""), {}, bounds), retrying)
        self._model = model
        self._context = LEAST_CONTEXT

    async def _exchange(self, request: ModelRequest, call: str) -> Pieces:
        with self._explained():
            if self._info.window is None:
                self._info = replace(self._info, window=await self._ask_window())
            gathered = _Gathered(request, self._connection.base_url)
            async with (
                self._connection.post("/api/chat", self._body(request)) as reply,
                contextlib.aclosing(reply.lines()) as lines,
            ):
                async for line in lines:
                    if line.strip() and (piece := gathered.take(line)):
                        yield piece
            yield gathered.reply(self._context)

    async def _ask_window(self) -> int:
        async with self._connection.post("/api/show", {"model": self._model}) as reply:
            said = json_object(await reply.text(), self._connection.base_url, _PROTOCOL)
        facts = said.get("model_info")
        sizes = (
            [v for k, v in facts.items() if k.endswith(".context_length")] if isinstance(facts, dict) else []
        )
        known = [size for size in sizes if isinstance(size, int) and 0 < size < 1 << 30]
        return max(known, default=LEAST_CONTEXT)

    def _body(self, request: ModelRequest) -> dict[str, Any]:
        options: dict[str, Any] = {"num_ctx": self._room(request)}
        if request.max_tokens is not None:
            options["num_predict"] = request.max_tokens
        if request.temperature is not None:
            options["temperature"] = request.temperature
        messages = [
            {"role": m.role, "content": m.content.encode("utf-8", "replace").decode()}
            for m in request.messages
        ]
        schema = {} if request.schema is None else {"format": dict(request.schema)}
        # Servers that know these two refuse a prompt that is too long; to others they mean nothing.
        strict = {"truncate": False, "shift": False}
        return {
            "model": self._model,
            "messages": messages,
            "stream": True,
            "options": options,
            **strict,
            **schema,
        }

    def _room(self, request: ModelRequest) -> int:
        window = self._info.window or LEAST_CONTEXT
        prompt = estimate_messages(request.messages)
        if prompt >= window:
            raise PromptTooLong(
                f"The prompt has about {prompt:,} tokens; {self._info.name} takes {window:,}.",
                tokens=prompt,
                window=window,
            )
        wanted = int(prompt * CAUTION) + (request.max_tokens or DEFAULT_REPLY_TOKENS)
        while self._context < wanted:
            self._context *= 2
        self._context = min(self._context, window)
        return self._context

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Ollama's two everyday failures, with the command that mends each."""
        try:
            yield
        except ModelUnreachable as error:
            if "status" in error.details or "reached" not in error.message:
                raise
            raise ModelUnreachable(
                f"No Ollama answers at {self._connection.base_url}.",
                fix="Is `ollama serve` running? Another address: --base-url, or OLLAMA_HOST.",
                base_url=self._connection.base_url,
            ) from error
        except ModelError as error:
            if error.details.get("status") != 404:
                raise
            raise ModelNotInstalled(
                f"Ollama at {self._connection.base_url} does not have the model {self._model}.",
                fix=f"Run `ollama pull {self._model}`.",
                model=self._model,
            ) from error


class _Gathered:
    """Builds one reply from lines that may be anything."""

    def __init__(self, request: ModelRequest, base_url: str) -> None:
        self._request = request
        self._base_url = base_url
        self._text: list[str] = []
        self._hidden = 0
        self._end: Mapping[str, Any] | None = None

    def take(self, line: str) -> str:
        part = json_object(line, self._base_url, _PROTOCOL)
        if part.get("error"):
            raise from_error_field(part["error"], self._base_url)
        if part.get("done") is True:
            self._end = part
        message = part.get("message")
        if not isinstance(message, dict):
            return ""
        if isinstance(message.get("thinking"), str):
            self._hidden += estimate(message["thinking"])
        piece = message.get("content")
        if not isinstance(piece, str):
            return ""
        self._text.append(piece)
        return piece

    def reply(self, context: int) -> ModelReply:
        if self._end is None:
            raise ModelUnreachable(
                f"The reply of {self._base_url} was cut off before its end.", base_url=self._base_url
            )
        text = "".join(self._text)
        own_in, own_out = estimate_messages(self._request.messages), estimate(text) + self._hidden
        tokens_in = believed(self._end.get("prompt_eval_count"), own_in)
        tokens_out = believed(self._end.get("eval_count"), own_out, ceiling=self._request.max_tokens)
        if tokens_in is not None and tokens_in >= context:
            raise PromptTooLong(
                f"Ollama cut the prompt to its {context:,} tokens.", tokens=tokens_in, window=context
            )
        usage = Usage(
            tokens_in=own_in if tokens_in is None else tokens_in,
            tokens_out=own_out if tokens_out is None else tokens_out,
            calls=1,
            estimated=tokens_in is None or tokens_out is None,
        )
        return ModelReply(text, usage, _FINISH.get(str(self._end.get("done_reason", "stop")), "other"))
