"""Where questions are worked on: a journal, a backend, a pool with a spare sandbox, and what the last runs left."""

from __future__ import annotations

import asyncio
import errno
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from terraphim_rlm.core.errors import DiskFull, InternalError, InvalidArgument, RlmError
from terraphim_rlm.core.events import EventLog, EventSink
from terraphim_rlm.core.ids import new_id
from terraphim_rlm.core.standing import Spent
from terraphim_rlm.core.values import Answer, Limits, Resources, to_json
from terraphim_rlm.engine.boxes import Boxes
from terraphim_rlm.engine.context import Context, make_context
from terraphim_rlm.engine.following import Past
from terraphim_rlm.engine.guards import Checks
from terraphim_rlm.engine.judged import Guard
from terraphim_rlm.engine.record import Record
from terraphim_rlm.engine.run import Run
from terraphim_rlm.engine.task import Route, Task
from terraphim_rlm.guard import judging
from terraphim_rlm.guard.judging import GuardMode
from terraphim_rlm.guard.settings import configured_guard
from terraphim_rlm.llm.client import ModelClient
from terraphim_rlm.sandbox.contract import Backend, SandboxSpec
from terraphim_rlm.sandbox.pool.config import PoolConfig
from terraphim_rlm.sandbox.pool.pool import Pool
from terraphim_rlm.sandbox.pool.pools import started
from terraphim_rlm.sandbox.sandbox import Sandbox
from terraphim_rlm.service.door import Door
from terraphim_rlm.service.following import followed
from terraphim_rlm.service.recall import How, Recall, kept_input
from terraphim_rlm.service.schemas import Schema, as_json_schema, check_wanted, checks_of
from terraphim_rlm.store.journal import Journal
from terraphim_rlm.store.leases import JournalLeases
from terraphim_rlm.store.shown import Shown

_SPARE = PoolConfig(min=1, target=1, max=4, wait_seconds=None, scale_up_at=None, refill_seconds=None)
"""One that is kept ready is asked for between questions, by `Pool.warm`; made at once it would slow down the very run
that its forerunner was taken for."""
_KEPT = 4
"""Runs whose sandbox and input stay, so that a further question can go on from them."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What all questions asked at one desk have in common."""

    model: ModelClient
    sub_model: ModelClient
    sandbox: str
    limits: Limits
    resources: Resources
    guard: Guard | GuardMode
    """One of the caller's, or how that of the safety rules acts."""
    route: Route
    packages: tuple[str, ...] = ()
    """Of each sandbox; normalised."""
    checks: Checks = field(default_factory=Checks)
    base_url: str | None = None
    """Of the models, kept for whoever takes a run up again."""
    speculate: bool = False
    """Whether what a reply will ask for is begun while it still streams."""


@dataclass(frozen=True, slots=True)
class Again:
    """How a recorded run is gone again."""

    how: How
    recall: Recall
    record: Record
    turn: int | None = None
    """Of a fork: the turn of the root that is asked anew, and all after it."""
    prompt: str | None = None
    """Of a fork: what its model is told then besides."""

    @property
    def spent(self) -> Spent:
        return self.recall.spent(self.record)


@dataclass(frozen=True, slots=True)
class Question:
    """One question, as a caller put it."""

    text: str
    context: Any = None
    schema: Schema | None = None
    follow: Answer | str | None = None
    """An answer of this desk, or the id of any run in the journal."""
    sinks: tuple[EventSink, ...] = ()
    again: Again | None = None
    """The run of the journal whose way is gone again, in place of a new one."""


class _Kept:
    """What a run leaves for one that follows it."""

    def __init__(self) -> None:
        self.sandbox: Sandbox | None = None
        self.context: Context | None = None
        self.inputs: tuple[str, ...] = ()
        """Absolute paths that the context was read from."""
        self.before: str | None = None
        """The run whose living sandbox is gone on with."""
        self.past: Past | None = None
        """A run of the journal whose steps come first."""

    async def close(self) -> None:
        try:
            if self.sandbox is not None:
                await self.sandbox.close()
        finally:
            if self.context is not None:
                self.context.close()


class Desk:
    """Enter it to work; leaving it ends every sandbox and closes the journal."""

    def __init__(self, settings: Settings, *, keeps_spare: bool) -> None:
        self._settings = settings
        self._keeps_spare = keeps_spare
        given = settings.guard
        self._own_guard = configured_guard(given) if isinstance(given, str) else None
        self._guard: Guard = self._own_guard or given  # type: ignore[assignment] # a name has made one
        self._stack = AsyncExitStack()
        self._backend: Backend | None = None
        self._backend_lock = asyncio.Lock()
        self._kept: dict[str, _Kept] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self.pool = Pool(self._new_sandbox, _SPARE)

    async def __aenter__(self) -> Self:
        self._journal = self._stack.enter_context(Journal())
        self._stack.push_async_callback(self._close_guard)
        self._stack.push_async_callback(self._close_backend)
        self._stack.push_async_callback(self.pool.close)
        self._stack.push_async_callback(self._close_kept)
        self._prepare()
        return self

    def _prepare(self) -> None:
        if self._keeps_spare and self._settings.route != "direct" and self.pool.is_open:
            self.pool.warm()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def ask(self, question: Question) -> Answer:
        """See `Rlm.ask`."""
        if not isinstance(question.text, str) or not question.text.strip():
            raise InvalidArgument("The question is empty.", fix="Ask something.")
        own, over_input = self._settings, question.context is not None or question.follow is not None
        over_input = over_input or question.again is not None
        check_wanted(as_json_schema(question.schema), own.model.info, own.route, over_input=over_input)
        kept = self._kept_of(question.follow) if isinstance(question.follow, Answer) else _Kept()
        try:
            if isinstance(question.follow, str):
                await _recall(question.follow, kept, reads_input=question.context is None)
            if question.again is not None and question.context is None:
                await _read_again(question.again.recall, kept)
            elif question.context is not None:
                old, kept.context = kept.context, await _made(question.context)
                kept.inputs = _paths_of(question.context)
                if old is not None:
                    old.close()
            with Shown(self._journal, question.sinks) as shown:
                answer = await self._worked(await self._run(question, kept, shown))
        except BaseException:
            await kept.close()
            raise
        finally:
            self._prepare()
        kept.before = answer.run_id
        kept.past = None  # its steps are taken; whatever follows here goes on from the sandbox
        self._keep(answer.run_id, kept)
        return answer

    async def _run(self, question: Question, kept: _Kept, shown: Shown) -> Run:
        again, sinks = question.again, list(question.sinks)
        task = self._task(question, kept)
        boxes = Boxes(partial(self._sandbox_of, kept), self.pool.take)
        if again is not None and again.how == "replay":
            return Run(task, EventLog(again.recall.id, sinks), boxes)  # nothing is written down
        leases = partial(JournalLeases, self._journal)
        if again is None or again.how == "fork":
            return Run(task, EventLog(new_id("run"), [shown]), boxes, leases)
        event = again.recall.claim(again.spent, task.model.info.name)
        await self._journal.claim(event)
        for sink in sinks:
            sink(event)
        log = EventLog(event.run, [shown], last=event.seq)
        return Run(task, log, boxes, leases, again.spent)

    def _task(self, question: Question, kept: _Kept) -> Task:
        own, again = self._settings, question.again
        made: dict[str, Any] = {
            **_guarded(self._guard),
            "sandbox": own.sandbox,
            "resources": to_json(own.resources),
            "packages": list(own.packages),
            "base_url": own.base_url,
            "continues": kept.before,
            "input": kept_input(kept.context, kept.inputs),
        }
        if again is not None:
            made["origin"] = {"run": again.recall.id, "turn": again.turn, "prompt": again.prompt}
        return Task(
            question.text,
            kept.context,
            own.model,
            own.sub_model,
            own.limits,
            self._guard,
            as_json_schema(question.schema),
            own.route,
            kept.past,
            again.record if again is not None else None,
            kept.inputs,
            checks_of(question.schema, own.checks),
            own.speculate,
            made,
        )

    async def _worked(self, run: Run) -> Answer:
        """A run between its durable intent and its durable end."""
        await self._journal.commit()
        try:
            async with Door(run.id, run.stop) as door:
                answer = await run.work()
                await self._journal.commit()
                door.ended()
        except RlmError as error:
            run.fail(error)
            await self._journal.commit()
            raise
        except OSError as error:
            run.fail(_of_system(error))
            raise _of_system(error) from error
        except Exception as error:
            run.fail(InternalError(f"{type(error).__name__}: {error}"))
            raise
        return answer

    def _kept_of(self, answer: Answer) -> _Kept:
        kept = self._kept.pop(answer.run_id, None)
        if kept is None:
            raise InvalidArgument(
                f"The run {answer.run_id} is not kept here any more.",
                fix=f"Enter the Rlm, and follow one of its last {_KEPT} answers, each once.",
            )
        return kept

    def _keep(self, run: str, kept: _Kept) -> None:
        """Keeps what a run left; the oldest goes, in the background, so that no answer waits for it."""
        self._kept[run] = kept
        while len(self._kept) > _KEPT:
            closing = asyncio.get_running_loop().create_task(self._kept.pop(next(iter(self._kept))).close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _close_kept(self) -> None:
        await asyncio.gather(*self._closing, *(kept.close() for kept in self._kept.values()))
        self._kept.clear()

    async def _sandbox_of(self, kept: _Kept) -> Sandbox:
        if kept.sandbox is None:
            kept.sandbox = await self.pool.take()
        return kept.sandbox

    async def _new_sandbox(self) -> Sandbox:
        from terraphim_rlm.sandbox.selection import choose

        if isinstance(self._guard, judging.Guard):
            self._guard.warm()
        async with self._backend_lock:
            if self._backend is None:
                self._backend = await choose(self._settings.sandbox)
        spec = SandboxSpec(self._settings.resources, packages=self._settings.packages)
        return await started(self._backend, spec)

    async def _close_guard(self) -> None:
        if self._own_guard is not None:
            await self._own_guard.close()

    async def _close_backend(self) -> None:
        if self._backend is not None:
            await self._backend.close()


async def _made(value: Any) -> Context:
    """The input, read in a thread. A thread cannot be stopped: what it makes for nobody is closed."""
    making = asyncio.ensure_future(asyncio.to_thread(make_context, value))
    try:
        return await asyncio.shield(making)
    except asyncio.CancelledError:
        making.add_done_callback(_close_made)
        raise


def _guarded(guard: Guard) -> dict[str, Any]:
    """What is kept of a guard for whoever takes a run up again."""
    if not isinstance(guard, judging.Guard):
        return {"guard": "block"}
    library = guard.library
    graph = None if library is None else str(library.path.absolute())
    return {"guard": guard.mode, "graph": graph, "strictness": guard.strictness}


def _paths_of(value: Any) -> tuple[str, ...]:
    """Where an input is read from, so that it can be read again; empty when it cannot."""
    paths = [value] if isinstance(value, Path) else value
    if not isinstance(paths, (list, tuple)) or not all(isinstance(path, Path) for path in paths):
        return ()
    return tuple(str(path.expanduser().absolute()) for path in paths)


async def _recall(run: str, kept: _Kept, *, reads_input: bool) -> None:
    """Takes a run of the journal up: what it did, and, unless another one is given, its input.

    Raises:
        RunNotFound, InvalidArgument: it cannot be followed, or its input is not what it was.
    """
    found = await asyncio.to_thread(followed, run)
    kept.past = found.past
    if not reads_input or not found.had_input:
        return
    if not found.paths:
        raise InvalidArgument(
            f"The input of {found.past.run} came from no file.", fix="Give the input again."
        )
    paths = list(found.paths)
    kept.context = await _made(paths if len(paths) > 1 else paths[0])
    kept.inputs = tuple(map(str, paths))
    found.check(kept.context)


async def _read_again(recalled: Recall, kept: _Kept) -> None:
    """Takes up the input of a recorded run, and the run that it followed.

    Raises:
        RunNotFound, InvalidArgument: it cannot be had, or is not what it was.
    """
    if (follows := recalled.text("follows")) is not None:
        kept.past = (await asyncio.to_thread(followed, follows)).past
    value = recalled.input()
    if value is None:
        return
    kept.context = await _made(value)
    kept.inputs = _paths_of(value)
    recalled.check(kept.context)


def _close_made(making: asyncio.Future[Context]) -> None:
    if not making.cancelled() and making.exception() is None:
        making.result().close()


def _of_system(error: OSError) -> RlmError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"The disk is full: {error}.")
    return InternalError(f"The system refused: {error}.")
