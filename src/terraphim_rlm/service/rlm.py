"""`Rlm`: questions over inputs of any size, from Python. Every run is journaled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Any, Self

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.core.events import Event, EventSink
from terraphim_rlm.core.values import Answer, Limits, Resources
from terraphim_rlm.engine.guards import Checks
from terraphim_rlm.engine.judged import Guard
from terraphim_rlm.engine.task import Route
from terraphim_rlm.guard.judging import GuardMode, check_mode
from terraphim_rlm.llm.client import ModelClient
from terraphim_rlm.llm.select import open_model
from terraphim_rlm.sandbox.packages.requirements import normalised
from terraphim_rlm.service.again import AgainRequest, Replay, again, replay
from terraphim_rlm.service.desk import Desk, Question, Settings
from terraphim_rlm.service.recall import How
from terraphim_rlm.service.schemas import Schema


class Rlm:
    """Asks a model questions about inputs of any size.

    Enter it (`async with`) to keep one sandbox ready between questions; un-entered, each `ask` opens and closes
    its own.

    Args:
        model: the one that leads; a `ModelClient`, or a name such as `ollama/llama3.2:3b`.
        sub_model: answers sub-calls; the same when None.
        sandbox: name of the backend, or `auto`.
        limits: of each run.
        resources: of each sandbox.
        guard: judges code before it runs. `block` (also None), `warn` or `off` say how the safety rules act; or a guard of
            your own, which you close.
        packages: Python packages of each sandbox, such as `numpy==2.*`; see `open_sandbox`.
        route: `auto` sends small inputs to the model whole; `loop` always works by code.
        checks: what an answer is asked before it counts; None = all but a `verify` of your own.
        speculate: while a reply streams, judge its finished blocks and begin the model calls that they will make. What
            is begun for nothing is paid for, and counted by the event `speculation.finished`.
    """

    def __init__(  # noqa: PLR0913 - what all questions of one Rlm share, by name
        self,
        model: ModelClient | str,
        *,
        sub_model: ModelClient | str | None = None,
        sandbox: str = "auto",
        limits: Limits | None = None,
        resources: Resources | None = None,
        packages: Sequence[str] = (),
        guard: Guard | GuardMode | None = None,
        route: Route = "auto",
        checks: Checks | None = None,
        speculate: bool = False,
    ) -> None:
        self._owned: list[ModelClient] = []
        lead = self._opened(model)
        self._settings = Settings(
            model=lead,
            sub_model=lead if sub_model is None else self._opened(sub_model),
            sandbox=sandbox,
            limits=limits or Limits(),
            resources=resources or Resources(),
            guard=check_mode(guard or "block") if guard is None or isinstance(guard, str) else guard,
            route=route,
            packages=normalised(packages),
            checks=checks or Checks(),
            speculate=speculate,
        )
        self._desk: Desk | None = None

    def _opened(self, model: ModelClient | str) -> ModelClient:
        """A client; one that is opened here, by name, is closed here."""
        if not isinstance(model, str):
            return model
        client = open_model(model)
        self._owned.append(client)
        return client

    async def __aenter__(self) -> Self:
        if self._desk is not None:
            raise InvalidArgument("This Rlm is entered already.", fix="Make another one.")
        self._desk = await Desk(self._settings, keeps_spare=True).__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        desk, self._desk = self._desk, None
        assert desk is not None
        try:
            await desk.__aexit__(kind, error, trace)
        finally:
            await self._close_models()

    async def _close_models(self) -> None:
        """Those that were opened here; one that is asked again opens again."""
        for client in self._owned:
            await client.aclose()

    async def ask(
        self,
        question: str,
        context: Any = None,
        *,
        schema: Schema | None = None,
        follow: Answer | str | None = None,
        sinks: tuple[EventSink, ...] = (),
    ) -> Answer:
        """Answers one question.

        Args:
            context: text, bytes, a JSON value, a `pathlib.Path` (file, folder, glob) or a list of paths.
            schema: JSON Schema that the answer's value must fit, or a pydantic model that must validate it.
            follow: an answer of this entered `Rlm` to go on from: same input, same variables. Or the id of any run in
                the journal: its files are read again, and its cells done again with the answers that they had.
            sinks: get each event of the run as it happens.

        Raises:
            RlmError: a provider, the sandbox or the input failed. Limits do not raise: they give a partial answer.
        """
        asked = Question(question, context, schema, follow, sinks)
        if self._desk is not None:
            return await self._desk.ask(asked)
        try:
            async with Desk(self._settings, keeps_spare=False) as desk:
                return await desk.ask(asked)
        finally:
            await self._close_models()

    async def resume(
        self, run: str, *, limits: Limits | None = None, sinks: tuple[EventSink, ...] = ()
    ) -> Answer:
        """Takes up a run of the journal that broke off, with this `Rlm`'s models, guard and `verify`.

        Its cells are run again for their state; replies and sub-calls that were settled are not asked again.

        Args:
            run: its id, or a beginning of it.
            limits: None = the run's own. What it had spent counts.

        Raises:
            RunNotFound, InvalidArgument: there is none; it still runs; it has its answer; its input has changed.
            RlmError: as `ask`.
        """
        return await self._again("resume", AgainRequest(run, limits=limits), sinks)

    async def fork(
        self,
        run: str,
        *,
        turn: int | None = None,
        prompt: str | None = None,
        limits: Limits | None = None,
        sinks: tuple[EventSink, ...] = (),
    ) -> Answer:
        """Tries a run of the journal again from one of its turns, as a new run, with this `Rlm`'s models.

        Args:
            turn: of the root, from 1, that is asked anew; None = the last one.
            prompt: what the model is told in that turn besides.

        Raises:
            RunNotFound, InvalidArgument: there is none, or it has no such turn; its input has changed.
            RlmError: as `ask`.
        """
        return await self._again("fork", AgainRequest(run, limits=limits, turn=turn, prompt=prompt), sinks)

    async def replay(self, run: str, *, sinks: tuple[EventSink, ...] = ()) -> Replay:
        """Does a run again from its record alone, and says where that came to something else. Asks no model."""
        return await replay(run, sinks=sinks)

    async def _again(self, how: How, request: AgainRequest, sinks: tuple[EventSink, ...]) -> Answer:
        own = self._settings
        try:
            models = own.model, own.sub_model
            return await again(how, request, models, own.guard, own.checks.verify, sinks)
        finally:
            if self._desk is None:
                await self._close_models()

    async def wait_ready(self) -> None:
        """Returns when the spare sandbox of an entered `Rlm` is ready."""
        if self._desk is not None:
            await self._desk.pool.wait_ready()

    async def stream(self, question: str, context: Any = None, **options: Any) -> AsyncIterator[Event]:
        """`ask`, as the events of the run; `answer` and `run.finished` come last."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        task = asyncio.ensure_future(self.ask(question, context, sinks=(queue.put_nowait,), **options))
        task.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while (event := await queue.get()) is not None:
                yield event
            await task
        finally:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # seen: whoever left early does not want it


class RlmSync:
    """`Rlm` for code without an event loop. Use it as a context manager."""

    def __init__(self, model: ModelClient | str, **options: Any) -> None:
        self._rlm = Rlm(model, **options)
        self._portal: Any = None

    def __enter__(self) -> Self:
        from anyio.from_thread import start_blocking_portal

        self._manager = start_blocking_portal("asyncio")
        self._portal = self._manager.__enter__()
        self._entered = self._portal.wrap_async_context_manager(self._rlm)
        self._entered.__enter__()
        return self

    def ask(self, question: str, context: Any = None, **options: Any) -> Answer:
        """See `Rlm.ask`."""
        if self._portal is None:
            raise InvalidArgument(
                "This RlmSync is not entered.", fix="Ask within `with RlmSync(..) as rlm:`."
            )
        answer: Answer = self._portal.call(lambda: self._rlm.ask(question, context, **options))
        return answer

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._entered.__exit__(kind, error, trace)
        finally:
            self._manager.__exit__(kind, error, trace)
