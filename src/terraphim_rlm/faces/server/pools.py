"""`/api/pools`: the sandboxes that the daemon keeps ready for its next sessions."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from terraphim_rlm.faces.server.models import WarmBody
from terraphim_rlm.faces.server.problems import Json
from terraphim_rlm.faces.server.sessions import Kept
from terraphim_rlm.faces.server.waiting import until_gone
from terraphim_rlm.service.pools import pools_to_json

router = APIRouter()


@router.get("/api/pools", response_class=Response)
async def status(sessions: Kept) -> Response:
    """How they stand and what they have done; one is there once it was wanted."""
    return Json(pools_to_json(sessions.supply.pools()))


@router.post("/api/pools/warm", response_class=Response)
async def warm(body: WarmBody, sessions: Kept, request: Request) -> Response:
    """Makes sandboxes ready before somebody asks; answered when they are, or when a start has failed."""
    pool = await sessions.supply.pool(body.backend)
    pool.warm(body.count)
    await until_gone(request, pool.wait_ready())
    return Json(pools_to_json(sessions.supply.pools()))


@router.post("/api/pools/drain", response_class=Response)
async def drain(sessions: Kept) -> Response:
    """Ends every sandbox that no session has; answered when they are gone."""
    await sessions.supply.drain()
    return Json(pools_to_json(sessions.supply.pools()))
