"""Anthropic's models by their own API: cache anchors, thinking, refusals and overload as they are meant there.

API: https://docs.anthropic.com/en/api/messages and /en/api/messages-streaming, version 2023-06-01.
"""

from __future__ import annotations

import contextlib

from terraphim_rlm.core.errors import ModelProtocol
from terraphim_rlm.llm import prices, profiles
from terraphim_rlm.llm.anthropic_wire import Gathered, body
from terraphim_rlm.llm.client import ModelInfo, ModelRequest
from terraphim_rlm.llm.http import DEFAULT_BOUNDS, Bounds, Connection
from terraphim_rlm.llm.http_model import DEFAULT_RETRYING, HttpModel, Pieces
from terraphim_rlm.llm.providers import ANTHROPIC, checked_base_url, key_for
from terraphim_rlm.llm.retry import Retrying

WINDOW = 200_000
"""Tokens, where the price list does not know the model; every model since Claude 2.1 takes that much."""


class AnthropicModel(HttpModel):
    """One model of Anthropic, or of a server that speaks its format.

    Raises:
        KeyMissing: the environment has no `ANTHROPIC_API_KEY`.
        InvalidArgument: the base URL is none, or is forbidden.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        bounds: Bounds = DEFAULT_BOUNDS,
        retrying: Retrying = DEFAULT_RETRYING,
    ) -> None:
        url = checked_base_url(base_url or ANTHROPIC.base_url)
        name = f"anthropic/{model}"
        info = ModelInfo(name, prices.context_window(name) or WINDOW, profiles.profile_of(model))
        connection = Connection(url, key_for(ANTHROPIC, url), ANTHROPIC.headers, bounds, ANTHROPIC.key_header)
        super().__init__(info, connection, retrying)
        self._model = model

    async def _exchange(self, request: ModelRequest, call: str) -> Pieces:
        """The API knows no idempotency key: an attempt that broke off may have been billed by the provider."""
        gathered = Gathered(request, self._info.name, self._connection.base_url)
        fields = body(request, self._model, profiles.PROFILES[self._info.profile])
        async with self._connection.post("/messages", fields) as reply:
            if reply.content_type == "application/json":
                gathered.take_whole(await reply.text())
            elif reply.content_type != "text/event-stream":
                raise ModelProtocol(
                    f"{self.base_url} answered with {reply.content_type or 'an unnamed type'}, not with a stream of events."
                )
            else:
                async with contextlib.aclosing(reply.events()) as events:
                    async for data in events:
                        if piece := gathered.take(data):
                            yield piece
        yield gathered.reply()
