"""A model that knows the answers, and is as wrong, slow, malformed and limited as a test wants it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass

import anyio
import anyio.lowlevel

from terraphim_rlm.core.errors import InvalidArgument, ModelRateLimited, PromptTooLong
from terraphim_rlm.llm.client import ModelInfo, ModelReply, ModelRequest
from terraphim_rlm.llm.tokens import estimate_messages, estimated_usage

WRONG = "I do not know."
UNKNOWN = "not found"
MALFORMED = "```python\nprint('"


@dataclass(frozen=True, slots=True)
class OracleLimits:
    """What the oracle bears."""

    in_flight: int | None = None
    """Calls at once; one more gets a 429 (`ModelRateLimited`). None = any number."""
    window: int | None = None
    """Tokens of a prompt, by estimate; None = any."""


NO_LIMITS = OracleLimits()


class OracleModel:
    """Answers truly, except as told. What it does with a request depends on the request and the seed only, never on
    the order of calls.

    Args:
        answers: a function from the request to its true answer, or a mapping: the first key that the last message
            contains gives the answer, `not found` if none does.
        error_rate: share of requests, 0 to 1, that get a wrong answer.
        malformed_rate: share that get a block of code that breaks off.
        latency: seconds before each answer.
        seed: picks which requests go wrong.
    """

    def __init__(
        self,
        answers: Callable[[ModelRequest], str] | Mapping[str, str],
        *,
        error_rate: float = 0.0,
        latency: float = 0.0,
        limits: OracleLimits = NO_LIMITS,
        malformed_rate: float = 0.0,
        seed: int = 0,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        if error_rate < 0 or malformed_rate < 0 or error_rate + malformed_rate > 1:
            raise InvalidArgument("The rates of an oracle lie between 0 and 1, and so does their sum.")
        self._answers = answers
        self._error_rate = error_rate
        self._malformed_rate = malformed_rate
        self._latency = latency
        self._limits = limits
        self._seed = seed
        self._sleep = sleep
        self._in_flight = 0
        self._info = ModelInfo("oracle", window=limits.window, local=True)
        self.requests: list[ModelRequest] = []

    @property
    def info(self) -> ModelInfo:
        return self._info

    async def complete(self, request: ModelRequest) -> ModelReply:
        self._admit(request)
        self._in_flight += 1
        try:
            await (self._sleep(self._latency) if self._latency else anyio.lowlevel.checkpoint())
            return self._reply(request)
        finally:
            self._in_flight -= 1

    def complete_nowait(self, request: ModelRequest) -> ModelReply | None:
        if self._latency:
            return None
        self._admit(request)
        return self._reply(request)

    async def stream(self, request: ModelRequest) -> AsyncIterator[str | ModelReply]:
        reply = await self.complete(request)
        if reply.text:
            yield reply.text
        yield reply

    async def aclose(self) -> None:
        """Nothing is held open."""

    def _admit(self, request: ModelRequest) -> None:
        self.requests.append(request)
        limits = self._limits
        if limits.in_flight is not None and self._in_flight >= limits.in_flight:
            raise ModelRateLimited(f"The oracle takes {limits.in_flight} calls at once.", retry_after=0.0)
        size = estimate_messages(request.messages)
        if limits.window is not None and size > limits.window:
            raise PromptTooLong(
                f"The prompt has about {size} tokens; the oracle takes {limits.window}.", tokens=size
            )

    def _reply(self, request: ModelRequest) -> ModelReply:
        digest = hashlib.sha256(f"{self._seed}:{request.messages!r}".encode()).digest()
        chance = int.from_bytes(digest[:8]) / 2**64
        if chance < self._error_rate:
            text = WRONG
        elif chance < self._error_rate + self._malformed_rate:
            text = MALFORMED
        else:
            text = self._truth(request)
        return ModelReply(text, estimated_usage(request, text))

    def _truth(self, request: ModelRequest) -> str:
        if callable(self._answers):
            return self._answers(request)
        last = request.messages[-1].content if request.messages else ""
        return next((answer for key, answer in self._answers.items() if key in last), UNKNOWN)
