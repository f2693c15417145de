"""One run: its ledger, its event log, the way it is worked on, one checked answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from terraphim_rlm.core.clock import SYSTEM_CLOCK, Clock
from terraphim_rlm.core.errors import Cancelled, RlmError
from terraphim_rlm.core.events import EventLog
from terraphim_rlm.core.ids import new_id
from terraphim_rlm.core.leases import LeaseBook
from terraphim_rlm.core.ledger import Ledger
from terraphim_rlm.core.network import EVENTS, Access
from terraphim_rlm.core.standing import Spent
from terraphim_rlm.core.values import Answer, Confidence, Evidence, to_json
from terraphim_rlm.engine.asker import Asker
from terraphim_rlm.engine.boxes import Boxes
from terraphim_rlm.engine.checks import evidence, supports
from terraphim_rlm.engine.concepts import library_of
from terraphim_rlm.engine.direct import ask_directly
from terraphim_rlm.engine.gate import has_hooks
from terraphim_rlm.engine.letters import letters
from terraphim_rlm.engine.looking import LookUp
from terraphim_rlm.engine.node import Outcome
from terraphim_rlm.engine.record import KnownNode
from terraphim_rlm.engine.task import Task
from terraphim_rlm.engine.telling import Teller
from terraphim_rlm.engine.tree import Tree

_DRAFT_SECONDS = 0.5
"""That a stopped run's interpreter has to say what its model had drafted."""


class Run:
    """Works on one task. Making it tells the intent, which must be durable before `work`.

    Args:
        boxes: gives the run's sandbox, when it turns out that one is needed, and those of isolated children.
        leases: makes the book in which the ledger writes ahead what may be spent.
        spent: of a run that is taken up again, what it had spent; its intent was told when it began.
    """

    def __init__(
        self,
        task: Task,
        log: EventLog,
        boxes: Boxes,
        leases: Callable[[EventLog, str], LeaseBook] | None = None,
        spent: Spent | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.task = task
        self._log = log
        self._boxes = boxes
        self._clock = clock
        self._started = clock.now() - (0.0 if spent is None else spent.seconds)
        known = task.record.root if task.record else KnownNode()
        self._root = Teller(log, known.kept_id or new_id("node"), None, known)
        if spent is None:
            self._announce()
        lease = leases(log, self._root.node) if leases else None
        self.ledger = Ledger(task.limits, clock=clock, on_warning=self._warned, lease=lease, spent=spent)
        self._asker = Asker(
            self.ledger,
            letters(task.guard, self.ledger.root, self._root),
            speculates=task.speculate and not has_hooks(task.guard),
        )
        self._working: asyncio.Future[Outcome] | None = None
        self._tree: Tree | None = None
        self._stops = False

    def _announce(self) -> None:
        task, context = self.task, self.task.context
        about = (
            {"kind": context.kind, "bytes": context.size, "files": len(context.spans)} if context else None
        )
        if context and str(context.skipped):
            about = {**(about or {}), "skipped": str(context.skipped)}
        if about and context and (task.inputs or task.made.get("input")):
            about = {**about, "inputs": list(task.inputs), "print": context.fingerprint()}
        self._root(
            "run.started",
            question=task.question,
            model=task.model.info.name,
            sub_model=task.sub_model.info.name,
            limits=to_json(task.limits),
            context=about,
            route=task.way,
            follows=task.past.run if task.past else None,
            schema=task.schema,
            checks={name: value for name, value in to_json(task.checks).items() if name != "verify"},
            models=[to_json(task.model.info), to_json(task.sub_model.info)],
            **task.made,
        )

    async def work(self) -> Answer:
        """From the question to the checked answer.

        Raises:
            RlmError: a provider or the sandbox failed; limits do not raise, they give a partial answer.
        """
        if (record := self.task.record) is not None and record.answer is not None:
            self._finished("done", record.answer.termination)
            return record.answer
        self._working = asyncio.ensure_future(self._outcome())
        try:
            outcome = await self._working
        except asyncio.CancelledError:
            outcome = await self._stopped()
            if not self._stops:  # its caller does not want it any more, and gets nothing
                self._ended(outcome)
                raise
        return self._ended(outcome)

    def stop(self) -> None:
        """Ends the work of `work`, which then returns the best answer there is, marked as cancelled and partial."""
        self._stops = True
        if self._working is not None:
            self._working.cancel()

    async def _stopped(self) -> Outcome:
        """The best there is when a run is stopped; an interpreter that does not yield is not waited for."""
        error = Cancelled("The run was stopped.")
        node = self._tree.top if self._tree is not None else None
        if node is None:
            return Outcome(None, "", "cancelled", partial=True, error=error)
        try:
            return await asyncio.wait_for(node.partial(error), _DRAFT_SECONDS)
        except (TimeoutError, asyncio.CancelledError, RlmError):
            return node.partly(error)

    def _ended(self, outcome: Outcome) -> Answer:
        answer = self._answer(outcome)
        self._root("answer", **to_json(answer))
        self._finished("cancelled" if answer.termination == "cancelled" else "done", answer.termination)
        return answer

    async def _outcome(self) -> Outcome:
        task, account = self.task, self.ledger.root
        if task.way == "direct":
            return await ask_directly(task, self._asker, account, self._root)
        library = library_of(task.guard)
        if library is not None:
            await library.current()  # before anything is spent: a graph that cannot be read ends the run here
        sandbox = await self._boxes.own()
        sandbox.on_access = self._accessed
        tree = self._tree = Tree(task, sandbox, self._boxes.new, self.ledger, self._asker, self._log)
        if task.way == "lookup":
            hands = tree.root_hands(self._root)
            return await LookUp(task, self._asker, account, hands, self._root).run()
        return await tree.root(self._root)

    def _answer(self, outcome: Outcome) -> Answer:
        """What a run gives back; citations are read from the host's own copy of the input."""
        found = outcome.evidence or evidence(self.task.context, outcome.spans)
        return Answer(
            run_id=self._log.run,
            text=outcome.text,
            value=outcome.value,
            confidence=outcome.confidence or _confidence(outcome, found),
            evidence=found,
            termination=outcome.termination,
            partial=outcome.partial,
            usage=self.ledger.usage,
            seconds=round(self._clock.now() - self._started, 6),
        )

    def fail(self, error: RlmError) -> None:
        """Tells how the run ended when `work` raised."""
        self._root("error", **error.to_json())
        self._finished("failed", error.row.termination)

    @property
    def id(self) -> str:
        return self._log.run

    def _finished(self, status: str, termination: str) -> None:
        self._root(
            "run.finished",
            status=status,
            termination=termination,
            usage=to_json(self.ledger.usage),
            seconds=round(self._clock.now() - self._started, 6),
        )

    def _accessed(self, access: Access) -> None:
        self._root(EVENTS[access.decision], **to_json(access))

    def _warned(self, limit: str, used: float, of: float) -> None:
        self._root("budget.warning", limit=limit, used=used, of=of)


def _confidence(outcome: Outcome, found: tuple[Evidence, ...]) -> Confidence:
    if outcome.termination == "not_found":
        return "not_found"
    return "verified" if not outcome.partial and supports(outcome.text, found) else "unverified"
