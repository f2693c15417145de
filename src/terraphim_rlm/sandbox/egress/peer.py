"""One end of a connection: a socket, what was read of it too early, and nothing that grows."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from terraphim_rlm.sandbox.egress.heads import END, MOST

BLOCK = 65_536
_LINGER_SECONDS = 0.5
_LINGER_BLOCKS = 4


class Cut(OSError):
    """The other end closed before it had said what it must."""


class Peer:
    """Single reader, single writer.

    Each read lets others have a turn first: asyncio reads from a ready socket at once, and an end that is always ready
    would hold the event loop, time-outs included, for as long as it sends.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self._early = bytearray()
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def some(self, most: int = BLOCK) -> bytes:
        """What comes next, up to `most` bytes; empty at the end."""
        await asyncio.sleep(0)
        if self._early:
            block = bytes(self._early[:most])
            del self._early[:most]
            return block
        return await self._loop.sock_recv(self._socket, most)

    def put_back(self, data: bytes) -> None:
        """Makes `data` what comes next."""
        self._early[:0] = data

    async def until(self, end: bytes, most: int) -> bytes:
        """All up to and with `end`; what has come after it waits.

        Raises:
            Cut: it closed before.
            ValueError: it is longer than `most`.
        """
        await asyncio.sleep(0)
        while (at := self._early.find(end)) < 0:
            if len(self._early) > most:
                raise ValueError
            await asyncio.sleep(0)
            block = await self._loop.sock_recv(self._socket, BLOCK)
            if not block:
                raise Cut
            self._early += block
        if at > most:
            raise ValueError
        found = bytes(self._early[: at + len(end)])
        del self._early[: at + len(end)]
        return found

    async def head(self) -> bytes:
        """A head of a request or an answer, with the empty line. Raises as `until`."""
        return await self.until(END, MOST)

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._socket, data)

    def no_more(self) -> None:
        """Tells the other side that nothing more is sent."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    async def end(self, last: bytes) -> None:
        """Says `last` and closes so that it arrives: what is still sent to us is taken for a moment, and dropped."""
        with contextlib.suppress(OSError):
            async with asyncio.timeout(_LINGER_SECONDS):
                await self.send(last)
                self.no_more()
                for _ in range(_LINGER_BLOCKS):
                    await asyncio.sleep(0)
                    if not await self._loop.sock_recv(self._socket, BLOCK):
                        break
        self.close()

    def close(self) -> None:
        self._socket.close()
