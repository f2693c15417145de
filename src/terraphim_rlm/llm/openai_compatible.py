"""Models behind the OpenAI chat API: OpenAI, OpenRouter, vLLM, llama.cpp's server, LM Studio."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import replace

from terraphim_rlm.core.errors import ModelProtocol
from terraphim_rlm.llm import prices, profiles
from terraphim_rlm.llm.client import ModelInfo, ModelRequest
from terraphim_rlm.llm.http import DEFAULT_BOUNDS, DRAIN, Bounds, Connection, Reply
from terraphim_rlm.llm.http_model import DEFAULT_RETRYING, HttpModel, Pieces
from terraphim_rlm.llm.openai_wire import Gathered, body
from terraphim_rlm.llm.providers import Provider, checked_base_url, key_for
from terraphim_rlm.llm.retry import Retrying


class OpenAICompatible(HttpModel):
    """One model of one provider.

    Args:
        provider: a row of `providers.PROVIDERS`.
        model: its name as the provider writes it.
        base_url: in place of the provider's own.

    Raises:
        KeyMissing: the provider wants a key and the environment has none.
        InvalidArgument: the base URL is none, or is forbidden.
    """

    def __init__(
        self,
        provider: Provider,
        model: str,
        *,
        base_url: str | None = None,
        bounds: Bounds = DEFAULT_BOUNDS,
        retrying: Retrying = DEFAULT_RETRYING,
    ) -> None:
        url = checked_base_url(base_url or provider.base_url)
        name = f"{provider.name}/{model}"
        info = ModelInfo(
            name,
            prices.context_window(name),
            profiles.profile_of(model),
            supports_grammar=provider.takes_grammar,
        )
        super().__init__(info, Connection(url, key_for(provider, url), provider.headers, bounds), retrying)
        self._model = model
        # The newer name of the field is OpenAI's own; servers that speak its format know the older one.
        self._provider = (
            provider if url == provider.base_url else replace(provider, max_tokens_field="max_tokens")
        )

    async def _exchange(self, request: ModelRequest, call: str) -> Pieces:
        """`call` goes along as a header, so that a provider that knows it charges once."""
        gathered = Gathered(request, self._info.name, self._connection.base_url)
        fields, headers = body(request, self._provider, self._model), {"Idempotency-Key": call}
        async with (
            self._connection.post("/chat/completions", fields, headers) as reply,
            contextlib.aclosing(_chunks(reply)) as chunks,
        ):
            async for data in chunks:
                if piece := gathered.take(data):
                    yield piece
        yield gathered.reply()


async def _chunks(reply: Reply) -> AsyncGenerator[str, None]:
    """The chunks of a stream up to its end mark; one chunk when the provider answered without streaming."""
    if reply.content_type == "application/json":
        yield await reply.text()
        return
    if reply.content_type != "text/event-stream":
        raise ModelProtocol(
            f"The provider answered with {reply.content_type or 'an unnamed type'}, not with a stream of events."
        )
    async with contextlib.aclosing(reply.events()) as events:
        async for data in events:
            if data.strip() == "[DONE]":
                with contextlib.suppress(Exception):
                    async with asyncio.timeout(DRAIN):
                        await anext(events, None)
                return
            yield data
