"""One run: one ledger, one event log, one sandbox, a tree of nodes, one answer."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from terraphim_rlm.core.clock import SYSTEM_CLOCK, Clock
from terraphim_rlm.core.errors import BudgetExceeded, ExecutionFailed, RlmError
from terraphim_rlm.core.events import EventLog
from terraphim_rlm.core.ids import new_id
from terraphim_rlm.core.leases import LeaseBook
from terraphim_rlm.core.ledger import Account, Ledger
from terraphim_rlm.core.values import Answer, Confidence, Evidence, Limits, Termination, Usage, to_json
from terraphim_rlm.engine import lookup, prompts
from terraphim_rlm.engine.asker import DEFAULT_REPLY, Asker
from terraphim_rlm.engine.broker import Broker
from terraphim_rlm.engine.checks import check_schema, evidence, is_not_found, supports, value_of
from terraphim_rlm.engine.context import Context, make_context
from terraphim_rlm.engine.hands import Guard, Hands
from terraphim_rlm.engine.node import Brief, Node, Outcome
from terraphim_rlm.engine.telling import Teller
from terraphim_rlm.llm.client import Message, ModelClient, ModelReply, ModelRequest
from terraphim_rlm.sandbox.sandbox import HOME, Sandbox

Route = Literal["auto", "direct", "loop", "lookup"]
DIRECT_TOKENS = 16_000
"""Inputs smaller than this go to the model whole: below about 2^14 tokens a direct call is more often right
than a recursive one (Zhang et al., arXiv 2512.24601, figure 1)."""
_MOST_CHILDREN = 16
"""Nodes of one level that work at once; more wait. Each has an interpreter and three descriptors of ours."""
_MOST_BEST = 2_000


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked of a run."""

    question: str
    context: Context | None
    model: ModelClient
    sub_model: ModelClient
    limits: Limits
    guard: Guard
    schema: Mapping[str, Any] | None = None
    route: Route = "auto"


class Run:
    """Works on one task. Making it tells the intent, which must be durable before `work`.

    Args:
        sandbox: gives the run's sandbox, when it turns out that one is needed.
        leases: makes the book in which the ledger writes ahead what may be spent.
    """

    def __init__(
        self,
        task: Task,
        log: EventLog,
        sandbox: Callable[[], Awaitable[Sandbox]],
        leases: Callable[[EventLog, str], LeaseBook] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.task = task
        self._log = log
        self._sandbox = sandbox
        self._clock = clock
        self._started = clock.now()
        self._root = Teller(log, new_id("node"), None)
        self._announce()
        lease = leases(log, self._root.node) if leases else None
        self.ledger = Ledger(task.limits, clock=clock, on_warning=self._warned, lease=lease)
        self._asker = Asker(self.ledger)
        self._children = 0
        # For each level, so that no node holds the place that its own child waits for.
        self._levels: dict[int, asyncio.Semaphore] = {}

    def _announce(self) -> None:
        task, context = self.task, self.task.context
        about = (
            {"kind": context.kind, "bytes": context.size, "files": len(context.spans)} if context else None
        )
        if context and str(context.skipped):
            about = {**(about or {}), "skipped": str(context.skipped)}
        self._root(
            "run.started",
            question=task.question,
            model=task.model.info.name,
            sub_model=task.sub_model.info.name,
            limits=to_json(task.limits),
            context=about,
            route=self.route,
        )

    @property
    def route(self) -> Route:
        """How the task is worked on."""
        task = self.task
        if task.route != "auto":
            return task.route
        if task.model.info.profile == "small" and task.context is not None:
            return "lookup"
        if task.context is not None and task.context.size // 4 < min(DIRECT_TOKENS, self._room()):
            return "direct"
        return "loop"

    def _room(self) -> float:
        window = self.task.model.info.window
        return math.inf if window is None else max(window - DEFAULT_REPLY, 0)

    async def work(self) -> Answer:
        """From the question to the checked answer.

        Raises:
            RlmError: a provider or the sandbox failed; limits do not raise, they give a partial answer.
        """
        if self.route == "lookup":
            answer = await self._look_up()
        else:
            answer = self._checked(await (self._direct() if self.route == "direct" else self._loop()))
        self._root("answer", **to_json(answer))
        self._finished("done", answer.termination)
        return answer

    def fail(self, error: RlmError) -> None:
        """Tells how the run ended when `work` raised."""
        self._root("error", **error.to_json())
        self._finished("failed", error.row.termination)

    def cancel(self) -> None:
        """Tells that the run was stopped from outside."""
        self._finished("cancelled", "cancelled")

    def _finished(self, status: str, termination: str) -> None:
        self._root(
            "run.finished",
            status=status,
            termination=termination,
            usage=to_json(self.ledger.usage),
            seconds=round(self._clock.now() - self._started, 6),
        )

    async def _direct(self) -> Outcome:
        task = self.task
        assert task.context is not None
        messages = (
            Message("system", prompts.DIRECT),
            Message("user", prompts.direct(task.question, task.context.text())),
        )
        request = ModelRequest(messages, purpose="direct", node=self._root.node, schema=task.schema)
        self._root("node.started", depth=0, question=task.question)
        try:
            reply = await self._asker.ask(task.model, self.ledger.root, request)
        except BudgetExceeded as error:
            self._root("error", **error.to_json())
            outcome = Outcome(None, "", error.row.termination, partial=True)  # type: ignore[arg-type]
        else:
            self._root(
                "turn.reply",
                turn=1,
                text=reply.text,
                usage=to_json(reply.usage),
                finish_reason=reply.finish_reason,
            )
            outcome = _of_reply(reply, task.schema)
        self._root("node.finished", depth=0, termination=outcome.termination)
        return outcome

    async def _loop(self) -> Outcome:
        sandbox = await self._sandbox()
        interpreter = sandbox.python
        if self.task.context is not None:
            interpreter.give(self.task.context.handover())
        hands = self._hands(sandbox, interpreter, self.ledger.root, self._root)
        task = self.task
        brief = Brief(task.question, task.context, task.model, task.schema)
        node = Node(brief, self.ledger.root, self._asker, hands, self._root)
        return await node.run()

    def _hands(self, sandbox: Sandbox, interpreter: Any, account: Account, teller: Teller) -> Hands:
        async def child(question: str, context: Any) -> Any:
            return await self._child(sandbox, account, teller, question, context)

        broker = Broker(self._asker, account, self.task.sub_model, teller, child)
        return Hands(sandbox, interpreter, broker, self.ledger, account, self.task.guard, teller)

    async def _child(
        self, sandbox: Sandbox, account: Account, parent: Teller, question: str, value: Any
    ) -> Any:
        """A node below another: own interpreter and folder, the same budget.

        Raises:
            RlmError: what ended it before it had an answer.
        """
        own = account.child()
        async with self._levels.setdefault(own.depth, asyncio.Semaphore(_MOST_CHILDREN)):
            outcome = await self._work_below(sandbox, own, parent, question, value)
        if outcome.error is not None:
            error = outcome.error
            raise type(error)(
                f"The child node did not finish: {error.message} The best it had: {outcome.text[:_MOST_BEST]!r}.",
                fix=error.fix,
                **error.details,
            )
        return outcome.text if outcome.value is None else outcome.value

    async def _work_below(
        self, sandbox: Sandbox, own: Account, parent: Teller, question: str, value: Any
    ) -> Outcome:
        self._children += 1
        context = None if value in (None, "", [], {}) else make_context(value)
        teller = Teller(self._log, new_id("node"), parent.node)
        interpreter = sandbox.new_interpreter(f"{HOME}/.nodes/{self._children}")
        try:
            if context is not None:
                interpreter.give(context.handover())
            hands = self._hands(sandbox, interpreter, own, teller)
            model = self.task.sub_model
            return await Node(Brief(question, context, model), own, self._asker, hands, teller).run()
        finally:
            await interpreter.close()
            if context is not None:
                context.close()

    async def _look_up(self) -> Answer:
        """The program that the host writes for small models: search in the sandbox, judge here, ask about leaves."""
        self._root("node.started", depth=0, question=self.task.question)
        refused: list[BudgetExceeded] = []
        try:
            result = await self._looked_up(refused)
        except BudgetExceeded as error:
            self._root("error", **error.to_json())
            refused.append(error)
            result = lookup.LookupResult("", None, "unverified")
        termination: Termination = "not_found" if result.confidence == "not_found" else "final"
        if refused:
            termination = refused[0].row.termination  # type: ignore[assignment]
        self._root("node.finished", depth=0, termination=termination)
        outcome = Outcome(result.value, result.text, termination, partial=bool(refused))
        return self._answered(outcome, result.evidence, result.confidence)

    async def _looked_up(self, refused: list[BudgetExceeded]) -> lookup.LookupResult:
        """Search and leaves. Leaves for which the budget has no room are noted in `refused`; the host decides alone."""
        task = self.task
        assert task.context is not None
        plan = lookup.analyse(task.question)
        sandbox = await self._sandbox()
        interpreter = sandbox.python
        interpreter.give(task.context.handover())
        hands = self._hands(sandbox, interpreter, self.ledger.root, self._root)
        cell = await hands.run_cell(lookup.program(plan))
        if cell.status != "ok":
            raise ExecutionFailed(
                f"The search of the input ended with {cell.status}.", stderr=cell.stderr[-2000:]
            )
        found = (await interpreter.fetch("found")).get("value")

        async def leaf(request: ModelRequest) -> ModelReply | None:
            try:
                return await self._leaf(request)
            except BudgetExceeded as error:
                refused.append(error)
                return None

        return await lookup.drive(lookup.decide(plan, found, task.context.read), leaf)

    async def _leaf(self, request: ModelRequest) -> ModelReply:
        """One small question to the model."""
        number = new_id("exec")
        self._root("call.started", call_id=number, op="leaf", count=1)
        usage, failed = Usage(), 1
        try:
            reply = await self._asker.ask(self.task.sub_model, self.ledger.root, request)
            usage, failed = reply.usage, 0
        finally:
            self._root("call.finished", call_id=number, ok=not failed, failed=failed, usage=to_json(usage))
        return reply

    def _checked(self, outcome: Outcome) -> Answer:
        """An answer whose citations were read from the host's own copy of the input."""
        found = evidence(self.task.context, outcome.spans)
        return self._answered(outcome, found, _confidence(outcome, found))

    def _answered(self, outcome: Outcome, found: tuple[Evidence, ...], confidence: Confidence) -> Answer:
        return Answer(
            run_id=self._log.run,
            text=outcome.text,
            value=outcome.value,
            confidence=confidence,
            evidence=found,
            termination=outcome.termination,
            partial=outcome.partial,
            usage=self.ledger.usage,
            seconds=round(self._clock.now() - self._started, 6),
        )

    def _warned(self, limit: str, used: float, of: float) -> None:
        self._root("budget.warning", limit=limit, used=used, of=of)


def _of_reply(reply: ModelReply, schema: Mapping[str, Any] | None) -> Outcome:
    """What a reply to a direct question comes to."""
    text = reply.text.strip()
    if reply.finish_reason == "refusal":
        return Outcome(None, f"The model refused: {text[:500]}", "refused", partial=True)
    if is_not_found(text):
        return Outcome(None, "not found", "not_found")
    value = value_of(text, schema)
    check_schema(value, schema)
    return Outcome(value, text, "final", partial=reply.finish_reason == "length")


def _confidence(outcome: Outcome, found: tuple[Evidence, ...]) -> Confidence:
    if outcome.termination == "not_found":
        return "not_found"
    return "verified" if not outcome.partial and supports(outcome.text, found) else "unverified"
