"""The use cases of a run that is there already: taken up where it broke off, replayed without a model, forked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn, cast

from terraphim_rlm.core.errors import InvalidArgument, RlmError, ScriptExhausted
from terraphim_rlm.core.events import Event, EventSink
from terraphim_rlm.core.values import SCHEMA_VERSION, Answer, Limits, to_json
from terraphim_rlm.engine.guards import Verify
from terraphim_rlm.engine.judged import Guard
from terraphim_rlm.guard.asking import Decider
from terraphim_rlm.guard.judging import GuardMode, check_mode
from terraphim_rlm.guard.settings import configured_guard
from terraphim_rlm.llm.client import ModelClient, ModelInfo, ModelReply, ModelRequest
from terraphim_rlm.llm.select import open_model
from terraphim_rlm.service.desk import Again, Desk, Question, Settings
from terraphim_rlm.service.recall import How, Recall, answer_of, recall
from terraphim_rlm.store.journal import Journal

if TYPE_CHECKING:
    from terraphim_rlm.guard.kg.vocabulary import Strictness


@dataclass(frozen=True, slots=True)
class AgainRequest:
    """A run to go on with, and what is to be another."""

    run: str
    """Its id, or a beginning of it."""
    model: str | None = None
    """`provider/model`; None = the run's own."""
    sub_model: str | None = None
    base_url: str | None = None
    limits: Limits | None = None
    """None = the run's own. What a run that is taken up had spent counts."""
    turn: int | None = None
    """Of a fork: the turn of the root that is asked anew; None = the last one."""
    prompt: str | None = None
    """Of a fork: what its model is told then besides."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a replay came to something else than was recorded."""

    node: str
    execution_id: str
    why: str


@dataclass(frozen=True, slots=True)
class Replay:
    """How a replay went."""

    run: str
    same: bool
    """Whether all that was done again came to what was recorded."""
    whole: bool
    """False where the record ends before the run's own end."""
    turns: int
    cells: int
    calls: int
    """Sub-calls answered from the record."""
    differences: tuple[Difference, ...]
    answer: Answer | None
    error: str | None = None
    """What ended it, when there is no answer."""

    def to_json(self) -> dict[str, Any]:
        return {"schema_version": SCHEMA_VERSION, **to_json(self)}


class UnaskedModel:
    """In the place of a model whose replies are on record: it may not be asked."""

    def __init__(self, info: ModelInfo) -> None:
        self.info = info

    async def complete(self, request: ModelRequest) -> ModelReply:
        self._refuse()

    def complete_nowait(self, request: ModelRequest) -> ModelReply | None:
        self._refuse()

    async def stream(self, request: ModelRequest) -> AsyncIterator[str | ModelReply]:
        self._refuse()
        yield ""

    async def aclose(self) -> None:
        """Nothing is held open."""

    def _refuse(self) -> NoReturn:
        raise ScriptExhausted("A replay asks no model, and this is not in the record.")


async def resume(
    request: AgainRequest, *, sinks: Sequence[EventSink] = (), decide: Decider | None = None
) -> Answer:
    """Takes a run up where it broke off. What was settled is not asked again.

    Raises:
        RunNotFound, InvalidArgument: there is none; it still runs; it has its answer.
        RlmError: as `ask`.
    """
    await _orphans_ended()
    found = await asyncio.to_thread(_to_resume, request.run)
    return await _worked(found, "resume", request, sinks, decide)


async def fork(
    request: AgainRequest, *, sinks: Sequence[EventSink] = (), decide: Decider | None = None
) -> Answer:
    """Tries again from a turn of the root, as a new run that names its origin.

    Raises:
        RunNotFound, InvalidArgument: there is none; it has no such turn.
        RlmError: as `ask`.
    """
    found, turn = await asyncio.to_thread(_to_fork, request.run, request.turn)
    return await _worked(found, "fork", replace(request, turn=turn), sinks, decide)


async def replay(run: str, *, sinks: Sequence[EventSink] = ()) -> Replay:
    """Does a run again from its record alone. Nothing is written down, and no model asked.

    Raises:
        RunNotFound, InvalidArgument: there is none; it still runs; its input has changed.
        RlmError: the sandbox failed.
    """
    found = await asyncio.to_thread(_ended, run)
    seen = _Seen()
    models = [UnaskedModel(info) for info in found.models]
    request = AgainRequest(
        run, limits=replace(found.limits, tokens=None, seconds=None, calls=None, dollars=None)
    )
    settings = _settings(found, models[0], models[1], request, "off", None)
    answer, error = None, None
    try:
        answer = await _asked(found, settings, "replay", request, [seen, *sinks])
    except RlmError as raised:
        if not seen.began:
            raise
        error = raised
    return seen.result(found, answer, error)


async def again(
    how: How,
    request: AgainRequest,
    models: tuple[ModelClient, ModelClient],
    guard: Guard | GuardMode,
    verify: Verify | None,
    sinks: Sequence[EventSink],
) -> Answer:
    """`resume` and `fork` with models that are open, as `Rlm` has them."""
    if how == "resume":
        await _orphans_ended()
        found = await asyncio.to_thread(_to_resume, request.run)
    else:
        found, turn = await asyncio.to_thread(_to_fork, request.run, request.turn)
        request = replace(request, turn=turn)
    return await _asked(found, _settings(found, *models, request, guard, verify), how, request, sinks)


async def _worked(
    found: Recall, how: How, request: AgainRequest, sinks: Sequence[EventSink], decide: Decider | None
) -> Answer:
    """With the run's own guard. What is on record is not judged again."""
    guard = configured_guard(
        guard_mode(found),
        graph=found.text("graph"),
        strictness=cast("Strictness | None", found.text("strictness")),
        ask=decide,
    )
    try:
        async with _models(found, request) as (model, sub_model):
            settings = _settings(found, model, sub_model, request, guard, None)
            return await _asked(found, settings, how, request, sinks)
    finally:
        await guard.close()


def guard_mode(found: Recall) -> GuardMode:
    """The run's own; where the record names none, its code is held to the rules.

    Raises:
        InvalidArgument: it names what is no mode.
    """
    return check_mode(found.text("guard") or "block")


async def _asked(
    found: Recall, settings: Settings, how: How, request: AgainRequest, sinks: Sequence[EventSink]
) -> Answer:
    record = found.record(how, request.turn, request.prompt)
    way = Again(how, found, record, request.turn, request.prompt)
    schema = found.begun.get("schema")
    question = Question(
        str(found.begun.get("question")),
        schema=schema if isinstance(schema, dict) else None,
        sinks=tuple(sinks),
        again=way,
    )
    async with Desk(settings, keeps_spare=False) as desk:
        return await desk.ask(question)


def _settings(
    found: Recall,
    model: ModelClient,
    sub_model: ModelClient,
    request: AgainRequest,
    guard: Guard | GuardMode,
    verify: Verify | None,
) -> Settings:
    return Settings(
        model,
        sub_model,
        found.text("sandbox") or "auto",
        request.limits or found.limits,
        found.resources,
        guard,
        found.route,
        found.packages,
        replace(found.checks, verify=verify),
        request.base_url or found.text("base_url"),
    )


@asynccontextmanager
async def _models(found: Recall, request: AgainRequest) -> AsyncIterator[tuple[ModelClient, ModelClient]]:
    """The run's models, or those in their place; closed afterwards."""
    before, sub_before = found.text("model"), found.text("sub_model")
    base_url = request.base_url or found.text("base_url")
    named = request.model or before
    sub_named = request.sub_model or (sub_before if sub_before != before else named)
    model = open_model(named, base_url=base_url)
    sub_model = model
    try:
        if sub_named != named:
            sub_model = open_model(sub_named, base_url=base_url)
        yield model, sub_model
    finally:
        await model.aclose()
        if sub_model is not model:
            await sub_model.aclose()


async def _orphans_ended() -> None:
    """A run whose process died is ended by whoever opens the journal to write."""
    await asyncio.to_thread(_open_and_close)


def _open_and_close() -> None:
    with Journal() as journal:
        journal.open()


def _ended(run: str) -> Recall:
    found = recall(run)
    if found.summary.status in ("accepted", "running"):
        raise InvalidArgument(
            f"{found.id} still runs.",
            fix=f"Follow it: `trlm runs watch {found.id}`; or end it: `trlm runs cancel {found.id}`.",
            run=found.id,
        )
    if (before := found.text("continues")) is not None:
        raise InvalidArgument(
            f"{found.id} went on in the sandbox that {before} had left, and that is gone.",
            fix=f"Ask again, following that run: `trlm ask QUESTION --follow {before}`.",
            run=found.id,
        )
    return found


def _to_resume(run: str) -> Recall:
    found = _ended(run)
    if found.summary.status == "done":
        raise InvalidArgument(
            f"{found.id} has its answer ({found.summary.termination}); there is nothing to take up.",
            fix=f"Try again from one of its turns: `trlm runs fork {found.id} --turn N`.",
            run=found.id,
        )
    return found


def _to_fork(run: str, turn: int | None) -> tuple[Recall, int]:
    found = _ended(run)
    most = max(found.turns, 1)
    if turn is not None and not 1 <= turn <= most + 1:
        raise InvalidArgument(
            f"{found.id} has {most} turns, so it cannot be forked at turn {turn}.",
            fix=f"Name one of 1 to {most}.",
            name="turn",
        )
    return found, turn or most


class _Seen:
    """What a replay told, counted."""

    def __init__(self) -> None:
        self.began = False
        self._turns = self._cells = self._calls = 0
        self._differences: list[Difference] = []

    def __call__(self, event: Event) -> None:
        self.began = True
        self._turns += event.type == "turn.reply"
        self._cells += event.type == "cell.finished"
        self._calls += event.type == "call.finished"
        if event.type == "cell.differs":
            self._differences.append(
                Difference(event.node, str(event.data.get("execution_id")), str(event.data.get("why")))
            )

    def result(self, found: Recall, answer: Answer | None, error: RlmError | None) -> Replay:
        before = next(
            (answer_of(each["data"]) for each in reversed(found.events) if each["type"] == "answer"), None
        )
        whole = not isinstance(error, ScriptExhausted)
        differences = list(self._differences)
        if answer is not None and before is not None:
            differences += _answers_differ(before, answer)
        return Replay(
            found.id,
            not differences,
            whole,
            self._turns,
            self._cells,
            self._calls,
            tuple(differences),
            None if answer is None else replace(answer, run_id=found.id),
            None if error is None else error.message,
        )


def _answers_differ(before: Answer, now: Answer) -> list[Difference]:
    """In what two answers differ, but for what they cost."""
    names = ("text", "value", "confidence", "evidence", "termination", "partial")
    return [
        Difference("", "answer", f"{name} is {getattr(now, name)!r:.200}, not {getattr(before, name)!r:.200}")
        for name in names
        if to_json(getattr(before, name)) != to_json(getattr(now, name))
    ]
