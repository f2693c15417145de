"""The way for small models: the host's program searches in the sandbox, the model reads leaves, the host judges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from terraphim_rlm.core.errors import BudgetExceeded, ExecutionFailed
from terraphim_rlm.core.ids import new_id
from terraphim_rlm.core.ledger import Account
from terraphim_rlm.core.values import Termination, Usage, to_json
from terraphim_rlm.engine import lookup
from terraphim_rlm.engine.asker import Asker
from terraphim_rlm.engine.following import digest
from terraphim_rlm.engine.hands import Hands
from terraphim_rlm.engine.node import Outcome
from terraphim_rlm.engine.record import KnownCall, KnownCalls
from terraphim_rlm.engine.task import Task
from terraphim_rlm.engine.telling import Teller
from terraphim_rlm.llm.client import ModelReply, ModelRequest


class LookUp:
    """One question looked up. Leaves for which the budget has no room go unanswered; the host then decides alone."""

    def __init__(self, task: Task, asker: Asker, account: Account, hands: Hands, tell: Teller) -> None:
        self._task = task
        self._asker = asker
        self._account = account
        self._hands = hands
        self._tell = tell
        self._refused: BudgetExceeded | None = None
        self._known = KnownCalls(tell.known.calls)

    async def run(self) -> Outcome:
        """From the question to what the input supports.

        Raises:
            ExecutionFailed: the search itself failed.
            ModelError, SandboxLost: a provider failed. Limits give a partial outcome.
        """
        known = self._tell.known
        self._tell.told(known.began)("node.started", depth=0, question=self._task.question)
        try:
            result = await self._search()
        except BudgetExceeded as error:
            self._refuse(error)
            result = lookup.LookupResult("", None, "unverified")
        termination: Termination = "not_found" if result.confidence == "not_found" else "final"
        if self._refused is not None:
            termination = self._refused.row.termination  # type: ignore[assignment]
        self._tell.told(known.ended)("node.finished", depth=0, termination=termination)
        return Outcome(
            result.value,
            result.text,
            termination,
            partial=self._refused is not None,
            evidence=result.evidence,
            confidence=result.confidence,
        )

    async def _search(self) -> lookup.LookupResult:
        assert self._task.context is not None
        plan = lookup.analyse(self._task.question)
        cell = await self._hands.run_cell(lookup.program(plan))
        if cell.status != "ok":
            raise ExecutionFailed(
                f"The search of the input ended with {cell.status}.", stderr=cell.stderr[-2000:]
            )
        found = await self._hands.fetch("found")
        return await lookup.drive(lookup.decide(plan, found, self._task.context.read), self._leaf)

    async def _leaf(self, request: ModelRequest) -> ModelReply | None:
        """One small question to the model; None when the budget has no room for it."""
        asked = digest("leaf", {"prompts": [*(m.content for m in request.messages), request.grammar or ""]})
        known, strict = self._known.take(asked), self._tell.known.strict
        if known is not None and isinstance(known.value, dict):
            return self._told(known, known.value)
        number = new_id("exec")
        self._tell("call.started", call_id=number, op="leaf", count=1, asked=asked)
        usage, failed, came = Usage(), 1, {}
        try:
            if strict:
                raise self._tell.known.end("a leaf")
            reply = await self._asker.ask(self._task.sub_model, self._account, request)
            usage, failed = reply.usage, 0
            came = {"value": {"text": reply.text, "finish": reply.finish_reason, "details": _plain(reply)}}
        except BudgetExceeded as error:
            self._refuse(error)
            return None
        finally:
            self._tell(
                "call.finished",
                call_id=number,
                ok=not failed,
                failed=failed,
                usage=to_json(usage),
                **came,
            )
        return reply

    def _told(self, known: KnownCall, value: Mapping[str, Any]) -> ModelReply:
        """The reply that this leaf had in an earlier working of the run."""
        tell = self._tell.told(True)
        tell("call.started", call_id=known.id, op="leaf", count=0, asked=known.asked)
        tell("call.finished", call_id=known.id, ok=True, failed=0, usage=to_json(Usage()), value=value)
        return ModelReply(
            str(value.get("text")),
            finish_reason=value.get("finish", "other"),
            details=value.get("details", {}),
        )

    def _refuse(self, error: BudgetExceeded) -> None:
        self._tell("error", **error.to_json())
        self._refused = error


def _plain(reply: ModelReply) -> dict[str, Any]:
    """What the judgement needs of a reply besides its text."""
    logprob = reply.details.get("logprob")
    return {"logprob": logprob} if isinstance(logprob, (int, float)) else {}
