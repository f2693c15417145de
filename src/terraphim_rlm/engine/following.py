"""A run's root node done again: its cells in their order, with the answers that its sub-calls had. No model is asked.

So a question can follow a run of another process: what the cells set and wrote is there again. A cell that a limit ended
is left out, since it would only be ended again; a cell that now prints something else is counted, and the model told.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from terraphim_rlm.core.errors import ScriptExhausted
from terraphim_rlm.core.ids import new_id
from terraphim_rlm.core.values import Usage, to_json
from terraphim_rlm.engine.neutral import neutralise
from terraphim_rlm.engine.record import KnownCall, KnownCalls
from terraphim_rlm.engine.telling import Teller
from terraphim_rlm.sandbox.link.calls import Call

_MOST_SAID = 4_000
"""Characters of an earlier question, and of its answer, that are told."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that the root node did to its sandbox."""

    kind: Literal["cell", "snapshot", "rollback"]
    text: str
    """The code, or the snapshot's name."""
    language: str = "python"
    status: str = "ok"
    stdout: str = ""


@dataclass(frozen=True, slots=True)
class Past:
    """An earlier run, as far as a question that follows it needs it."""

    run: str
    question: str
    answer: str | None
    steps: tuple[Step, ...] = ()
    calls: tuple[KnownCall, ...] = ()
    """Those that the root node's cells made, as far as they were settled."""


@dataclass(frozen=True, slots=True)
class Redone:
    """How a replay went."""

    ran: int = 0
    left_out: int = 0
    """Steps that a limit had ended."""
    other: int = 0
    """Cells that ended in another way, or printed something else, than then."""


def digest(op: str, args: Mapping[str, Any]) -> str:
    """Names a sub-call by what it asks, with a child's input; its options do not count."""
    mark = hashlib.blake2b(op.encode("utf-8", "replace"), digest_size=12)
    asked = args.get("prompts", args.get("items", [args.get("prompt", args.get("question"))]))
    for each in asked if isinstance(asked, list) else [asked]:
        text = each.get("question") if isinstance(each, dict) else each
        data = (text if isinstance(text, str) else repr(type(text))).encode("utf-8", "surrogatepass")
        mark.update(b"%d:" % len(data) + data)
        context = each.get("context") if isinstance(each, dict) else args.get("context")
        if context is not None:
            mark.update(json.dumps(context, sort_keys=True).encode())
    return mark.hexdigest()


def answer_as_known(call: Call, known: KnownCall, tell: Teller) -> None:
    """Gives a cell what its sub-call was given then; costs nothing."""
    if known.failure is None:
        call.reply(known.value)
    else:
        call.refuse(known.failure)
    came = {"value": known.value} if known.failure is None else {"error": known.failure}
    tell("call.started", call_id=known.id, op=known.op, count=0, asked=known.asked)
    tell("call.finished", call_id=known.id, ok=not known.failure, failed=0, usage=to_json(Usage()), **came)


class Recorded:
    """Answers sub-calls by what was recorded: for each question its answers, in the order in which they came."""

    def __init__(self, calls: Sequence[KnownCall], tell: Teller) -> None:
        self._tell = tell
        self._calls = KnownCalls(calls)

    def __call__(self, call: Call, known: KnownCall | None = None) -> None:
        """Takes one call; see `sandbox.calls.CallHandler`."""
        found = self._calls.take(digest(call.op, call.args))
        if found is None:
            call.fail(
                ScriptExhausted(
                    f"This {call.op} was not asked when the run was recorded.",
                    fix="Ask it in a cell of your own.",
                )
            )
            return
        answer_as_known(call, replace(found, id=new_id("exec"), op=call.op), self._tell)

    def remember(self, call: Call, known: KnownCall) -> None:
        """Nothing: no model is asked here."""


def earlier(past: Past, redone: Redone | None) -> str:
    """What the model is told of the run that its question follows."""
    lines = [
        f"This follows an earlier question: {neutralise(past.question, _MOST_SAID)}",
        f"Its answer was: {neutralise(past.answer, _MOST_SAID)}"
        if past.answer is not None
        else "It had no answer.",
    ]
    if redone is not None and redone.ran:
        lines.append("The interpreter holds the variables, and the sandbox the files, of that time.")
    if redone is not None and redone.left_out:
        lines.append(
            f"{redone.left_out} cells that a limit had ended were left out: what they set is missing."
        )
    if redone is not None and redone.other:
        lines.append(f"{redone.other} cells gave another output than then: look before you rely on them.")
    return "\n".join(lines)
