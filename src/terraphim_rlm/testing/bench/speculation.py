"""What beginning sub-calls while a reply streams is worth: one schedule, played with and without it.

The schedule: a root model that streams 200 tokens a second, and sub-calls of 50 ms. Its first reply is 12 words, a block that
asks five questions one after another, and 66 words about what it will do next; its second gives the answer.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator

from terraphim_rlm.llm.client import ModelReply, ModelRequest
from terraphim_rlm.llm.scripted import ScriptedModel
from terraphim_rlm.service.rlm import Rlm

TOKEN_SECONDS = 0.005
SUB_CALL_SECONDS = 0.05
QUESTIONS = 5
_NAMES = ", ".join(f"'kind {number}'" for number in range(QUESTIONS))
_BLOCK = f"names = [{_NAMES}]\nfound = [llm_query(f'What is {{name}}?') for name in names]\nprint(context[:5], found)"
_BEFORE = "First I ask a model about each of the kinds that matter here. "
_AFTER = "With that known I will go on and compare them all. " * 6
_FINISH = "```repl\nFINAL(found)\n```"


class Streamed(ScriptedModel):
    """Says its script token by token; sub-calls take their own time."""

    def complete_nowait(self, request: ModelRequest) -> ModelReply | None:
        return None

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Whole, and so after the same time as its stream."""
        if request.purpose != "turn":
            await asyncio.sleep(SUB_CALL_SECONDS)
            return await super().complete(request)
        return [piece async for piece in self.stream(request) if isinstance(piece, ModelReply)][-1]

    async def stream(self, request: ModelRequest) -> AsyncIterator[str | ModelReply]:
        reply = await super().complete(request)
        for token in _tokens(reply.text):
            await asyncio.sleep(TOKEN_SECONDS)
            yield token
        yield reply


def _tokens(text: str) -> list[str]:
    return re.findall(r"\S+\s*|\s+", text)


async def savings(count: int, *, asks: bool = True) -> list[float]:
    """Percent of a run's time that speculation saves, run by run, each beside one without it.

    Args:
        asks: the block asks its questions; else it only prints, and there is nothing to save.
    """
    await _seconds(speculate=True, asks=asks)
    saved = []
    for _ in range(count):
        without, ahead = await _seconds(speculate=False, asks=asks), await _seconds(speculate=True, asks=asks)
        saved.append(100 * (1 - ahead / without))
    return saved


async def _seconds(*, speculate: bool, asks: bool) -> float:
    block = _BLOCK if asks else "found = ['yes'] * 5\nprint(context[:5], found)"
    replies = [f"{_BEFORE}\n```repl\n{block}\n```\n{_AFTER}\n", _FINISH]
    async with Rlm(Streamed(replies, sub_reply="yes"), route="loop", speculate=speculate) as rlm:
        await rlm.wait_ready()
        started = time.perf_counter()
        answer = await rlm.ask("What are they?", "some input")
        took = time.perf_counter() - started
    if answer.value != ["yes"] * QUESTIONS or answer.usage.calls != 2 + QUESTIONS * asks:
        raise AssertionError(f"the run gave {answer!r}")
    return took
