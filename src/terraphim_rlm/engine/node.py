"""One node of a run: replies in, cells out, until there is an answer or a limit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from terraphim_rlm.core.errors import (
    BudgetExceeded,
    ModelRefused,
    PromptTooLong,
    ReplyInvalid,
    RlmError,
    SchemaMismatch,
)
from terraphim_rlm.core.ledger import Account
from terraphim_rlm.core.values import Confidence, Evidence, Termination, to_json
from terraphim_rlm.engine import prompts
from terraphim_rlm.engine.asker import Asker, prompt_room
from terraphim_rlm.engine.checks import check_schema, evidence, supports, value_of
from terraphim_rlm.engine.context import Context
from terraphim_rlm.engine.guards import Checks, Guards, Proposal
from terraphim_rlm.engine.hands import Done, Finish, Hands
from terraphim_rlm.engine.prompts import Opening
from terraphim_rlm.engine.reading import same
from terraphim_rlm.engine.replies import ParsedReply, parse, parse_cut
from terraphim_rlm.engine.telling import Teller
from terraphim_rlm.engine.transcript import Transcript
from terraphim_rlm.llm.client import ModelClient, ModelReply, ModelRequest
from terraphim_rlm.llm.profiles import PROFILES

EMPTY = "(empty reply)"
"""Stands in a transcript for a reply of which nothing is kept."""
_MOST_SILENT = 3
"""Replies in a row without a command that end the run as stalled."""
_MOST_CORRECTIONS = 2
"""Times that an answer which is not of the asked schema, or not accepted by the caller, may be given again."""


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
    checks: Checks = field(default_factory=Checks)
    past: str = ""
    """What the model is told of the run that this one follows."""
    birth: Mapping[str, Any] = field(default_factory=dict)
    """What else is told of a child's beginning."""


class Node:
    """A conversation with one model about one question, with an interpreter to work in."""

    def __init__(self, brief: Brief, account: Account, asker: Asker, hands: Hands, teller: Teller) -> None:
        self._brief = brief
        self._account = account
        self._asker = asker
        self._hands = hands
        self._tell = teller
        self._guards = Guards(brief.checks, has_input=brief.context is not None)
        self._transcript = Transcript(prompts.system(PROFILES[brief.model.info.profile]))
        self._opening = prompts.opening(
            Opening(brief.question, brief.context, hands.bounds, brief.schema, hands.showing.mark, brief.past)
        )
        self._speculation = hands.speculation() if asker.speculates else None
        self._silent = self._corrections = 0
        self._said = ""

    async def run(self) -> Outcome:
        """Turns until the end.

        Raises:
            RlmError: a provider or the sandbox failed for good. Limits do not raise: they give a partial outcome.
        """
        known = self._tell.known
        self._tell.told(known.began)(
            "node.started", **self._brief.birth, depth=self._account.depth, question=self._brief.question
        )
        try:
            outcome = await self._turns()
        except BudgetExceeded as error:
            self._tell("error", **error.to_json())
            outcome = await self.partial(error)
        except ModelRefused as error:
            outcome = Outcome(None, error.message, "refused", partial=True, error=error)
        self._tell.told(known.ended)(
            "node.finished", depth=self._account.depth, termination=outcome.termination
        )
        return outcome

    async def _turns(self) -> Outcome:
        said = self._opening
        while True:
            turn = self._account.take_turn()
            header = prompts.turn_header(turn, self._brief.question, self._account)
            said = f"{said}\n\n{header}{self._tell.known.notes.get(turn, '')}"
            try:
                reply = await self._reply(turn, said)
                outcome, said = await self._act(turn, reply)
            finally:
                if self._speculation is not None:
                    await self._speculation.end(turn)
            if outcome is not None:
                return outcome

    async def _reply(self, turn: int, said: str) -> ParsedReply:
        known = self._tell.known.reply(turn)
        tell = self._tell.told(known is not None)
        reply = await self._asked(turn, said, known)
        tell(
            "turn.reply",
            turn=turn,
            text=reply.text,
            usage=to_json(reply.usage),
            finish_reason=reply.finish_reason,
        )
        if reply.finish_reason == "refusal":
            raise ModelRefused(f"The model refused: {reply.text[:500]}")
        parsed = parse_cut(reply.text) if reply.finish_reason == "length" else parse(reply.text)
        tell("turn.parsed", turn=turn, **_parsed(parsed, reply.text))
        self._transcript.heard(parsed.transcript or EMPTY)
        return parsed

    async def _asked(self, turn: int, said: str, known: ModelReply | None) -> ModelReply:
        """The reply to the next message. Where the window has no room for it, the transcript is compacted, once."""
        model, transcript = self._brief.model, self._transcript
        before = transcript.compactions
        full = transcript.is_full(prompt_room(model), said)
        if turn in self._tell.known.compacted if known is not None else full:
            await self._compact(said)
        else:
            transcript.tell(said)
        while True:
            self._tell.told(known is not None)(
                "turn.request",
                turn=turn,
                messages=len(transcript.messages),
                tokens_estimate=transcript.tokens,
                compacted=transcript.compactions > before,
                told=transcript.messages[-1].content,
                **({"system": transcript.messages[0].content} if turn == 1 else {}),
            )
            if known is not None:
                return known
            request = ModelRequest(transcript.messages, purpose="turn", node=self._tell.node)
            try:
                return await self._listened(model, request)
            except PromptTooLong:
                if transcript.compactions > before or turn == 1:
                    raise
                await self._compact(said)

    async def _listened(self, model: ModelClient, request: ModelRequest) -> ModelReply:
        """The reply; where the run speculates, what it will ask for is begun while it comes."""
        ahead = self._speculation
        if ahead is None:
            return await self._asker.ask(model, self._account, request)
        ahead.begin()
        reply = await self._asker.ask(model, self._account, request, ahead.heard)
        await ahead.ready()
        return reply

    async def _compact(self, said: str) -> None:
        self._transcript.compact(self._opening, await self._hands.variables(), said)

    async def _act(self, turn: int, parsed: ParsedReply) -> tuple[Outcome | None, str]:
        """Does what a reply asks for; an outcome, or what the model is told next."""
        if not parsed.commands:
            return self._nothing(parsed)
        self._silent = 0
        done = await self._hands.do(turn, parsed.commands)
        self._guards.saw(done.sources)
        if done.finish is not None:
            return await self._finish(done.finish, done)
        notes = [*done.observations, parsed.notice or ""]
        repeated = self._guards.repeated(_step(done))
        if self._guards.is_stalled(repeated):
            error = ReplyInvalid(f"The same code gave the same output {repeated} times in a row.")
            return await self._stalled(error), ""
        if repeated > 1:
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

    async def _stalled(self, error: ReplyInvalid) -> Outcome:
        self._tell("error", **error.to_json())
        draft = await self._hands.draft()
        if draft is not None:
            return Outcome(draft.value, draft.text, "stalled", partial=True, spans=draft.spans, error=error)
        return Outcome(None, self._best(), "stalled", partial=True, error=error)

    async def _finish(self, finish: Finish, done: Done) -> tuple[Outcome | None, str]:
        """The answer, when nothing is said against it; else what is."""
        value = value_of(finish.text, self._brief.schema) if finish.written else finish.value
        found = evidence(self._brief.context, finish.spans)
        cells = done.sources
        asked = self._guards.objection(
            code=cells[-1] if cells and not finish.worded else None,
            before=cells[:-1],
            printed=done.printed,
            supported=supports(finish.text, found),
        )
        if asked is not None:
            return None, "\n\n".join([*done.observations, asked])
        proposal = Proposal(self._brief.question, value, finish.text, found)
        objection = await self._objection(proposal, finish.termination)
        if objection is None:
            return Outcome(value, finish.text, finish.termination, spans=finish.spans), ""
        self._corrections += 1
        if self._corrections <= _MOST_CORRECTIONS:
            return None, "\n\n".join([*done.observations, objection.message])
        if isinstance(objection, SchemaMismatch):
            raise objection
        return Outcome(value, finish.text, "stalled", partial=True, spans=finish.spans, error=objection), ""

    async def _objection(self, proposal: Proposal, termination: Termination) -> RlmError | None:
        """What speaks against an answer: its form, then the caller's own check. That there is none has no form."""
        if termination != "not_found":
            try:
                check_schema(proposal.value, self._brief.schema)
            except SchemaMismatch as error:
                return SchemaMismatch(f"The answer is not of the asked form: {error.message}", fix=error.fix)
        said = await self._guards.verified(proposal)
        return None if said is None else ReplyInvalid(f"The answer is not accepted: {said}")

    def _best(self) -> str:
        return self._hands.shown or self._said

    async def partial(self, error: RlmError) -> Outcome:
        """The best there is when a limit, or whoever stops it, ends the node: a drafted answer, else the last output."""
        draft = await self._hands.draft()
        return self.partly(error, draft)

    def partly(self, error: RlmError, draft: Finish | None = None) -> Outcome:
        """The same without asking the interpreter."""
        return Outcome(
            draft.value if draft else None,
            draft.text if draft else self._best(),
            error.row.termination,  # type: ignore[arg-type]
            partial=True,
            spans=draft.spans if draft else (),
            error=error,
        )


def _step(done: Done) -> str:
    """What a reply did, and what came of it, as one word to compare."""
    parts = [*map(same, done.sources), *done.outputs]
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()


def _parsed(parsed: ParsedReply, said: str) -> dict[str, Any]:
    kept = parsed.transcript or EMPTY
    return {
        **({"kept": kept} if kept != said else {}),
        "commands": [
            {"kind": command.kind, "start": command.start, "end": command.end} for command in parsed.commands
        ],
        "dropped": to_json(parsed.dropped),
        "notice": parsed.notice,
    }
