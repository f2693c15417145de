"""One connection that was allowed: bytes from one end to the other, counted and watched, until it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from terraphim_rlm.sandbox.egress.heads import BadRequest, Head, chunk_size
from terraphim_rlm.sandbox.egress.hello import BadHello
from terraphim_rlm.sandbox.egress.peer import BLOCK, Cut, Peer
from terraphim_rlm.sandbox.egress.rate import Rate
from terraphim_rlm.sandbox.egress.records import Records
from terraphim_rlm.sandbox.egress.watch import HelloWatch

IDLE_SECONDS = 300.0
"""Without a byte in either direction."""
MOST_SECONDS = 3600.0
_MOST_LINE = 100


class Over(Exception):
    """It was ended from here; says why."""


class Passage:
    """Carries between the code in the sandbox (`inner`) and what it reached (`outer`).

    Args:
        blocks: how many blocks the sandbox may have carried. Where it has used them up, bytes gather in the sockets, and
            come in larger ones: single bytes would each cost as much as 64 KiB.
        watch: of the TLS that it carries; None where it is none.
    """

    def __init__(
        self, inner: Peer, outer: Peer, records: Records, blocks: Rate, watch: HelloWatch | None = None
    ) -> None:
        self._inner = inner
        self._outer = outer
        self._records = records
        self._blocks = blocks
        self._watch = watch
        self.up = self.down = 0
        self._timer: asyncio.Timeout | None = None

    async def run(self, up: Coroutine[Any, Any, None]) -> str:
        """Carries until both are done; `up` carries from inside.

        Returns:
            Why it ended, when that was from here; else nothing.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + MOST_SECONDS
        try:
            async with asyncio.timeout_at(end), asyncio.timeout(IDLE_SECONDS) as self._timer:
                await self._both(up)
        except TimeoutError:
            return "it lasted too long" if loop.time() >= end else f"it stood still for {IDLE_SECONDS:.0f} s"
        except (Over, BadHello, BadRequest) as error:
            return str(error)
        except OSError:  # one of the two closed in the midst
            return ""
        return ""

    async def _both(self, up: Coroutine[Any, Any, None]) -> None:
        """Over when the outer end is done; whatever stops one way stops the other."""
        sending = asyncio.ensure_future(up)
        receiving = asyncio.ensure_future(self._receive())
        try:
            done, _ = await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
            if sending in done:
                sending.result()
            await receiving
        finally:
            sending.cancel()
            receiving.cancel()
            await asyncio.gather(sending, receiving, return_exceptions=True)

    async def _receive(self) -> None:
        while block := await self._next(self._outer):
            if self._watch is not None:
                self._watch.answered(block)
            self._take(len(block), up=False)
            await self._inner.send(block)
        self._inner.no_more()

    async def _next(self, peer: Peer, most: int = BLOCK) -> bytes:
        await self._blocks.wait()
        return await peer.some(most)

    async def _send(self, data: bytes) -> None:
        self._take(len(data), up=True)
        await self._outer.send(data)

    def _take(self, count: int, *, up: bool) -> None:
        if not self._records.take(count, up=up):
            raise Over("the sandbox has carried as many bytes as it may (network_mb)")
        if up:
            self.up += count
        else:
            self.down += count
        assert self._timer is not None
        self._timer.reschedule(asyncio.get_running_loop().time() + IDLE_SECONDS)

    async def tunnel(self, watch: HelloWatch, said: bytes) -> None:
        """`said`, the first ClientHello, and all that comes as long as no second one has another name."""
        await self._send(said)
        await watch.answer()
        while block := await self._next(self._inner):
            if not watch.is_over:
                watch.second(block)
            await self._send(block)
        self._outer.no_more()

    async def request(self, head: Head, *, absolute: bool) -> None:
        """One request and its body to its end; what follows is never sent."""
        await self._send(head.written(absolute=absolute))
        if head.body is None:
            await self._chunks()
        elif head.body:
            await self._exactly(head.body)

    async def _exactly(self, count: int, before: bytes = b"") -> None:
        """So many bytes of the body, `before` in front of them."""
        while count:
            block = await self._next(self._inner, min(count, BLOCK))
            if not block:
                raise Cut
            count -= len(block)
            await self._send(before + block)
            before = b""

    async def _chunks(self) -> None:
        """Chunk by chunk, each with its size written anew; fields behind the last one are refused."""
        before = b""
        while size := chunk_size((await self._line()).removesuffix(b"\r\n")):
            await self._exactly(size, before + b"%x\r\n" % size)
            if await self._line() != b"\r\n":
                raise BadRequest("its body has a chunk that is none")
            before = b"\r\n"
        if await self._line() != b"\r\n":
            raise BadRequest("its body has a chunk that is none")
        await self._send(before + b"0\r\n\r\n")

    async def _line(self) -> bytes:
        try:
            return await self._inner.until(b"\r\n", _MOST_LINE)
        except ValueError:
            raise BadRequest("its body has a chunk that is none") from None
