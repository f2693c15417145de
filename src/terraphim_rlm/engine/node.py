"""One node of a run: replies in, cells out, until there is an answer or a limit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from terraphim_rlm.core.errors import (
    BudgetExceeded,
    ModelRefused,
    ReplyInvalid,
    RlmError,
    SchemaMismatch,
)
from terraphim_rlm.core.ledger import Account
from terraphim_rlm.core.values import Confidence, Evidence, Termination, to_json
from terraphim_rlm.engine import prompts
from terraphim_rlm.engine.asker import Asker
from terraphim_rlm.engine.checks import check_schema, value_of
from terraphim_rlm.engine.context import Context
from terraphim_rlm.engine.hands import Done, Finish, Hands
from terraphim_rlm.engine.replies import ParsedReply, parse
from terraphim_rlm.engine.telling import Teller
from terraphim_rlm.llm.client import Message, ModelClient, ModelRequest

_MOST_SILENT = 3
"""Replies in a row without a command that end the run as stalled."""
_MOST_REPEATS = 3
"""The same code with the same output this often in a row ends the run as stalled."""
_MOST_CORRECTIONS = 2
"""Times that an answer which is not of the asked schema may be given again."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a node came to."""

    value: Any
    text: str
    termination: Termination
    partial: bool = False
    """A limit ended it, and this is the best there was."""
    spans: tuple[tuple[str, int, int], ...] = ()
    """Cited by the model's code; still to be checked."""
    evidence: tuple[Evidence, ...] = ()
    """Read and judged by the host already."""
    confidence: Confidence | None = None
    """The host's judgement; None = by whether the cited spans hold the answer."""
    error: RlmError | None = None
    """What ended it, when it is partial."""


@dataclass(frozen=True, slots=True)
class Brief:
    """What a node is to do."""

    question: str
    context: Context | None
    model: ModelClient
    schema: Mapping[str, Any] | None = None
    """JSON Schema of the answer's value; None = any."""


class Node:
    """A conversation with one model about one question, with an interpreter to work in."""

    def __init__(self, brief: Brief, account: Account, asker: Asker, hands: Hands, teller: Teller) -> None:
        self._question = brief.question
        self._context = brief.context
        self._model = brief.model
        self._schema = brief.schema
        self._account = account
        self._asker = asker
        self._hands = hands
        self._tell = teller
        self._messages: list[Message] = []
        self._silent = self._repeats = self._corrections = 0
        self._looked = brief.context is None
        self._last_step = ""
        self._said = ""

    async def run(self) -> Outcome:
        """Turns until the end.

        Raises:
            RlmError: a provider or the sandbox failed for good. Limits do not raise: they give a partial outcome.
        """
        self._tell("node.started", depth=self._account.depth, question=self._question)
        try:
            outcome = await self._turns()
        except BudgetExceeded as error:
            self._tell("error", **error.to_json())
            outcome = await self._partial(error)
        except ModelRefused as error:
            outcome = Outcome(None, error.message, "refused", partial=True, error=error)
        self._tell("node.finished", depth=self._account.depth, termination=outcome.termination)
        return outcome

    async def _turns(self) -> Outcome:
        self._messages = [Message("system", prompts.SYSTEM)]
        said = prompts.opening(self._question, self._context, self._hands.bounds)
        while True:
            turn = self._account.take_turn()
            header = prompts.turn_header(turn, self._hands.turns, self._question, self._hands.left())
            self._messages.append(Message("user", f"{said}\n\n{header}"))
            reply = await self._reply(turn)
            outcome, said = await self._act(turn, reply)
            if outcome is not None:
                return outcome

    async def _reply(self, turn: int) -> ParsedReply:
        self._tell("turn.request", turn=turn, messages=len(self._messages))
        request = ModelRequest(tuple(self._messages), purpose="turn", node=self._tell.node)
        reply = await self._asker.ask(self._model, self._account, request)
        self._tell(
            "turn.reply",
            turn=turn,
            text=reply.text,
            usage=to_json(reply.usage),
            finish_reason=reply.finish_reason,
        )
        if reply.finish_reason == "refusal":
            raise ModelRefused(f"The model refused: {reply.text[:500]}")
        parsed = parse(reply.text)
        self._tell("turn.parsed", turn=turn, **_parsed(parsed))
        self._messages.append(Message("assistant", parsed.transcript or "(empty reply)"))
        return parsed

    async def _act(self, turn: int, parsed: ParsedReply) -> tuple[Outcome | None, str]:
        """Does what a reply asks for; an outcome, or what the model is told next."""
        if not parsed.commands:
            return self._nothing(parsed)
        self._silent = 0
        done = await self._hands.do(turn, parsed.commands)
        self._looked = self._looked or done.ran
        if done.finish is not None:
            return await self._finish(done.finish, done)
        notes = [*done.observations, parsed.notice or ""]
        stalled = self._stalled(done)
        if stalled is not None:
            return stalled, ""
        if self._repeats:
            notes.append(prompts.REPEATED)
        return None, "\n\n".join(note for note in notes if note)

    def _nothing(self, parsed: ParsedReply) -> tuple[Outcome | None, str]:
        self._silent += 1
        self._said = parsed.transcript.strip()
        if self._silent >= _MOST_SILENT:
            error = ReplyInvalid(f"{self._silent} replies in a row held no command.")
            self._tell("error", **error.to_json())
            return Outcome(None, self._best(), "stalled", partial=True, error=error), ""
        return None, parsed.notice or prompts.NOTHING_TO_RUN

    def _stalled(self, done: Done) -> Outcome | None:
        """Ends a node that does the same thing over and over."""
        step = hashlib.sha256(
            "\0".join([*done.sources, *done.outputs]).encode("utf-8", "replace")
        ).hexdigest()
        self._repeats = self._repeats + 1 if step == self._last_step else 0
        self._last_step = step
        if self._repeats + 1 < _MOST_REPEATS:
            return None
        error = ReplyInvalid(f"The same code gave the same output {_MOST_REPEATS} times in a row.")
        return Outcome(None, self._best(), "stalled", partial=True, error=error)

    async def _finish(self, finish: Finish, done: Done) -> tuple[Outcome | None, str]:
        if not self._looked:
            self._looked = True  # asked once; the model may insist
            return None, prompts.LOOK_FIRST
        value = value_of(finish.text, self._schema) if finish.written else finish.value
        try:
            check_schema(value, self._schema)
        except SchemaMismatch as error:
            self._corrections += 1
            if self._corrections > _MOST_CORRECTIONS:
                raise
            return None, "\n\n".join(
                [*done.observations, f"The answer is not of the asked form: {error.message}"]
            )
        return Outcome(value, finish.text, finish.termination, spans=finish.spans), ""

    def _best(self) -> str:
        return self._hands.shown or self._said

    async def _partial(self, error: BudgetExceeded) -> Outcome:
        """The best there is when a limit ends the node: a drafted answer, else the last output."""
        draft = await self._hands.draft()
        return Outcome(
            draft.value if draft else None,
            draft.text if draft else self._best(),
            error.row.termination,  # type: ignore[arg-type]
            partial=True,
            spans=draft.spans if draft else (),
            error=error,
        )


def _parsed(parsed: ParsedReply) -> dict[str, Any]:
    return {
        "commands": [
            {"kind": command.kind, "start": command.start, "end": command.end} for command in parsed.commands
        ],
        "dropped": to_json(parsed.dropped),
        "notice": parsed.notice,
    }
