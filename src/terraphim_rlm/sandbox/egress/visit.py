"""One connection from inside, from its first byte to its end: understood, judged, dialled, carried."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from terraphim_rlm.core.network import Access
from terraphim_rlm.sandbox.egress.dial import Dialler, Refused, Unreachable
from terraphim_rlm.sandbox.egress.heads import BadRequest, Head, parse
from terraphim_rlm.sandbox.egress.hello import BadHello
from terraphim_rlm.sandbox.egress.names import Host, shown
from terraphim_rlm.sandbox.egress.passage import Over, Passage
from terraphim_rlm.sandbox.egress.peer import Peer
from terraphim_rlm.sandbox.egress.rate import Rate
from terraphim_rlm.sandbox.egress.records import Records, Tell, escaped
from terraphim_rlm.sandbox.egress.rules import Allowlist
from terraphim_rlm.sandbox.egress.watch import HelloWatch

HEAD_SECONDS = 10.0
FULL = "the sandbox has carried as many bytes as it may (network_mb)"
_ALERT = b"\x15\x03\x01\x00\x02\x02\x31"  # fatal, access denied
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_HANDSHAKE = b"\x16"
_STATUS = {BadRequest: 400, Refused: 403, Unreachable: 502}


@dataclass(frozen=True, slots=True)
class Way:
    """What all connections of one sandbox have in common."""

    allowed: Allowlist
    dialler: Dialler
    records: Records
    blocks: Rate
    """Of bytes that are carried, whatever their size."""

    def judge(self, host: Host, port: int) -> None:
        """Raises:
        Refused: it may not be reached.
        """
        if reason := self.allowed.why_not(host, port):
            raise Refused(reason)
        if self.records.left <= 0:
            raise Refused(FULL)


class Visit:
    """One connection.

    Args:
        door: the gateway's port where it came in; None = at the proxy.
        tell: gets what is decided.
    """

    def __init__(self, way: Way, inner: Peer, door: int | None, tell: Tell) -> None:
        self._way = way
        self._inner = inner
        self._door = door
        self._tell: Callable[[Access], None] = tell
        self._name = "?"
        self._port = door or 0
        self._how: Literal["tunnel", "http", "tls"] = "http"
        self._speaks_tls = False
        """What is said to the code now would have to be TLS."""
        self._unwritten = False
        """It has been let through, and so looked up, and no record says so yet."""

    async def run(self) -> None:
        try:
            await self._run()
        except (BadRequest, BadHello, Refused, Unreachable) as error:
            await self._refuse(str(error), _STATUS.get(type(error), 400))
        except TimeoutError:
            await self._refuse(f"it did not say in {HEAD_SECONDS:.0f} s what it wants", 408)
        except OSError:  # it left
            return
        finally:
            if self._unwritten:
                self._record(
                    Access(
                        "closed", self._name, self._port, self._how, "it ended before anything was carried"
                    )
                )

    async def refuse(self, reason: str) -> None:
        """Turns it away before it has said anything."""
        await self._refuse(reason, 503)

    async def _run(self) -> None:
        async with asyncio.timeout(HEAD_SECONDS):
            first = await self._inner.some(1)
            self._inner.put_back(first)
            if not first:
                return
            self._speaks_tls = self._door is not None and first == _HANDSHAKE
            head, watch, said = await (self._hello() if self._speaks_tls else self._request())
        self._way.judge(head.host, head.port)
        self._unwritten = True
        found = await self._way.dialler.addresses(head.host, head.port)
        outer = await self._way.dialler.connect(head.host, head.port, found, tunnel=head.tunnel)
        try:
            if head.tunnel and watch is None:
                watch, said = await self._promised(head.host)
            await self._carry(outer, head, watch, said, str(found[0]) if found else "")
        finally:
            outer.close()

    async def _request(self) -> tuple[Head, HelloWatch | None, bytes]:
        try:
            head = parse(await self._inner.head(), self._door)
        except ValueError:
            raise BadRequest("its head is too long") from None
        self._name, self._port = shown(head.host), head.port
        self._how = "tunnel" if head.tunnel else "http"
        return head, None, b""

    async def _hello(self) -> tuple[Head, HelloWatch | None, bytes]:
        """TLS to one of the gateway's own ports: the name that it says is the one it reaches."""
        assert self._door is not None
        self._how = "tls"
        watch = HelloWatch()
        said = await self._first_hello(watch)
        if watch.host is None:
            raise BadHello("its ClientHello has no server name")
        self._name = shown(watch.host)
        return Head(watch.host, self._door, tunnel=True), watch, said

    async def _promised(self, host: Host) -> tuple[HelloWatch, bytes]:
        """What begins in a tunnel, which must be TLS for the very host that the tunnel is for."""
        watch = HelloWatch()
        await self._inner.send(_ESTABLISHED)
        self._speaks_tls = True
        async with asyncio.timeout(HEAD_SECONDS):
            said = await self._first_hello(watch)
        if watch.host is None and isinstance(host, str):
            raise BadHello(f"TLS to {shown(host)} has no server name")
        if watch.host is not None and watch.host != host:
            raise BadHello(f"TLS in a tunnel to {shown(host)} is for {shown(watch.host)}")
        return watch, said

    async def _first_hello(self, watch: HelloWatch) -> bytes:
        """All of it and nothing more: what follows waits until its turn comes."""
        said, rest = bytearray(), b""
        while not watch.known:
            block = await self._inner.some()
            if not block:
                raise OSError
            said += block
            rest = watch.first(block)
        self._inner.put_back(rest)
        return bytes(said[: len(said) - len(rest)])

    async def _carry(
        self, outer: Peer, head: Head, watch: HelloWatch | None, said: bytes, address: str
    ) -> None:
        self._record(Access("allowed", self._name, self._port, self._how, address=address))
        passage = Passage(self._inner, outer, self._way.records, self._way.blocks, watch)
        if watch is not None:
            up = passage.tunnel(watch, said)
        else:
            up = passage.request(head, absolute=self._way.dialler.upstream and not address)
        began, reason = asyncio.get_running_loop().time(), "its sandbox ended"
        try:
            reason = await passage.run(up)
        finally:
            seconds = round(asyncio.get_running_loop().time() - began, 3)
            self._record(
                Access(
                    "closed", self._name, self._port, self._how, reason, address,
                    bytes_up=passage.up, bytes_down=passage.down, seconds=seconds,
                )
            )  # fmt: skip

    def _record(self, access: Access) -> None:
        self._unwritten = False
        self._way.records.tell(access, self._tell)

    async def _refuse(self, reason: str, status: int) -> None:
        """Writes it down, then answers: whoever sees the answer finds it written."""
        place = f"{self._name}:{self._port}: " if self._name not in reason and self._name != "?" else ""
        reason = escaped(place + reason)
        self._record(Access("refused", self._name, self._port, self._how, reason))
        await self._inner.end(_ALERT if self._speaks_tls else _answer(status, reason))


def _answer(status: int, reason: str) -> bytes:
    """The reason stands in the first line as well: what most programs show of a proxy's refusal."""
    body = f"The sandbox's network: {reason}.\n".encode("ascii")
    head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode("ascii") + body


__all__ = ["FULL", "Over", "Visit", "Way"]
