"""The app that every socket serves. Later routes are added to it by routers of their own."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from terraphim_rlm import __version__
from terraphim_rlm.core.values import SCHEMA_VERSION, to_json
from terraphim_rlm.faces.server import (
    asking,
    chat,
    files,
    gauges,
    history,
    pools,
    problems,
    sessions,
    snapshots,
)
from terraphim_rlm.faces.server.problems import Json
from terraphim_rlm.service.running import Running
from terraphim_rlm.service.sessions import Sessions
from terraphim_rlm.supervision.supervisor import Supervisor

SERVICE = "terraphim-rlm"


def make_app(kept: Sessions, work: Running, stop: Callable[[], None] = lambda: None) -> FastAPI:
    """Routes over sessions and runs; every failure leaves it as a problem.

    Args:
        stop: ends the process that serves, once what it has to answer is answered.
    """
    app = FastAPI(title="Terraphim RLM", version=__version__, docs_url=None, redoc_url=None)
    problems.install(app)
    app.state.sessions = kept
    app.state.running = work

    @app.get("/health", response_class=Response)
    async def health(request: Request) -> Response:
        """Who serves. What a client of another version needs is never changed here. Over TCP only whether it does."""
        if asking.is_over_tcp(request):
            return Json({"schema_version": SCHEMA_VERSION, "service": SERVICE, "status": "healthy"})
        tree: Supervisor | None = getattr(app.state, "tree", None)
        parts = [] if tree is None else to_json(tree.statistics().children)
        return Json({"schema_version": SCHEMA_VERSION, **_health(kept, work), "parts": parts})

    @app.post("/api/stop", response_class=Response, status_code=202)
    async def end() -> Response:
        """Ends the daemon and all its sessions."""
        stop()
        return Json({"stopping": True}, 202)

    for room in (sessions, files, snapshots, history, pools, asking, chat, gauges):
        app.include_router(room.router)
    return app


def _health(kept: Sessions, work: Running) -> dict[str, Any]:
    return {
        "service": SERVICE,
        "status": "healthy",
        "version": __version__,
        "pid": os.getpid(),
        "sessions": to_json(kept.statistics()),
        "runs": to_json(work.statistics()),
    }
