"""The attached streams of a container: bytes to its standard input, bytes from its output, its last complaints."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

_HEADER = 8
_OUT, _ERR = 1, 2
_MOST_PIECE = 16 << 20
_SAID = 4096
"""Bytes of complaints that are kept, the last ones."""


class Wire(asyncio.Protocol):
    """See `link.tunnel.Stream`. The engine puts the type and length of each piece in front of it."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._in = bytearray()
        self._early = bytearray()
        self._news = asyncio.Event()
        self.said = b""
        """What pid 1 complained of."""
        self.is_full = False
        self.is_over = False
        self._hear: Callable[[bytes], None] | None = None
        self._lost: Callable[[], None] = lambda: None
        self._room: Callable[[], None] = lambda: None

    @classmethod
    async def over(cls, sock: socket.socket, early: bytes) -> Wire:
        """Takes over a socket from which `early` has been read."""
        _, wire = await asyncio.get_running_loop().create_unix_connection(cls, sock=sock)
        wire.data_received(early)
        return wire

    async def first(self, count: int) -> bytes:
        """The first bytes of output, before `begin`; fewer when it ends."""
        while len(self._early) < count and not self.is_over:
            self._news.clear()
            await self._news.wait()
        found = bytes(self._early[:count])
        del self._early[:count]
        return found

    async def rest(self) -> bytes:
        """All output to its end, instead of `begin`."""
        while not self.is_over:
            self._news.clear()
            await self._news.wait()
        return bytes(self._early)

    def begin(
        self, hear: Callable[[bytes], None], lost: Callable[[], None], room: Callable[[], None]
    ) -> None:
        """From now on output is told as it comes."""
        self._hear, self._lost, self._room = hear, lost, room
        early, self._early = bytes(self._early), bytearray()
        if early:
            hear(early)
        if self.is_over:
            lost()

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self.is_over:
            self._transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # asyncio's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._in += data
        at = 0
        while len(self._in) - at >= _HEADER:
            length = int.from_bytes(self._in[at + 4 : at + _HEADER], "big")
            if length > _MOST_PIECE or self._in[at] not in (0, _OUT, _ERR):
                self.close()
                return
            if len(self._in) - at - _HEADER < length:
                break
            kind, start = self._in[at], at + _HEADER
            piece = bytes(memoryview(self._in)[start : start + length])
            at = start + length
            if kind == _ERR:
                self.said = (self.said + piece)[-_SAID:]
            elif self._hear is None:
                self._early += piece
            else:
                self._hear(piece)
        del self._in[:at]
        self._news.set()

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False
        self._room()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_over = True
        self._news.set()
        self._lost()
