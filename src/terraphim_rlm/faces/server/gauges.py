"""`/metrics` for Prometheus, and `/doctor`."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from terraphim_rlm.core.values import to_json
from terraphim_rlm.faces.server.problems import Json
from terraphim_rlm.service.doctor import checks_to_json, examine

router = APIRouter()
_TEXT = "text/plain; version=0.0.4; charset=utf-8"


@router.get("/metrics", response_class=Response, responses={200: {"content": {_TEXT: {}}}})
async def metrics(request: Request) -> Response:
    """Numbers of sessions, runs, pools and the daemon's parts."""
    return Response("\n".join(_lines(request)) + "\n", media_type=_TEXT)


@router.get("/doctor", response_class=Response)
async def doctor() -> Response:
    """What `trlm doctor` finds on the daemon's machine."""
    return Json(checks_to_json(await examine()))


def _lines(request: Request) -> Iterator[str]:
    state = request.app.state
    rooms = {"sessions": to_json(state.sessions.statistics()), "runs": to_json(state.running.statistics())}
    for room, numbers in rooms.items():
        yield from (f"trlm_{room}_{name} {value}" for name, value in numbers.items())
    for key, pool in state.sessions.supply.pools().items():
        label = f'{{backend="{key.backend}"}}'
        yield from (
            f"trlm_pool_{name}{label} {value}"
            for name, value in to_json(pool).items()
            if isinstance(value, int) and not isinstance(value, bool)
        )
    tree = getattr(state, "tree", None)
    if tree is not None:
        for part in tree.statistics().children:
            label = f'{{part="{part.id}"}}'
            yield f"trlm_part_up{label} {int(part.state == 'running')}"
            yield f"trlm_part_restarts_total{label} {part.restarts}"
