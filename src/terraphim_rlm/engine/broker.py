"""Answers the sub-calls of one node's cells. What a cell says is a wish: model, depth and budget are the host's.

An instant model is answered in the reader's own callback; everything else runs as a task that ends with the
execution that asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from terraphim_rlm.core.errors import InvalidArgument, RlmError
from terraphim_rlm.core.events import EventType
from terraphim_rlm.core.ids import new_id
from terraphim_rlm.core.ledger import Account
from terraphim_rlm.core.values import Usage, to_json
from terraphim_rlm.engine.again import digest
from terraphim_rlm.engine.asker import DEFAULT_REPLY, Asker, prompt_characters
from terraphim_rlm.engine.sharing import Sharing
from terraphim_rlm.engine.telling import Teller
from terraphim_rlm.llm.client import Message, ModelClient, ModelReply, ModelRequest
from terraphim_rlm.sandbox.link.calls import Call, described

MOST_PROMPTS = 10_000
"""Prompts of one batch."""
MOST_CHILDREN = 1_000
"""Child nodes of one batch."""
_MOST_REPLY = 1_000_000
_MOST_REFUSALS = 1_000
"""Failed calls of one node that are told; a cell that tries for ever must not fill the journal."""


@dataclass(frozen=True, slots=True)
class InputPart:
    """A child's context that is the asking node's own input, or files of it."""

    paths: tuple[str, ...] | None
    """None = all of it."""
    one: bool = False
    """The one path is the input itself."""


ChildAsker = Callable[[str, Any], Awaitable[Any]]
"""`(question, context) -> value`: runs a child node; the context is JSON or an `InputPart`."""


class Broker:
    """The sub-calls of one node."""

    def __init__(
        self,
        asker: Asker,
        sharing: Sharing,
        account: Account,
        model: ModelClient,
        teller: Teller,
        child: ChildAsker,
    ) -> None:
        self._asker = asker
        self._sharing = sharing
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
            reply = self._nowait(self._request(call.args), _shares(call.args))
            if reply is None:
                return False
            text = reply.text[:_MOST_REPLY]
            call.reply(text)
            self._told(call, 0, reply.usage, value=text)  # after the reply: the cell goes on meanwhile
        except RlmError as error:
            call.fail(error)
            self._refused += 1
            if self._refused <= _MOST_REFUSALS:
                self._told(call, 1, Usage(), error=described(error))
        return True

    def _nowait(self, request: ModelRequest, shares: bool) -> ModelReply | None:
        """An answer that needs no waiting: one that is known, or an instant model's."""
        if not shares:
            return self._asker.ask_nowait(self._model, self._account, request)
        reply = self._sharing.known(self._model, request)
        if reply is None:
            reply = self._asker.ask_nowait(self._model, self._account, request)
            if reply is not None:
                self._sharing.remember(self._model, request, reply)
        return reply

    async def _waited(self, request: ModelRequest, shares: bool) -> ModelReply:
        asks = self._sharing.ask if shares else self._asker.ask
        return await asks(self._model, self._account, request)

    def _told(self, call: Call, failed: int, usage: Usage, **came: Any) -> None:
        number, asked = new_id("exec"), digest(call.op, call.args)
        self._tell("call.started", call_id=number, op=call.op, count=1, asked=asked)
        self._tell(
            "call.finished", call_id=number, ok=not failed, failed=failed, usage=to_json(usage), **came
        )

    async def _answer(self, work: Callable[..., Awaitable[tuple[Any, int, Usage]]], call: Call) -> None:
        number = new_id("exec")
        prompts = call.args.get("prompts")
        prompts = call.args.get("items") if prompts is None else prompts
        count = len(prompts) if isinstance(prompts, list) else 1
        tell = self._tell if self._refused < _MOST_REFUSALS else _untold
        tell("call.started", call_id=number, op=call.op, count=count, asked=digest(call.op, call.args))
        came: dict[str, Any] = {}
        started = asyncio.get_running_loop().time()
        ok, failed, usage = False, count, Usage()
        try:
            value, failed, usage = await work(self, call)
            ok = failed == 0
            self._refused += not ok
            call.reply(value)
            came = {"value": value}
        except Exception as error:
            self._refused += 1
            call.fail(error)
            came = {"error": described(error)}
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
                **came,
            )

    async def _query(self, call: Call) -> tuple[Any, int, Usage]:
        reply = await self._waited(self._request(call.args), _shares(call.args))
        return reply.text[:_MOST_REPLY], 0, reply.usage

    async def _batch(self, call: Call) -> tuple[Any, int, Usage]:
        prompts = call.args.get("prompts")
        if not isinstance(prompts, list) or not 0 < len(prompts) <= MOST_PROMPTS:
            raise InvalidArgument(f"llm_query_batched takes a list of 1 to {MOST_PROMPTS:,} prompts.")
        requests = [self._request({**call.args, "prompt": prompt}) for prompt in prompts]
        answers = await self._all(requests, _shares(call.args))
        usage = sum((usage for _, usage in answers), Usage())
        values = [value for value, _ in answers]
        return values, _failed(values), usage

    async def _all(self, requests: list[ModelRequest], shares: bool) -> list[tuple[dict[str, Any], Usage]]:
        """Each item's text or error, in order; instant models need no task."""
        results: list[tuple[dict[str, Any], Usage] | None] = [None] * len(requests)
        async with asyncio.TaskGroup() as group:
            for index, request in enumerate(requests):
                try:
                    reply = self._nowait(request, shares)
                except RlmError as error:
                    results[index] = (described(error), Usage())
                    continue
                if reply is not None:
                    results[index] = _item(reply)
                else:
                    group.create_task(self._one(request, shares, results, index))
        return [result for result in results if result is not None]

    async def _one(self, request: ModelRequest, shares: bool, results: list[Any], index: int) -> None:
        try:
            results[index] = _item(await self._waited(request, shares))
        except RlmError as error:
            results[index] = (described(error), Usage())

    async def _rlm(self, call: Call) -> tuple[Any, int, Usage]:
        return await self._child(*_asked(call.args)), 0, Usage()

    async def _rlm_batch(self, call: Call) -> tuple[Any, int, Usage]:
        items = call.args.get("items")
        if not isinstance(items, list) or not 0 < len(items) <= MOST_CHILDREN:
            raise InvalidArgument(f"rlm_query_batched takes a list of 1 to {MOST_CHILDREN:,} questions.")
        asked = [_asked(item if isinstance(item, dict) else {}) for item in items]
        values: list[Any] = [None] * len(items)

        async def one(index: int, question: str, context: Any) -> None:
            try:
                values[index] = {"value": await self._child(question, context)}
            except RlmError as error:
                values[index] = described(error)

        async with asyncio.TaskGroup() as group:
            for index, (question, context) in enumerate(asked):
                group.create_task(one(index, question, context))
        return values, _failed(values), Usage()

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
            temperature=_temperature(args.get("temperature")),
        )


_OPS: dict[str, Callable[..., Awaitable[tuple[Any, int, Usage]]]] = {
    "llm_query": Broker._query,
    "llm_query_batched": Broker._batch,
    "rlm_query": Broker._rlm,
    "rlm_query_batched": Broker._rlm_batch,
}


def _asked(args: Mapping[str, Any]) -> tuple[str, Any]:
    """Question and context of a child, as a cell names them."""
    question, shipped = args.get("question"), args.get("context")
    if not isinstance(question, str) or not question.strip():
        raise InvalidArgument("rlm_query needs a question.")
    if not isinstance(shipped, dict):
        return question, None
    part = shipped.get("input")
    if not isinstance(part, dict):
        return question, shipped.get("json")
    paths = part.get("paths")
    if paths is not None and not (isinstance(paths, list) and all(isinstance(path, str) for path in paths)):
        raise InvalidArgument("The files of a child's context must be named by a list of paths.")
    return question, InputPart(None if paths is None else tuple(paths), part.get("one") is True)


def _shares(args: Mapping[str, Any]) -> bool:
    """Whether an identical request may have the same answer: when asked for, or where nothing is sampled."""
    memo = args.get("memo")
    return memo if isinstance(memo, bool) else args.get("temperature") == 0


def _temperature(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 2:
        raise InvalidArgument("temperature must be a number from 0 to 2.")
    return float(value)


def _failed(values: list[Any]) -> int:
    return sum(1 for value in values if "value" not in value)


def _untold(type: EventType, **data: Any) -> None:
    """In place of a teller, for what is not told any more."""


def _item(reply: ModelReply) -> tuple[dict[str, Any], Usage]:
    return {"value": reply.text[:_MOST_REPLY]}, reply.usage
