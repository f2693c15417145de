"""`/api/sessions/{session}/files`: a session's files, listed, sent and taken piece by piece."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from terraphim_rlm.core.errors import RlmError
from terraphim_rlm.core.values import SCHEMA_VERSION, to_json
from terraphim_rlm.faces.server.problems import Json
from terraphim_rlm.faces.server.sessions import Kept
from terraphim_rlm.service.sessions import Sessions

router = APIRouter()
_FILES = "/api/sessions/{session}/files"
_CONTENT = _FILES + "/content"
_BYTES = "application/octet-stream"
Path = Annotated[str, Query(min_length=1, max_length=4096)]


@router.get(_FILES, response_class=Response)
async def list_files(session: str, sessions: Kept, path: Path = ".", deep: bool = False) -> Response:
    """What is in a folder, by the names of `FileInfo`."""
    async with sessions.using(session) as live:
        found = await live.box.files.list(path, deep)
    return Json({"schema_version": SCHEMA_VERSION, "files": to_json(found)})


@router.delete(_FILES, response_class=Response)
async def remove(session: str, path: Path, sessions: Kept) -> Response:
    """Removes a file, a link, or a folder with all in it."""
    async with sessions.using(session) as live:
        await live.box.files.remove(path)
    return Json({"removed": path})


@router.get(_CONTENT, response_class=Response, responses={200: {"content": {_BYTES: {}}}})
async def read(session: str, path: Path, sessions: Kept) -> Response:
    """A file's content, read no faster than it is taken. Cut short, the answer has no proper end."""
    content = _content(sessions, session, path)
    first = await anext(
        content, b""
    )  # what is wrong with the path is known by then, and the answer not yet begun
    return _Content(_after(first, content), media_type=_BYTES)


@router.put(_CONTENT, response_class=Response)
async def write(session: str, path: Path, sessions: Kept, request: Request) -> Response:
    """Makes or replaces a file. When the client leaves before the end, what was there before still is."""
    async with sessions.using(session) as live:
        size = 0

        async def counted() -> AsyncGenerator[bytes, None]:
            nonlocal size
            async for piece in request.stream():
                size += len(piece)
                yield piece

        await live.box.files.write_blocks(path, counted())
    return Json({"path": path, "size": size})


class _Content(StreamingResponse):
    """Ends its transfer at once when its client leaves."""

    def __init__(self, blocks: AsyncGenerator[bytes, None], media_type: str) -> None:
        super().__init__(blocks, media_type=media_type)
        self._blocks = blocks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._blocks):
            with suppress(RlmError):  # the session ended: the server then breaks off what has begun
                await super().__call__(scope, receive, send)


async def _content(sessions: Sessions, session: str, path: str) -> AsyncGenerator[bytes, None]:
    async with sessions.using(session) as live, aclosing(live.box.files.read_blocks(path)) as blocks:
        async for block in blocks:
            yield block


async def _after(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(rest):
        if first:
            yield first
        async for block in rest:
            yield block
