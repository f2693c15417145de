"""`/api/sessions/{session}/snapshots`, `/diff` and `/branch`."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from terraphim_rlm.core.values import SCHEMA_VERSION, Snapshot, SnapshotDiff, to_json
from terraphim_rlm.faces.server.models import BranchBody, RestoreBody, SnapshotBody
from terraphim_rlm.faces.server.problems import Json
from terraphim_rlm.faces.server.sessions import Kept
from terraphim_rlm.service import session_records

router = APIRouter()
_SNAPSHOTS = "/api/sessions/{session}/snapshots"
Word = Annotated[str, Query(max_length=80)]


@router.get(_SNAPSHOTS, response_class=Response)
async def list_snapshots(session: str) -> Response:
    """A session's snapshots, oldest first; also those that are no longer there."""
    found = await asyncio.to_thread(session_records.snapshots, session)
    return Json({"schema_version": SCHEMA_VERSION, "snapshots": to_json(found)})


@router.post(_SNAPSHOTS, response_class=Response, status_code=201, responses={201: {"model": Snapshot}})
async def create(session: str, body: SnapshotBody, sessions: Kept) -> Response:
    """Keeps files and interpreters as they are now."""
    async with sessions.using(session) as live:
        return Json(to_json(await live.snapshots.create(body.name, partial=body.partial)), 201)


@router.post(_SNAPSHOTS + "/{snapshot}/restore", response_class=Response)
async def restore(session: str, snapshot: str, body: RestoreBody, sessions: Kept) -> Response:
    """Goes back to a snapshot, or brings back single paths of it; what was not there is listed as missing."""
    async with sessions.using(session) as live:
        if body.paths is None:
            return Json({"snapshot": to_json(await live.snapshots.rollback(snapshot)), "missing": []})
        missing = await live.snapshots.restore_files(snapshot, body.paths)
        return Json({"snapshot": None, "missing": missing})


@router.delete(_SNAPSHOTS + "/{snapshot}", response_class=Response)
async def forget(session: str, snapshot: str, sessions: Kept) -> Response:
    """Frees what a snapshot holds."""
    async with sessions.using(session) as live:
        await live.snapshots.forget(snapshot)
    return Json({"forgotten": snapshot})


@router.get("/api/sessions/{session}/diff", response_class=Response, responses={200: {"model": SnapshotDiff}})
async def diff(session: str, before: Word, sessions: Kept, after: Word | None = None) -> Response:
    """What changed from one snapshot to another, or to now."""
    async with sessions.using(session) as live:
        return Json(to_json(await live.snapshots.diff(before, after)))


@router.post("/api/sessions/{session}/branch", response_class=Response, status_code=201)
async def branch(session: str, body: BranchBody, sessions: Kept) -> Response:
    """Further sessions that begin as a snapshot of this one, or as it is now."""
    made = await sessions.branch(session, body.count, body.snapshot)
    return Json(session_records.sessions_to_json(made), 201)
