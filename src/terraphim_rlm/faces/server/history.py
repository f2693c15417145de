"""What was executed, in one session or in all."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from starlette.responses import Response

from terraphim_rlm.faces.server.problems import Json
from terraphim_rlm.faces.server.sessions import Limit
from terraphim_rlm.service import session_records

router = APIRouter()


@router.get("/api/history", response_class=Response)
async def everywhere(failures: bool = False, limit: Limit = 100, whole: bool = False) -> Response:
    """In every session and by `trlm exec`, newest first."""
    return await _history(None, failures, limit, whole)


@router.get("/api/sessions/{session}/history", response_class=Response)
async def of_session(
    session: str, failures: bool = False, limit: Limit = 100, whole: bool = False
) -> Response:
    """In one session, newest first; `whole` gives code and result in full."""
    return await _history(session, failures, limit, whole)


@router.get("/api/sessions/{session}/network", response_class=Response)
async def network(session: str, refused: bool = False, limit: Limit = 100) -> Response:
    """What its code reached over the network, or was refused, newest first."""
    found = await asyncio.to_thread(session_records.accesses, session, refused=refused, limit=limit)
    return Json(session_records.accesses_to_json(found))


async def _history(session: str | None, failures: bool, limit: int, whole: bool) -> Response:
    found = await asyncio.to_thread(
        session_records.history, session, failures=failures, limit=limit, whole=whole
    )
    return Json(session_records.history_to_json(found))
