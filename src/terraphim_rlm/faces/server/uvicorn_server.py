"""uvicorn without its poll, its log and its signals, for peers of our own user only."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from terraphim_rlm.core.errors import DaemonUnavailable
from terraphim_rlm.supervision.children import Link, linked
from terraphim_rlm.supervision.spec import Start

_HEAD_SECONDS = 30.0
"""Until a fresh connection has sent its first request."""
_KEEP_ALIVE = 75
"""Seconds that a connection may be idle between requests."""
_MOST_HEAD = 65_536
_END_SECONDS = 10
"""For answers in flight, after every session has ended."""
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid
_FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


def served(app: Any, listening: socket.socket) -> Start:
    """A server as a child: it answers on its own copy of a socket, so whoever follows it finds those that wait."""

    async def serve(link: Link) -> None:
        server, own = _Server(_config(app), link), listening.dup()
        try:
            await server.serve(sockets=[own])
        except asyncio.CancelledError:
            server.force_exit = True
            if server.started:
                await server.shutdown(sockets=[own])
            raise
        finally:
            own.close()
        if not server.started:
            raise DaemonUnavailable("The server did not start.")

    return linked(serve)


def _config(app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_END_SECONDS,
        h11_max_incomplete_event_size=_MOST_HEAD,
    )


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, link: Link) -> None:
        super().__init__(config)
        self._link = link

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._link.ready()

    async def main_loop(self) -> None:
        """Waits, instead of looking ten times a second."""
        await self._link.stop()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


class _Protocol(H11Protocol):
    """One connection."""

    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if not is_own(transport.get_extra_info("socket")):
            transport.write(_FORBIDDEN)
            transport.close()
            return
        self._head = self.loop.call_later(_HEAD_SECONDS, self._tired)

    def _tired(self) -> None:
        if self.scope is None:  # pyright: ignore[reportUnnecessaryComparison] - it is, before the first request
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._head is not None:
            self._head.cancel()


def is_own(peer: socket.socket) -> bool:
    """Whether the process at the other end, when it connected, was of our own user. Over TCP that is not asked: a key is."""
    if peer.family != socket.AF_UNIX:
        return True
    data = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return bool(_CREDENTIALS.unpack(data)[1] == os.geteuid())
