"""What the tests of models over HTTP share: a clock that jumps, and a client of either format with its fake server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from terraphim_rlm.core.clock import ManualClock
from terraphim_rlm.llm.anthropic import AnthropicModel
from terraphim_rlm.llm.client import Message, ModelReply, ModelRequest
from terraphim_rlm.llm.http import Bounds
from terraphim_rlm.llm.http_model import HttpModel
from terraphim_rlm.llm.openai_compatible import OpenAICompatible
from terraphim_rlm.llm.providers import PROVIDERS
from terraphim_rlm.llm.retry import Retrying
from terraphim_rlm.testing import Fake, FakeAnthropic, FakeOpenAI

KEY = "sk-very-secret-0123456789"
FORMATS = ("openai", "anthropic")


class Sleeps:
    """A clock that jumps over every pause, and remembers it; and the format that is spoken."""

    def __init__(self, format: str = "openai") -> None:
        self.pauses: list[float] = []
        self.clock = ManualClock()
        self.format = format
        self.lead = {"openai": 1, "anthropic": 2}[format]
        """Chunks of a stream before the first piece of its text."""

    async def __call__(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.clock.advance(seconds)
        await asyncio.sleep(0)

    def server(self, script: Iterable[Any] = (), **options: Any) -> FakeOpenAI:
        kind = FakeAnthropic if self.format == "anthropic" else FakeOpenAI
        return kind(script, **options)


def client(server: FakeOpenAI, sleeps: Sleeps, provider: str = "openai", **bounds: Any) -> HttpModel:
    retrying = Retrying(clock=sleeps.clock, sleep=sleeps, chance=lambda: 0.0, total=200.0)
    options: dict[str, Any] = {"base_url": server.base_url, "bounds": Bounds(**bounds), "retrying": retrying}
    if sleeps.format == "anthropic":
        return AnthropicModel("tiny", **options)
    return OpenAICompatible(PROVIDERS[provider], "tiny", **options)


def ask(text: str = "hello", **options: Any) -> ModelRequest:
    return ModelRequest((Message("system", "be brief"), Message("user", text)), **options)


async def answer(
    fakes: list[Fake], sleeps: Sleeps, request: ModelRequest | None = None, **bounds: Any
) -> ModelReply:
    async with sleeps.server(fakes, default=Fake(status=418, text="the script is out")) as server:
        model = client(server, sleeps, **bounds)
        try:
            return await model.complete(request or ask())
        finally:
            await model.aclose()
