"""Models behind the OpenAI chat API: OpenAI, OpenRouter, vLLM, llama.cpp's server, LM Studio."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, replace

from terraphim_rlm.core.errors import ModelProtocol, ModelRateLimited
from terraphim_rlm.llm import prices, profiles
from terraphim_rlm.llm.client import ModelInfo, ModelReply, ModelRequest
from terraphim_rlm.llm.http import DRAIN, Bounds, Connection, Reply
from terraphim_rlm.llm.openai_wire import Gathered, body
from terraphim_rlm.llm.providers import Provider, checked_base_url, key_for
from terraphim_rlm.llm.retry import Retrying
from terraphim_rlm.llm.window import WindowStatistics, window_for

DEFAULT_BOUNDS = Bounds()
DEFAULT_RETRYING = Retrying()


@dataclass(frozen=True, slots=True)
class ClientStatistics:
    """What a client has done."""

    calls: int
    attempts: int
    window: WindowStatistics


class OpenAICompatible:
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
        self._model = model
        # The newer name of the field is OpenAI's own; servers that speak its format know the older one.
        self._provider = (
            provider if url == provider.base_url else replace(provider, max_tokens_field="max_tokens")
        )
        self._info = ModelInfo(
            name,
            prices.context_window(name),
            profiles.profile_of(model),
            supports_grammar=provider.takes_grammar,
        )
        self._connection = Connection(url, key_for(provider, url), provider.headers, bounds)
        self._window = window_for(url)
        self._retrying = retrying
        self._calls = 0
        self._attempts = 0

    def __repr__(self) -> str:
        return f"OpenAICompatible({self._info.name!r}, base_url={self._connection.base_url!r})"

    @property
    def info(self) -> ModelInfo:
        return self._info

    def statistics(self) -> ClientStatistics:
        return ClientStatistics(self._calls, self._attempts, self._window.statistics())

    async def complete(self, request: ModelRequest) -> ModelReply:
        self._calls += 1
        call = uuid.uuid4().hex

        async def attempt() -> ModelReply:
            async with contextlib.aclosing(self._attempt(request, call)) as pieces:
                return [piece async for piece in pieces if isinstance(piece, ModelReply)][-1]

        return await self._retrying.run(attempt)

    def complete_nowait(self, request: ModelRequest) -> ModelReply | None:
        return None

    async def stream(self, request: ModelRequest) -> AsyncIterator[str | ModelReply]:
        """Tried again only while nothing was handed out."""
        self._calls += 1
        call = uuid.uuid4().hex

        async def begin() -> tuple[str | ModelReply, AsyncGenerator[str | ModelReply, None]]:
            pieces = self._attempt(request, call)
            return await anext(pieces), pieces

        first, rest = await self._retrying.run(begin)
        async with contextlib.aclosing(rest):
            yield first
            async for piece in rest:
                yield piece

    async def aclose(self) -> None:
        await self._connection.aclose()

    async def _attempt(self, request: ModelRequest, call: str) -> AsyncGenerator[str | ModelReply, None]:
        """`call` is the same for every attempt, so that a provider that knows the header charges once."""
        self._attempts += 1
        gathered = Gathered(request, self._info.name, self._connection.base_url)
        fields, headers = body(request, self._provider, self._model), {"Idempotency-Key": call}
        async with self._window.slot() as slot:
            try:
                async with (
                    self._connection.post("/chat/completions", fields, headers) as reply,
                    contextlib.aclosing(_chunks(reply)) as chunks,
                ):
                    async for data in chunks:
                        if piece := gathered.take(data):
                            yield piece
            except ModelRateLimited:
                self._window.rate_limited(slot)
                raise
            self._window.succeeded()
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
