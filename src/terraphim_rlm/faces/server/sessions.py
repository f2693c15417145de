"""`/api/sessions`: made, shown, extended, ended, and code run in them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from terraphim_rlm.core.errors import InternalError, RlmError
from terraphim_rlm.core.sessions import Session, SessionStatus
from terraphim_rlm.core.values import ExecutionResult, to_json
from terraphim_rlm.faces.server.models import ExecutionBody, NewSessionBody
from terraphim_rlm.faces.server.problems import Json, dumps
from terraphim_rlm.faces.server.waiting import until_gone
from terraphim_rlm.service import session_records
from terraphim_rlm.service.executions import Execution, check
from terraphim_rlm.service.sessions import Sessions

router = APIRouter()
NDJSON = "application/x-ndjson"


def kept(request: Request) -> Sessions:
    found: Sessions = request.app.state.sessions
    return found


Kept = Annotated[Sessions, Depends(kept)]
Limit = Annotated[int, Query(ge=1, le=session_records.MOST_LISTED)]


def shown(session: Session, status: int = 200) -> Response:
    return Json(to_json(session), status)


@router.get("/api/sessions", response_class=Response)
async def list_sessions(status: SessionStatus | None = None, limit: Limit = 100) -> Response:
    """The latest sessions, newest first; also those that have ended."""
    found = await asyncio.to_thread(session_records.list_sessions, limit, status=status)
    return Json(session_records.sessions_to_json(found))


@router.post("/api/sessions", response_class=Response, status_code=201, responses={201: {"model": Session}})
async def create(body: NewSessionBody, sessions: Kept, request: Request) -> Response:
    """Makes a session. A client that leaves before it is made stops that, and with it the fetching of packages."""
    return shown(await until_gone(request, sessions.create(body.wanted())), 201)


@router.get("/api/sessions/{session}", response_class=Response, responses={200: {"model": Session}})
async def show(session: str, sessions: Kept) -> Response:
    """One session, by its id, its name or a beginning of its id."""
    return shown(await sessions.show(session))


@router.delete("/api/sessions/{session}", response_class=Response, responses={200: {"model": Session}})
async def destroy(session: str, sessions: Kept) -> Response:
    """Ends a session; its sandbox is gone when this is answered."""
    return shown(await sessions.destroy(session))


@router.post("/api/sessions/{session}/extend", response_class=Response, responses={200: {"model": Session}})
async def extend(session: str, sessions: Kept) -> Response:
    """Lets a session last 1,800 s longer, at most three times."""
    return shown(await sessions.extend(session))


@router.post(
    "/api/sessions/{session}/executions",
    response_class=Response,
    responses={200: {"model": ExecutionResult, "content": {NDJSON: {}}}},
)
async def execute(session: str, body: ExecutionBody, sessions: Kept, request: Request) -> Response:
    """Runs code; what it does wrong is in the result.

    With `Accept: application/x-ndjson` the answer is lines as they come: `{"type": "started", "execution_id"}`,
    `{"type": "output", "stream", "text"}` .., and last `{"type": "result", "result"}` or `{"type": "error", "error"}`.
    A client that leaves stops the execution.
    """
    execution = body.wanted()
    check(execution)
    if NDJSON in request.headers.get("accept", ""):
        live = await sessions.living(session)
        return StreamingResponse(_lines(sessions, live.id, execution), media_type=NDJSON)
    result = await until_gone(request, sessions.execute(session, execution))
    return Json(result.to_json())


@router.delete("/api/executions/{execution}", response_class=Response, status_code=202)
async def stop(execution: str, sessions: Kept) -> Response:
    """Stops an execution in flight; whoever waits for it gets its result."""
    sessions.stop(execution)
    return Json({"stopping": execution}, 202)


async def _lines(sessions: Sessions, session: str, execution: Execution) -> AsyncIterator[bytes]:
    """An execution as lines; bounded, because what it may say is."""
    queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

    def told(stream: Literal["stdout", "stderr"], text: str) -> None:
        queue.put_nowait({"type": "output", "stream": stream, "text": text})

    def started(number: str) -> None:
        queue.put_nowait({"type": "started", "execution_id": number})

    task = asyncio.ensure_future(sessions.execute(session, execution, on_output=told, on_start=started))
    task.add_done_callback(lambda _: queue.put_nowait(None))
    try:
        while (line := await queue.get()) is not None:
            yield dumps(line) + b"\n"
        yield dumps(_last(task)) + b"\n"
    finally:
        task.cancel()
        await asyncio.wait({task})


def _last(task: asyncio.Task[ExecutionResult]) -> dict[str, Any]:
    failure = task.exception()
    if failure is None:
        return {"type": "result", "result": task.result().to_json()}
    if not isinstance(failure, RlmError):
        failure = InternalError(f"{type(failure).__name__}: {failure}"[:1000])
    return {"type": "error", "error": failure.to_json()}
