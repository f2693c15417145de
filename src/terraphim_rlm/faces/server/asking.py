"""`/api/runs`: questions asked, followed, stopped, and what they came to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from terraphim_rlm.core.errors import Forbidden, InvalidArgument, RlmError
from terraphim_rlm.core.values import Answer, Limits, RunStatus, to_json
from terraphim_rlm.faces.server.models import Body, Path
from terraphim_rlm.faces.server.problems import Json, dumps
from terraphim_rlm.faces.server.waiting import until_gone
from terraphim_rlm.service import runs
from terraphim_rlm.service.ask import AskRequest
from terraphim_rlm.service.running import LiveRun, Running

router = APIRouter()
EVENTS = "text/event-stream"
_DEFAULT = Limits()
_PING_SECONDS = 15.0
"""Without an event, a line that says nothing keeps proxies from hanging up."""
_OF_THE_HOST = ("scripted:", "manual:")
"""Models that are files of this machine."""


def running(request: Request) -> Running:
    found: Running = request.app.state.running
    return found


Runs = Annotated[Running, Depends(running)]
After = Annotated[int, Query(ge=0, le=2**53)]
Limit = Annotated[int, Query(ge=1, le=runs.MAX_LISTED)]
Whole = Annotated[int, Field(ge=-(2**53), le=2**53)]
"""That JSON carries exactly; what it must be besides, `Limits` says."""


class LimitsBody(Body):
    """By the names and defaults of `Limits`; null = no limit of that kind."""

    tokens: Whole | None = _DEFAULT.tokens
    seconds: float | None = _DEFAULT.seconds
    turns: Whole | None = _DEFAULT.turns
    depth: Whole = _DEFAULT.depth
    calls: Whole | None = _DEFAULT.calls
    dollars: float | None = _DEFAULT.dollars


class ContextBody(Body):
    """The input: one of the two."""

    text: str | None = None
    paths: Annotated[list[Path], Field(min_length=1, max_length=1000)] | None = None
    """Files and folders of the daemon's machine, absolute; only over its Unix socket."""


class RunBody(Body):
    """A question to be worked on."""

    question: Annotated[str, Field(min_length=1, max_length=100_000)]
    context: ContextBody | None = None
    model: Path | None = None
    """`provider/model`; null = what the daemon was started with."""
    sub_model: Path | None = None
    limits: LimitsBody = LimitsBody()
    answer_schema: dict[str, Any] | None = None
    """JSON Schema that the answer's value must fit."""


@router.get("/api/runs", response_class=Response)
async def list_runs(status: RunStatus | None = None, limit: Limit = 20) -> Response:
    """The latest runs, newest first."""
    return Json(runs.runs_to_json(await asyncio.to_thread(runs.list_runs, limit, status)))


@router.post(
    "/api/runs", response_class=Response, status_code=202, responses={202: {"content": {EVENTS: {}}}}
)
async def ask(body: RunBody, work: Runs, request: Request, wait: bool = False) -> Response:
    """Begins a run, durably, and gives its id; it goes on when its client leaves.

    With `wait=true` the answer is given instead, and a client that leaves stops the run. With `Accept:
    text/event-stream` its events are.
    """
    found = await until_gone(request, work.start(wanted(body, over_tcp=is_over_tcp(request))))
    if EVENTS in request.headers.get("accept", ""):
        return StreamingResponse(_stream(work, str(found.id), 0), media_type=EVENTS)
    if wait:
        return Json((await stopped_with(request, found)).to_json(), 200)
    return Json({"id": found.id, "status": "running"}, 202)


@router.get("/api/runs/{run}", response_class=Response)
async def show(run: str) -> Response:
    """One run on one line, by its id or a beginning of it."""
    return Json(to_json((await asyncio.to_thread(runs.show_run, run, max_events=1)).summary))


@router.delete("/api/runs/{run}", response_class=Response, status_code=202)
async def stop(run: str, work: Runs) -> Response:
    """Stops a run that is worked on; what happened so far stays in the journal."""
    work.stop(run)
    return Json({"stopping": run}, 202)


@router.get("/api/runs/{run}/answer", response_class=Response, responses={200: {"model": Answer}})
async def answer(run: str, work: Runs, request: Request) -> Response:
    """Waits for the answer of a run of this daemon, and gives it; leaving does not stop the run."""
    found = work.get(run)
    if found is None:
        return Json(_recorded(await asyncio.to_thread(runs.events_of, run)))
    return Json((await until_gone(request, found.answer())).to_json())


@router.get("/api/runs/{run}/events", response_class=Response, responses={200: {"content": {EVENTS: {}}}})
async def events(run: str, work: Runs, request: Request, after: After = 0) -> Response:
    """Every event with a `seq` beyond `after` (or `Last-Event-ID`), as it happens; each once, none left out."""
    last = request.headers.get("last-event-id", "")
    if last.isascii() and last.isdigit() and len(last) <= 16:
        after = max(after, int(last))
    if work.get(run) is None:
        await asyncio.to_thread(runs.show_run, run, max_events=1)  # what is wrong is known before it is begun
    return StreamingResponse(_stream(work, run, after), media_type=EVENTS)


def wanted(body: RunBody, *, over_tcp: bool) -> AskRequest:
    """Raises:
    Forbidden: it names what only this machine's own user may.
    InvalidArgument: limits or context cannot be.
    """
    context = body.context or ContextBody()
    if context.text is not None and context.paths is not None:
        raise InvalidArgument("Give context.text or context.paths, not both.")
    for path in context.paths or []:
        if not path.startswith("/"):
            raise InvalidArgument(f"{path[:80]!r} is not absolute.", fix="Name files from the root on.")
    for model in (body.model, body.sub_model):
        check_model(model, over_tcp=over_tcp)
    if over_tcp and context.paths is not None:
        raise Forbidden("Paths of this machine cannot be named over TCP.", fix="Send the text itself.")
    return AskRequest(
        body.question,
        tuple(context.paths or ()),
        context.text,
        body.model,
        body.sub_model,
        limits=Limits(**body.limits.model_dump()),
        schema=body.answer_schema,
    )


def check_model(model: str | None, *, over_tcp: bool) -> None:
    """Raises:
    Forbidden: it is a file of this machine, and named from elsewhere.
    """
    if over_tcp and model is not None and model.strip().startswith(_OF_THE_HOST):
        raise Forbidden(
            "Models that are files of this machine cannot be named over TCP.", fix="Name another one."
        )


def is_over_tcp(request: Request) -> bool:
    return bool(request.scope.get("state", {}).get("over_tcp", False))


async def stopped_with(request: Request, found: LiveRun) -> Answer:
    """The answer; a client that leaves stops the run."""
    try:
        return await until_gone(request, found.answer())
    finally:
        if found.task is not None:
            found.task.cancel()


async def _stream(work: Running, run: str, after: int) -> AsyncIterator[bytes]:
    """Events as server-sent events, their `seq` as the cursor."""
    source = aiter(work.events(run, after))
    coming = asyncio.ensure_future(anext(source, None))
    try:
        while True:
            done, _ = await asyncio.wait({coming}, timeout=_PING_SECONDS)
            if not done:
                yield b": still here\n\n"
                continue
            event = coming.result()
            if event is None:
                yield b"event: end\ndata: {}\n\n"
                return
            yield b"id: %d\nevent: %s\ndata: %s\n\n" % (
                event["seq"],
                event["type"].encode(),
                dumps(_bare(event)),
            )
            coming = asyncio.ensure_future(anext(source, None))
    except RlmError as error:
        yield b"event: failed\ndata: %s\n\n" % dumps(error.to_json())
    finally:
        coming.cancel()
        await asyncio.wait({coming})


def _bare(event: dict[str, Any]) -> dict[str, Any]:
    """Without the input that the journal keeps: whoever follows has given it."""
    if event["type"] != "run.started":
        return event
    return {**event, "data": {name: value for name, value in event["data"].items() if name != "input"}}


def _recorded(found: list[dict[str, Any]]) -> Any:
    """The answer in the journal.

    Raises:
        InvalidArgument: the run has none.
    """
    for event in reversed(found):
        if event["type"] == "answer":
            return event["data"]
    raise InvalidArgument("This run has no answer.", fix="Look at its events.")
