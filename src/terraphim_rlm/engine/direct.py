"""The direct way: question and input in one call, for inputs that a model reads at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from terraphim_rlm.core.errors import BudgetExceeded
from terraphim_rlm.core.ledger import Account
from terraphim_rlm.core.values import to_json
from terraphim_rlm.engine import prompts
from terraphim_rlm.engine.asker import Asker
from terraphim_rlm.engine.checks import check_schema, is_not_found, value_of
from terraphim_rlm.engine.following import earlier
from terraphim_rlm.engine.node import Outcome
from terraphim_rlm.engine.task import Task
from terraphim_rlm.engine.telling import Teller
from terraphim_rlm.llm.client import Message, ModelReply, ModelRequest


async def ask_directly(task: Task, asker: Asker, account: Account, tell: Teller) -> Outcome:
    """One call. A limit gives a partial outcome; a provider's failure raises."""
    assert task.context is not None
    past = earlier(task.past, None) if task.past is not None else ""
    messages = (
        Message("system", prompts.DIRECT),
        Message("user", prompts.direct(task.question, task.context.text(), task.schema, past)),
    )
    request = ModelRequest(messages, purpose="direct", node=tell.node, schema=task.schema)
    known = tell.known.replies.get(1)
    tell.told(tell.known.began)("node.started", depth=0, question=task.question)
    try:
        if known is None:
            system, told = (message.content for message in messages)
            tell("turn.request", turn=1, messages=len(messages), told=told, system=system)
            tell.known.reply(1)  # raises where nothing may be asked
        reply = known or await asker.ask(task.model, account, request)
    except BudgetExceeded as error:
        tell("error", **error.to_json())
        outcome = Outcome(None, "", error.row.termination, partial=True)  # type: ignore[arg-type]
    else:
        tell.told(known is not None)(
            "turn.reply",
            turn=1,
            text=reply.text,
            usage=to_json(reply.usage),
            finish_reason=reply.finish_reason,
        )
        outcome = _of_reply(reply, task.schema)
    tell.told(tell.known.ended)("node.finished", depth=0, termination=outcome.termination)
    return outcome


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
