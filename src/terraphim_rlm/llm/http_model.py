"""What all clients over HTTP share: attempts, the provider's window, streams, statistics."""

from __future__ import annotations

import contextlib
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

from terraphim_rlm.core.errors import ModelRateLimited
from terraphim_rlm.llm.client import ModelInfo, ModelReply, ModelRequest
from terraphim_rlm.llm.http import Connection
from terraphim_rlm.llm.retry import Retrying
from terraphim_rlm.llm.window import WindowStatistics, window_for

Pieces = AsyncGenerator[str | ModelReply, None]
DEFAULT_RETRYING = Retrying()


@dataclass(frozen=True, slots=True)
class ClientStatistics:
    """What a client has done."""

    calls: int
    attempts: int
    window: WindowStatistics


class HttpModel(ABC):
    """A model behind a `Connection`. A subclass says how one exchange goes (`_exchange`)."""

    def __init__(self, info: ModelInfo, connection: Connection, retrying: Retrying) -> None:
        self._info = info
        self._connection = connection
        self._window = window_for(connection.base_url)
        self._retrying = retrying
        self._calls = 0
        self._attempts = 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._info.name!r}, base_url={self._connection.base_url!r})"

    @property
    def info(self) -> ModelInfo:
        return self._info

    @property
    def base_url(self) -> str:
        """Where its requests go."""
        return self._connection.base_url

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

        async def begin() -> tuple[str | ModelReply, Pieces]:
            pieces = self._attempt(request, call)
            return await anext(pieces), pieces

        first, rest = await self._retrying.run(begin)
        async with contextlib.aclosing(rest):
            yield first
            async for piece in rest:
                yield piece

    async def aclose(self) -> None:
        await self._connection.aclose()

    async def _attempt(self, request: ModelRequest, call: str) -> Pieces:
        self._attempts += 1
        async with self._window.slot() as slot, contextlib.aclosing(self._exchange(request, call)) as pieces:
            try:
                async for piece in pieces:
                    yield piece
            except ModelRateLimited:
                self._window.rate_limited(slot)
                raise
            self._window.succeeded()

    @abstractmethod
    def _exchange(self, request: ModelRequest, call: str) -> Pieces:
        """One attempt: pieces of text, and last the whole reply.

        Args:
            call: names the call; the same for each of its attempts.
        """
