"""What every request is held to, whoever sends it: the size of its body, and the time that its pieces take.

Also counts requests, so that a daemon knows when it is idle.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from terraphim_rlm import __version__
from terraphim_rlm.faces.server.idle import Idle

STREAMED = "/files/content"
"""Bodies of paths with this end are files: read piece by piece, and as long as the sandbox has room."""
VERSION_HEADER = b"trlm-version"


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one request."""

    body_bytes: int = 64 * 1024 * 1024
    """Of a body that is read as a whole."""
    piece_seconds: float = 30.0
    """Between two pieces of a body."""
    unread_seconds: float = 600.0
    """That a client may take nothing of a file that he asked for: he holds one of his session's few transfers."""


class _Unread(Exception):
    """The client takes nothing."""


class Bounded:
    """ASGI middleware; goes around everything else."""

    def __init__(self, app: ASGIApp, idle: Idle, bounds: Bounds) -> None:
        self._app = app
        self._idle = idle
        self._bounds = bounds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        patience = self._bounds.unread_seconds if scope["path"].endswith(STREAMED) else None

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (VERSION_HEADER, __version__.encode())]
            try:
                async with asyncio.timeout(patience):
                    await send(message)
            except TimeoutError:
                raise _Unread from None

        with self._idle.request(), suppress(_Unread):  # the server then breaks off what has begun
            await self._app(scope, _Body(scope, receive, self._bounds), marked)


class _Body:
    """The receiving end of one request."""

    def __init__(self, scope: Scope, receive: Receive, bounds: Bounds) -> None:
        self._receive = receive
        self._bounds = bounds
        self._left = None if scope["path"].endswith(STREAMED) else bounds.body_bytes
        self._ended = False
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        self._too_long = self._left is not None and length.isdigit() and int(length) > self._left

    async def __call__(self) -> Message:
        """Raises:
        HTTPException: 413 for too long a body, 408 for one that does not come.
        """
        if self._too_long:
            raise self._refusal()
        if self._ended:  # what follows is only ever that the client has left
            return await self._receive()
        try:
            async with asyncio.timeout(self._bounds.piece_seconds):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(
                408, f"No piece of the request came for {self._bounds.piece_seconds:g} seconds"
            ) from None
        self._ended = message["type"] != "http.request" or not message.get("more_body", False)
        if self._left is not None:
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                raise self._refusal()
        return message

    def _refusal(self) -> HTTPException:
        return HTTPException(413, f"The request has more than {self._bounds.body_bytes:,} bytes")
