"""A cell that is on record, done again: its sub-calls get what they got then, and what comes of it is compared."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from terraphim_rlm.core.errors import ScriptExhausted
from terraphim_rlm.core.values import ExecutionResult
from terraphim_rlm.engine.following import answer_as_known, digest
from terraphim_rlm.engine.record import KnownCall, KnownCalls, KnownCell
from terraphim_rlm.engine.telling import Teller
from terraphim_rlm.sandbox.link.calls import Call, CallHandler

DIFFERS = (
    "(The host ran this code again to bring back its variables and files, and it came to something else than is shown "
    "here: {why}. Look before you rely on what it set.)"
)
_MOST_SHOWN = 200


class Answering(Protocol):
    """Answers a sub-call, or goes on with one that was not settled."""

    def __call__(self, call: Call, known: KnownCall | None = None) -> None: ...

    def remember(self, call: Call, known: KnownCall) -> None:
        """Takes note of what a sub-call was answered from the record."""
        ...


class Redo:
    """One cell; with no record of it, it is done as any other."""

    def __init__(self, tell: Teller, number: str, known: KnownCell | None, handler: Answering) -> None:
        self._known = known
        self._number = number
        self._loud = tell
        self._strange = ""
        self.tell = tell.told(known is not None and known.result is not None)
        self._handler = handler
        self.handler: CallHandler = handler
        if known is not None:
            self._calls = KnownCalls(known.calls)
            self.handler = self._take

    @property
    def recorded(self) -> ExecutionResult | None:
        """How it ended when it was run before; None when it is new."""
        return self._known.result if self._known is not None else None

    @property
    def left_out(self) -> ExecutionResult | None:
        """How it ended, when it is not run again, since a limit would only end it again."""
        known = self._known
        return known.result if known is not None and known.is_left_out else None

    def compared(self, result: ExecutionResult) -> tuple[ExecutionResult, list[str]]:
        """What is shown of the cell, and what else its model has to know."""
        known = self._known
        if known is None or known.result is None:
            return result, []
        before = known.result
        why = self._strange or _difference(before, result)
        if known.is_left_out and before.status != "blocked":  # of which nothing had run
            why = f"it ended by {before.status} and was left out"
        if known.reached and not why:
            why = f"it reached {', '.join(sorted(known.reached))[:_MOST_SHOWN]} once more"
        shown = replace(before, stdout_bytes=before.stdout.encode("utf-8", "surrogatepass"))
        if not why:
            return shown, []
        self._loud("cell.differs", execution_id=self._number, why=why)
        return shown, [DIFFERS.format(why=why)] if not known.is_left_out else []

    def _take(self, call: Call) -> None:
        """Answers a sub-call from the record; one that is not there is a new one."""
        known = self._calls.take(digest(call.op, call.args))
        strict = self._loud.known.strict
        if known is None:
            self._strange = self._strange or f"it asked {call.op} what it had not asked then"
            if strict:
                call.fail(ScriptExhausted(f"This {call.op} was not asked when the run was recorded."))
                return
        elif known.settled and not (strict and known.nodes):
            answer_as_known(call, known, self._loud.told(True))
            self._handler.remember(call, known)
            return
        elif strict and not known.nodes:
            call.fail(ScriptExhausted(f"The record ends before this {call.op} was answered."))
            return
        self._handler(call, replace(known, items={}) if strict and known is not None else known)


def _difference(before: ExecutionResult, now: ExecutionResult) -> str:
    """In what two endings of one cell differ, in words; empty when they are the same."""
    if before.status != now.status:
        return f"it ended as {now.status}, not {before.status}"
    if _plain(before.stdout) != _plain(now.stdout):
        return f"it printed {_plain(now.stdout)[:_MOST_SHOWN]!r}, not {_plain(before.stdout)[:_MOST_SHOWN]!r}"
    one, other = before.error, now.error
    if (one and (one.type, one.message)) != (other and (other.type, other.message)):
        return f"it raised {other and other.type}, not {one and one.type}"
    return ""


def _plain(text: str) -> str:
    """Without what the journal cannot hold."""
    return text.encode("utf-8", "replace").decode()
