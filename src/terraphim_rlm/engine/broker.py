"""Answers the sub-calls of one node's cells. What a cell says is a wish: model, depth and budget are the host's.

An instant model is answered in the reader's own callback; everything else runs as a task that ends with the
execution that asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from terraphim_rlm.core.errors import BudgetExceeded, InvalidArgument, RlmError
from terraphim_rlm.core.events import EventType
from terraphim_rlm.core.ids import new_id
from terraphim_rlm.core.ledger import Account
from terraphim_rlm.core.values import Usage, to_json
from terraphim_rlm.engine.asker import DEFAULT_REPLY, Asker, prompt_characters
from terraphim_rlm.engine.concepts import terms_of
from terraphim_rlm.engine.following import digest
from terraphim_rlm.engine.record import KnownCall
from terraphim_rlm.engine.sharing import Sharing
from terraphim_rlm.engine.speculation import Ahead
from terraphim_rlm.engine.telling import Teller
from terraphim_rlm.llm.client import Message, ModelClient, ModelReply, ModelRequest
from terraphim_rlm.sandbox.link.calls import Call, described

if TYPE_CHECKING:
    from terraphim_rlm.guard.kg.library import Knowledge, Library

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


@dataclass(frozen=True, slots=True)
class Birth:
    """Where a child node comes from."""

    call: str
    """Id of the sub-call that asked for it."""
    item: int
    """Which of its questions; 0 for the only one."""
    node: str | None = None
    """Its id, when it goes on from an earlier working of the run."""
    isolated: bool = False
    """It wants a sandbox of its own."""


ChildAsker = Callable[[str, Any, Birth], Awaitable[Any]]
"""`(question, context, birth) -> value`: runs a child node; the context is JSON or an `InputPart`."""


@dataclass(frozen=True, slots=True)
class _Job:
    """A sub-call being worked on."""

    args: Mapping[str, Any]
    known: KnownCall
    """What is settled of it already."""
    tell: Callable[..., None]

    def settled(self, item: int, said: dict[str, Any], usage: Usage) -> None:
        """Tells what one of its questions came to, so that it need never be asked again."""
        came = said if "value" in said else {"error": said}
        self.tell("call.item", call_id=self.known.id, item=item, usage=to_json(usage), **came)

    def birth(self, item: int = 0) -> Birth:
        return Birth(self.known.id, item, self.known.nodes.get(item), self.args.get("isolate") is True)


_Item = tuple[dict[str, Any], Usage]
"""What a cell gets for one of several questions, and what that cost."""
_Work = Callable[["Broker", _Job], Awaitable[tuple[Any, int, Usage]]]


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
        library: Library | None = None,
    ) -> None:
        self._asker = asker
        self._sharing = sharing
        self._account = account
        self._model = model
        self._tell = teller
        self._child = child
        self._library = library
        self._refused = 0
        self.ahead: Ahead | None = None
        """Calls begun before a cell asked for them; None where nobody looks ahead."""

    @property
    def knowledge(self) -> Knowledge | None:
        """The knowledge graph that cells may ask about, as it was read last."""
        return self._library.latest if self._library else None

    @property
    def prompt_characters(self) -> int:
        """How long a sub-prompt should at most be."""
        return prompt_characters(self._model)

    def __call__(self, call: Call, known: KnownCall | None = None) -> None:
        """Takes one call; see `sandbox.calls.CallHandler`. With `known`, goes on with what it is of an earlier working."""
        if call.op == "llm_query" and known is None and self._at_once(call):
            return
        work = _OPS.get(call.op)
        if work is None:
            call.fail(InvalidArgument(f"There is no sub-call {call.op!r}."))
            return
        call.task = asyncio.get_running_loop().create_task(self._answer(work, call, known))

    def remember(self, call: Call, known: KnownCall) -> None:
        """Lets identical sub-calls that share answers have what this one was answered from the record."""
        prompts, values = call.args.get("prompts", [call.args.get("prompt")]), known.value
        if known.failure is not None or not call.op.startswith("llm_query") or not _shares(call.args):
            return
        said = values if isinstance(values, list) else [{"value": values}]
        for prompt, each in zip(prompts, said, strict=False):
            if isinstance(each.get("value"), str):
                request = self._request({**call.args, "prompt": prompt})
                self._sharing.remember(self._model, request, ModelReply(each["value"]))

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

    def begin(self, args: Mapping[str, Any]) -> tuple[ModelRequest, Awaitable[ModelReply], Usage] | None:
        """A call before a cell asks for it; see `speculation.Early`."""
        try:
            request = self._request(args)
        except RlmError:
            return None  # the cell will be told
        twice = _shares(args) and self.ahead is not None and self.ahead.holds(request)
        if twice or not self._asker.has_room(self._model, self._account, request):
            return None
        asks = self._sharing.ask if _shares(args) else self._asker.ask
        call = asks(self._model, self._account, request)
        return request, call, self._asker.at_most(self._model, request)

    def _nowait(self, request: ModelRequest, shares: bool) -> ModelReply | None:
        """An answer that needs no waiting: one that is known or has come already, or an instant model's."""
        if self.ahead is not None and self.ahead.holds(request):
            return self.ahead.ready(request)
        if not shares:
            return self._asker.ask_nowait(self._model, self._account, request)
        reply = self._sharing.known(self._model, request)
        if reply is None:
            reply = self._asker.ask_nowait(self._model, self._account, request)
            if reply is not None:
                self._sharing.remember(self._model, request, reply)
        return reply

    async def _waited(self, request: ModelRequest, shares: bool) -> ModelReply:
        if self.ahead is not None and self.ahead.holds(request):
            try:
                return await self.ahead.reply(request)
            except BudgetExceeded:
                pass  # it came too early for the room there was; asked for now, it waits its turn
        asks = self._sharing.ask if shares else self._asker.ask
        return await asks(self._model, self._account, request)

    def _told(self, call: Call, failed: int, usage: Usage, **came: Any) -> None:
        number, asked = new_id("exec"), digest(call.op, call.args)
        self._tell("call.started", call_id=number, op=call.op, count=1, asked=asked)
        self._tell(
            "call.finished", call_id=number, ok=not failed, failed=failed, usage=to_json(usage), **came
        )

    async def _answer(self, work: _Work, call: Call, known: KnownCall | None) -> None:
        prompts = call.args.get("prompts")
        prompts = call.args.get("items") if prompts is None else prompts
        count = len(prompts) if isinstance(prompts, list) else 1
        tell = self._tell if self._refused < _MOST_REFUSALS else _untold
        begun = known or KnownCall(new_id("exec"), call.op, digest(call.op, call.args))
        number = begun.id
        if known is None or not self._tell.known.goes_on:
            tell("call.started", call_id=number, op=call.op, count=count, asked=begun.asked)
        came: dict[str, Any] = {}
        started = asyncio.get_running_loop().time()
        ok, failed, usage = False, count, Usage()
        try:
            value, failed, usage = await work(self, _Job(call.args, begun, tell))
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

    async def _query(self, job: _Job) -> tuple[Any, int, Usage]:
        reply = await self._waited(self._request(job.args), _shares(job.args))
        return reply.text[:_MOST_REPLY], 0, reply.usage

    async def _batch(self, job: _Job) -> tuple[Any, int, Usage]:
        prompts = job.args.get("prompts")
        if not isinstance(prompts, list) or not 0 < len(prompts) <= MOST_PROMPTS:
            raise InvalidArgument(f"llm_query_batched takes a list of 1 to {MOST_PROMPTS:,} prompts.")
        requests = [self._request({**job.args, "prompt": prompt}) for prompt in prompts]
        answers = await self._all(job, requests)
        usage = sum((usage for _, usage in answers), Usage())
        values = [value for value, _ in answers]
        return values, _failed(values), usage

    async def _all(self, job: _Job, requests: list[ModelRequest]) -> list[_Item]:
        """Each item's text or error, in order; instant models need no task."""
        shares, known = _shares(job.args), job.known.items
        results: list[_Item | None] = [known.get(index) for index in range(len(requests))]
        at_once: list[int] = []
        waits = False
        async with asyncio.TaskGroup() as group:
            for index, request in enumerate(requests):
                if results[index] is not None:
                    continue
                try:
                    reply = self._nowait(request, shares)
                except RlmError as error:
                    results[index] = (described(error), Usage())
                else:
                    if reply is None:
                        group.create_task(self._one(job, request, results, index))
                        waits = True
                        continue
                    results[index] = _item(reply)
                at_once.append(index)
            for index in at_once if waits else ():  # else all of it is told in a moment
                job.settled(index, *(results[index] or ({}, Usage())))
        return [result for result in results if result is not None]

    async def _one(self, job: _Job, request: ModelRequest, results: list[_Item | None], index: int) -> None:
        try:
            result = _item(await self._waited(request, _shares(job.args)))
        except RlmError as error:
            result = (described(error), Usage())
        results[index] = result
        job.settled(index, *result)

    async def _rlm(self, job: _Job) -> tuple[Any, int, Usage]:
        return await self._child(*_asked(job.args), job.birth()), 0, Usage()

    async def _rlm_batch(self, job: _Job) -> tuple[Any, int, Usage]:
        items = job.args.get("items")
        if not isinstance(items, list) or not 0 < len(items) <= MOST_CHILDREN:
            raise InvalidArgument(f"rlm_query_batched takes a list of 1 to {MOST_CHILDREN:,} questions.")
        asked = [_asked(item if isinstance(item, dict) else {}) for item in items]
        values: list[Any] = [job.known.items.get(index, (None,))[0] for index in range(len(items))]

        async def one(index: int, question: str, context: Any) -> None:
            try:
                values[index] = {"value": await self._child(question, context, job.birth(index))}
            except RlmError as error:
                values[index] = described(error)
            job.settled(index, values[index], Usage())

        async with asyncio.TaskGroup() as group:
            for index, (question, context) in enumerate(asked):
                if values[index] is None:
                    group.create_task(one(index, question, context))
        return values, _failed(values), Usage()

    async def _kg_terms(self, job: _Job) -> tuple[Any, int, Usage]:
        return await terms_of(self._library, job.args.get("terms")), 0, Usage()

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


_OPS: dict[str, _Work] = {
    "llm_query": Broker._query,
    "llm_query_batched": Broker._batch,
    "rlm_query": Broker._rlm,
    "rlm_query_batched": Broker._rlm_batch,
    "kg_terms": Broker._kg_terms,
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


def _item(reply: ModelReply) -> _Item:
    return {"value": reply.text[:_MOST_REPLY]}, reply.usage
