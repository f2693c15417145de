"""The nodes of a run: a root, and below it a child for each `rlm_query`, in one sandbox but for those that want another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from terraphim_rlm.core.errors import BudgetExceeded
from terraphim_rlm.core.events import EventLog
from terraphim_rlm.core.ids import new_id
from terraphim_rlm.core.ledger import Account, Ledger
from terraphim_rlm.engine.asker import Asker
from terraphim_rlm.engine.boxes import Isolated
from terraphim_rlm.engine.broker import Birth, Broker, InputPart
from terraphim_rlm.engine.concepts import library_of
from terraphim_rlm.engine.context import Context, make_context
from terraphim_rlm.engine.following import earlier
from terraphim_rlm.engine.gate import Gate
from terraphim_rlm.engine.hands import Hands
from terraphim_rlm.engine.node import Brief, Node, Outcome
from terraphim_rlm.engine.observe import showing
from terraphim_rlm.engine.record import Record
from terraphim_rlm.engine.sharing import Sharing
from terraphim_rlm.engine.task import Task
from terraphim_rlm.engine.telling import Teller
from terraphim_rlm.engine.transcript import new_mark
from terraphim_rlm.llm.client import ModelClient
from terraphim_rlm.sandbox.contract import HOME
from terraphim_rlm.sandbox.languages.python import Interpreter
from terraphim_rlm.sandbox.sandbox import Sandbox

_MOST_CHILDREN = 16
"""Nodes of one level that work at once; more wait. Each has an interpreter and three descriptors of ours."""
_MOST_BEST = 2_000


@dataclass(frozen=True, slots=True)
class _Parent:
    """A node, as far as its children need it."""

    sandbox: Sandbox
    account: Account
    tell: Teller
    context: Context | None


class Tree:
    """Grows one run's nodes in its sandbox, under one ledger.

    Args:
        new_sandbox: gives one for a child that wants its own.
    """

    def __init__(
        self,
        task: Task,
        sandbox: Sandbox,
        new_sandbox: Callable[[], Awaitable[Sandbox]],
        ledger: Ledger,
        asker: Asker,
        log: EventLog,
    ) -> None:
        self._task = task
        self._sandbox = sandbox
        self._isolated = Isolated(new_sandbox, self._later)
        self._ledger = ledger
        self._asker = asker
        self._sharing = Sharing(asker)
        self._log = log
        self._record = task.record or Record(())
        self._children = self._record.places
        self.top: Node | None = None
        """The root, once it works."""
        self._ending: set[asyncio.Future[None]] = set()
        self._mark = new_mark()
        # For each level, so that no node holds the place that its own child waits for.
        self._levels: dict[int, asyncio.Semaphore] = {}

    async def root(self, tell: Teller) -> Outcome:
        """The node that the question is put to. Nothing of any child is left when it returns."""
        try:
            return await self._root(tell)
        finally:
            await asyncio.gather(*self._ending)

    async def _root(self, tell: Teller) -> Outcome:
        task = self._task
        hands, past = self.root_hands(tell), ""
        if task.past is not None:
            try:
                past = earlier(task.past, await hands.again(task.past) if task.past.steps else None)
            except BudgetExceeded as error:
                tell("error", **error.to_json())
                return Outcome(None, "", error.row.termination, partial=True, error=error)  # type: ignore[arg-type]
        brief = Brief(task.question, task.context, task.model, task.schema, task.checks, past)
        self.top = Node(brief, self._ledger.root, self._asker, hands, tell)
        return await self.top.run()

    def root_hands(self, tell: Teller) -> Hands:
        """The sandbox's own interpreter, with the run's input in it."""
        interpreter = self._sandbox.python
        if self._task.context is not None:
            interpreter.give(self._task.context.handover())
        top = _Parent(self._sandbox, self._ledger.root, tell, self._task.context)
        return self._hands(interpreter, top, self._task.model)

    def _hands(self, interpreter: Interpreter, own: _Parent, model: ModelClient) -> Hands:
        async def child(question: str, context: Any, birth: Birth) -> Any:
            return await self._child(own, question, context, birth)

        library = library_of(self._task.guard)
        broker = Broker(
            self._asker, self._sharing, own.account, self._task.sub_model, own.tell, child, library
        )
        shown = showing(self._mark, model.info.window)
        gate = Gate(self._task.guard, own.account, own.tell)
        return Hands(own.sandbox, interpreter, broker, own.account, gate, own.tell, shown)

    async def _child(self, parent: _Parent, question: str, given: Any, birth: Birth) -> Any:
        """A node below another: own interpreter and folder, or own sandbox, and the same budget.

        Raises:
            RlmError: what ended it before it had an answer.
        """
        own = parent.account.child()
        async with self._levels.setdefault(own.depth, asyncio.Semaphore(_MOST_CHILDREN)):
            outcome = await self._work_below(replace(parent, account=own), question, given, birth)
        if outcome.error is not None:
            error = outcome.error
            raise type(error)(
                f"The child node did not finish: {error.message} The best it had: {outcome.text[:_MOST_BEST]!r}.",
                fix=error.fix,
                **error.details,
            )
        return outcome.text if outcome.value is None else outcome.value

    async def _work_below(self, above: _Parent, question: str, given: Any, birth: Birth) -> Outcome:
        """Works with the account of `above`, which is the child's own already."""
        known = self._record.node(birth.node)
        self._children += not known.place
        place = known.place or self._children
        told = {"place": place, "call_id": birth.call, "item": birth.item}
        told |= {"isolated": True} if birth.isolated else {}
        teller = Teller(self._log, known.kept_id or new_id("node"), above.tell.node, known)
        context = _given(above.context, given)
        async with self._room(above, birth, place, context) as (sandbox, interpreter):
            if context is not None:
                interpreter.give(context.handover())
            model = self._task.sub_model
            own = _Parent(sandbox, above.account, teller, context)
            checks = replace(self._task.checks, verify=None)
            brief = Brief(question, context, model, checks=checks, birth=told)
            hands = self._hands(interpreter, own, model)
            return await Node(brief, own.account, self._asker, hands, teller).run()

    @asynccontextmanager
    async def _room(
        self, above: _Parent, birth: Birth, place: int, context: Context | None
    ) -> AsyncIterator[tuple[Sandbox, Interpreter]]:
        """Where a child works. Its parent need not wait until that is taken apart; `root` does."""
        if not birth.isolated:
            interpreter = above.sandbox.new_interpreter(f"{HOME}/.nodes/{place}")
            try:
                yield above.sandbox, interpreter
            finally:
                self._later(_end(interpreter, context))
            return
        try:
            async with self._isolated.one(above.account.depth) as box:
                box.on_access = above.sandbox.on_access
                yield box, box.python
        finally:
            if context is not None:
                context.close()

    def _later(self, end: Awaitable[None]) -> None:
        ending = asyncio.ensure_future(end)
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


async def _end(interpreter: Interpreter, context: Context | None) -> None:
    try:
        await interpreter.close()
    finally:
        if context is not None:
            context.close()


def _given(own: Context | None, value: Any) -> Context | None:
    """A child's input: its parent's own memory, all of it or some of its files, or what its parent's code made."""
    if isinstance(value, InputPart):
        return None if own is None else own.part(value.paths, one=value.one)
    return None if value in (None, "", [], {}) else make_context(value)
