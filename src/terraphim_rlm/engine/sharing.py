"""Identical sub-calls of one run, answered once: those in flight are joined, those answered are remembered.

Only for prompts whose callers want the same answer again: a request without sampling (temperature 0), or one that
says so. Asking the same thing five times to take a vote must stay five calls.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from dataclasses import dataclass, replace

from terraphim_rlm.core.ledger import Account
from terraphim_rlm.core.values import Usage
from terraphim_rlm.engine.asker import Asker
from terraphim_rlm.llm.client import ModelClient, ModelReply, ModelRequest

_MOST_REMEMBERED = 20_000
_MOST_CHARACTERS = 64 << 20


@dataclass(slots=True)
class _Flight:
    """A call under way, and how many wait for it; the last to leave ends it."""

    task: asyncio.Task[ModelReply]
    waiting: int = 0


class Sharing:
    """Asks through `Asker`. Who joins or finds an answer is told a usage of nothing: one call was made and paid."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self._flights: dict[bytes, _Flight] = {}
        self._known: OrderedDict[bytes, ModelReply] = OrderedDict()
        self._characters = 0
        self.shared = 0
        """Requests that cost no call."""

    def known(self, model: ModelClient, request: ModelRequest) -> ModelReply | None:
        """The answer to an identical request before this one."""
        reply = self._known.get(_key(model, request))
        return None if reply is None else self._free(reply)

    def remember(self, model: ModelClient, request: ModelRequest, reply: ModelReply) -> None:
        """Keeps a whole answer; the oldest go when there are too many."""
        if reply.finish_reason != "stop":
            return
        key = _key(model, request)
        if key not in self._known:
            self._known[key] = reply
            self._characters += len(reply.text)
        while len(self._known) > _MOST_REMEMBERED or self._characters > _MOST_CHARACTERS:
            self._characters -= len(self._known.popitem(last=False)[1].text)

    async def ask(self, model: ModelClient, account: Account, request: ModelRequest) -> ModelReply:
        """One call for all who ask the same at once. Raises what the call raises, for each of them."""
        found = self.known(model, request)
        if found is not None:
            return found
        key = _key(model, request)
        flight = self._flights.get(key)
        joined = flight is not None
        if flight is None:
            flight = self._flights[key] = self._begun(model, account, request)
        flight.waiting += 1
        try:
            reply = await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if flight.waiting == 0:
                flight.task.cancel()
                if self._flights.get(key) is flight:  # whoever asks from now on begins anew
                    del self._flights[key]
        return self._free(reply) if joined else reply

    def _begun(self, model: ModelClient, account: Account, request: ModelRequest) -> _Flight:
        async def call() -> ModelReply:
            reply = await self._asker.ask(model, account, request)
            self.remember(model, request, reply)
            return reply

        task = asyncio.get_running_loop().create_task(call())
        task.add_done_callback(_seen)
        return _Flight(task)

    def _free(self, reply: ModelReply) -> ModelReply:
        self.shared += 1
        return replace(reply, usage=Usage())


def _seen(task: asyncio.Task[ModelReply]) -> None:
    if not task.cancelled():
        task.exception()


def _key(model: ModelClient, request: ModelRequest) -> bytes:
    """What makes two requests the same: the model, and all of what is sent."""
    parts = [model.info.name, str(request.max_tokens), str(request.temperature)]
    parts += [text for message in request.messages for text in (message.role, message.content)]
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        whole.update(len(data).to_bytes(8, "big") + data)
    return whole.digest()
