"""Answers the sub-calls of one node's cells. What a cell says is a wish: model, depth and budget are the host's.

An instant model is answered in the reader's own callback; everything else runs as a task that ends with the
execution that asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from terraphim_rlm.core.errors import InvalidArgument, RlmError
from terraphim_rlm.core.events import EventType
from terraphim_rlm.core.ids import new_id
from terraphim_rlm.core.ledger import Account
from terraphim_rlm.core.values import Usage, to_json
from terraphim_rlm.engine.asker import DEFAULT_REPLY, Asker, prompt_characters
from terraphim_rlm.engine.telling import Teller
from terraphim_rlm.llm.client import Message, ModelClient, ModelReply, ModelRequest
from terraphim_rlm.sandbox.link.calls import Call, described

MOST_PROMPTS = 10_000
"""Prompts of one batch."""
_MOST_REPLY = 1_000_000
_MOST_REFUSALS = 1_000
"""Failed calls of one node that are told; a cell that tries for ever must not fill the journal."""

ChildAsker = Callable[[str, Any], Awaitable[Any]]
"""`(question, context) -> value`: runs a child node."""


class Broker:
    """The sub-calls of one node."""

    def __init__(
        self,
        asker: Asker,
        account: Account,
        model: ModelClient,
        teller: Teller,
        child: ChildAsker,
    ) -> None:
        self._asker = asker
        self._account = account
        self._model = model
        self._tell = teller
        self._child = child
        self._refused = 0

    @property
    def prompt_characters(self) -> int:
        """How long a sub-prompt should at most be."""
        return prompt_characters(self._model)

    def __call__(self, call: Call) -> None:
        """Takes one call; see `sandbox.calls.CallHandler`."""
        if call.op == "llm_query" and self._at_once(call):
            return
        work = _OPS.get(call.op)
        if work is None:
            call.fail(InvalidArgument(f"There is no sub-call {call.op!r}."))
            return
        call.task = asyncio.get_running_loop().create_task(self._answer(work, call))

    def _at_once(self, call: Call) -> bool:
        """Answers when the model needs no waiting; errors are answers, too."""
        try:
            request = self._request(call.args)
            reply = self._asker.ask_nowait(self._model, self._account, request)
            if reply is None:
                return False
            call.reply(reply.text[:_MOST_REPLY])
            self._told(call, 0, reply.usage)  # after the reply: the cell goes on meanwhile
        except RlmError as error:
            call.fail(error)
            self._refused += 1
            if self._refused <= _MOST_REFUSALS:
                self._told(call, 1, Usage())
        return True

    def _told(self, call: Call, failed: int, usage: Usage) -> None:
        number = new_id("exec")
        self._tell("call.started", call_id=number, op=call.op, count=1)
        self._tell("call.finished", call_id=number, ok=not failed, failed=failed, usage=to_json(usage))

    async def _answer(self, work: Callable[..., Awaitable[tuple[Any, int, Usage]]], call: Call) -> None:
        number = new_id("exec")
        prompts = call.args.get("prompts")
        count = len(prompts) if isinstance(prompts, list) else 1
        tell = self._tell if self._refused < _MOST_REFUSALS else _untold
        tell("call.started", call_id=number, op=call.op, count=count)
        started = asyncio.get_running_loop().time()
        ok, failed, usage = False, count, Usage()
        try:
            value, failed, usage = await work(self, call)
            ok = failed == 0
            self._refused += not ok
            call.reply(value)
        except Exception as error:
            self._refused += 1
            call.fail(error)
            if not isinstance(error, RlmError):
                raise
        finally:
            tell(
                "call.finished",
                call_id=number,
                ok=ok,
                failed=failed,
                usage=to_json(usage),
                seconds=round(asyncio.get_running_loop().time() - started, 6),
            )

    async def _query(self, call: Call) -> tuple[Any, int, Usage]:
        request = self._request(call.args)
        reply = await self._asker.ask(self._model, self._account, request)
        return reply.text[:_MOST_REPLY], 0, reply.usage

    async def _batch(self, call: Call) -> tuple[Any, int, Usage]:
        prompts = call.args.get("prompts")
        if not isinstance(prompts, list) or not 0 < len(prompts) <= MOST_PROMPTS:
            raise InvalidArgument(f"llm_query_batched takes a list of 1 to {MOST_PROMPTS:,} prompts.")
        requests = [self._request({**call.args, "prompt": prompt}) for prompt in prompts]
        answers = await self._all(requests)
        usage = sum((usage for _, usage in answers), Usage())
        values = [value for value, _ in answers]
        return values, sum(1 for value in values if "text" not in value), usage

    async def _all(self, requests: list[ModelRequest]) -> list[tuple[dict[str, Any], Usage]]:
        """Each item's text or error, in order; instant models need no task."""
        results: list[tuple[dict[str, Any], Usage] | None] = [None] * len(requests)
        async with asyncio.TaskGroup() as group:
            for index, request in enumerate(requests):
                try:
                    reply = self._asker.ask_nowait(self._model, self._account, request)
                except RlmError as error:
                    results[index] = (described(error), Usage())
                    continue
                if reply is not None:
                    results[index] = _item(reply)
                else:
                    group.create_task(self._one(request, results, index))
        return [result for result in results if result is not None]

    async def _one(self, request: ModelRequest, results: list[Any], index: int) -> None:
        try:
            results[index] = _item(await self._asker.ask(self._model, self._account, request))
        except RlmError as error:
            results[index] = (described(error), Usage())

    async def _rlm(self, call: Call) -> tuple[Any, int, Usage]:
        question = call.args.get("question")
        if not isinstance(question, str) or not question.strip():
            raise InvalidArgument("rlm_query needs a question.")
        shipped = call.args.get("context")
        context = shipped.get("json") if isinstance(shipped, dict) else None
        return await self._child(question, context), 0, Usage()

    def _request(self, args: Mapping[str, Any]) -> ModelRequest:
        prompt, most = args.get("prompt"), args.get("max_tokens")
        if not isinstance(prompt, str) or not prompt:
            raise InvalidArgument("A prompt must be text that is not empty.")
        if args.get("model") not in (None, self._model.info.name):
            raise InvalidArgument(
                f"The model {str(args.get('model'))[:80]!r} is not allowed here.", fix="Leave model out."
            )
        if most is not None and (
            not isinstance(most, int) or isinstance(most, bool) or not 0 < most <= 10**6
        ):
            raise InvalidArgument("max_tokens must be a whole number above 0.")
        return ModelRequest(
            (Message("user", prompt),),
            purpose="query",
            node=self._tell.node,
            max_tokens=most or DEFAULT_REPLY,
        )


_OPS: dict[str, Callable[..., Awaitable[tuple[Any, int, Usage]]]] = {
    "llm_query": Broker._query,
    "llm_query_batched": Broker._batch,
    "rlm_query": Broker._rlm,
}


def _untold(type: EventType, **data: Any) -> None:
    """In place of a teller, for what is not told any more."""


def _item(reply: ModelReply) -> tuple[dict[str, Any], Usage]:
    return {"text": reply.text[:_MOST_REPLY]}, reply.usage
