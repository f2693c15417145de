"""This engine, playing scripts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, Self

from terraphim_rlm.core.errors import ModelError, ModelUnreachable, RlmError
from terraphim_rlm.core.values import Limits, Usage
from terraphim_rlm.llm.client import ModelInfo, ModelReply, ModelRequest
from terraphim_rlm.service.rlm import Rlm
from terraphim_rlm.testing.engines.play import Play, ProviderFailed, context_of

_USAGE = Usage(tokens_in=10, tokens_out=10, calls=1)


class PlayedModel:
    """A `ModelClient` that plays a script."""

    def __init__(self, play: Play) -> None:
        self.play = play

    @property
    def info(self) -> ModelInfo:
        return ModelInfo("played", local=True)

    async def complete(self, request: ModelRequest) -> ModelReply:
        """The reply, after the script's latency."""
        await asyncio.sleep(self.play.latency(_said(request)))
        return self._reply(request)

    def complete_nowait(self, request: ModelRequest) -> ModelReply | None:
        """The reply, where it takes no time."""
        return None if self.play.script.get("latency") else self._reply(request)

    async def stream(self, request: ModelRequest) -> AsyncIterator[str | ModelReply]:
        """The reply as one piece."""
        reply = await self.complete(request)
        yield reply.text
        yield reply

    async def aclose(self) -> None:
        """Nothing is held open."""

    def _reply(self, request: ModelRequest) -> ModelReply:
        try:
            return ModelReply(self.play.reply(_said(request)), _USAGE)
        except ProviderFailed as failure:
            raise _as_ours(failure) from failure


def write(step: dict[str, Any]) -> str:
    """A step as a model of ours writes it."""
    if "text" in step:
        return str(step["text"])
    final = step.get("final")
    code = step.get("code", "")
    return f"```python\n{code}\n```" if final is None else f"```python\n{code}\nFINAL({final})\n```"


class Ours:
    """This engine, with a spare sandbox kept ready. An async context manager; plays one script after another."""

    def __init__(self) -> None:
        self._model = PlayedModel(Play({"turns": []}, write))
        self._rlm = Rlm(self._model, limits=limits_of({}), route="loop")

    async def __aenter__(self) -> Self:
        await self._rlm.__aenter__()
        return self

    async def __aexit__(self, *about: Any) -> None:
        await self._rlm.__aexit__(*about)

    async def ask(self, script: dict[str, Any], context: Any = None) -> dict[str, Any]:
        """Plays a script without limits, when the spare is ready; see `ask`."""
        await self._rlm.wait_ready()
        self._model.play = Play(script, write)
        return await _told(self._rlm, self._model.play, context)


async def ask(script: dict[str, Any]) -> dict[str, Any]:
    """Plays a script by an engine of its own: `told`, as the other engines give it."""
    play = Play(script, write)
    return await _told(Rlm(PlayedModel(play), limits=limits_of(script), route="loop"), play)


async def _told(rlm: Rlm, play: Play, context: Any = None) -> dict[str, Any]:
    given = context_of(play.script) if context is None else context
    told: dict[str, Any] = {"answer": None, "error": None}
    started = time.perf_counter()
    try:
        answer = await rlm.ask(play.script["question"], given)
    except RlmError as error:
        told["error"] = f"{type(error).__name__}: {error.message}"
    else:
        told["answer"] = answer.value if answer.value is not None else answer.text
        told["usage"] = answer.usage.calls
        if answer.partial:
            told["error"] = f"{answer.termination}: the answer is partial"
    told["seconds"] = time.perf_counter() - started
    told["calls"], told["requests"] = play.calls, play.requests
    return told


def limits_of(script: dict[str, Any]) -> Limits:
    """A script's limits; of those that it does not name there is none but turns and depth."""
    named = {"tokens": None, "seconds": None, "calls": None, **script.get("limits", {})}
    return Limits(**named)


def _said(request: ModelRequest) -> list[dict[str, Any]]:
    return [{"role": message.role, "content": message.content} for message in request.messages]


def _as_ours(failure: ProviderFailed) -> ModelError:
    return ModelUnreachable(str(failure))
