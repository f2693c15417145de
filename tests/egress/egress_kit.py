"""What tests of the gateway need: real ClientHellos, and a gateway over plain sockets, without a sandbox."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cache

from terraphim_rlm.core.network import Access
from terraphim_rlm.sandbox.egress.gateway import Gateway, doors
from terraphim_rlm.sandbox.egress.names import authority
from terraphim_rlm.sandbox.egress.rules import allowlist
from terraphim_rlm.sandbox.egress.settings import Operator


@cache
def client_hello(name: str | None) -> bytes:
    """The first record of a real TLS client."""
    context = ssl.create_default_context()
    context.check_hostname = False
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def with_extension(record: bytes, kind: int, body: bytes) -> bytes:
    """A ClientHello with a further extension at its end."""
    hello = bytearray(record[9:])
    at = 34
    for size in (1, 2, 1):
        at += size + int.from_bytes(hello[at : at + size], "big")
    more = struct.pack(">HH", kind, len(body)) + body
    total = int.from_bytes(hello[at : at + 2], "big") + len(more)
    hello[at : at + 2] = total.to_bytes(2, "big")
    return records(bytes(hello) + more)


def records(hello: bytes, size: int = 1 << 14) -> bytes:
    """A ClientHello's body as records of at most `size` bytes."""
    message = b"\x01" + len(hello).to_bytes(3, "big") + hello
    return b"".join(
        b"\x16\x03\x01" + len(message[at : at + size]).to_bytes(2, "big") + message[at : at + size]
        for at in range(0, len(message), size)
    )


class Served:
    """A gateway whose doors lie on free ports of this machine."""

    def __init__(self, gate: Gateway, sockets: Sequence[socket.socket], told: list[Access]) -> None:
        self.gate = gate
        self.told = told
        self.proxy = sockets[0].getsockname()
        self.names = sockets[1].getsockname()
        self.doors = [each.getsockname() for each in sockets[2:]]

    async def say(self, data: bytes, door: int | None = None, *, end: bool = True) -> bytes:
        """What the gateway answers to `data`, all of it."""
        reader, writer = await asyncio.open_connection(*(self.proxy if door is None else self.doors[door]))
        try:
            writer.write(data)
            if end:
                writer.write_eof()
            return await asyncio.wait_for(reader.read(), 30)
        except ConnectionError:
            return b""
        finally:
            writer.close()

    def decisions(self) -> list[tuple[str, str, int]]:
        return [(each.decision, each.name, each.port) for each in self.told]


@asynccontextmanager
async def gateway(
    network: Sequence[str], private: Sequence[str] = (), quota: int = 1 << 30, upstream: str = ""
) -> AsyncIterator[Served]:
    allowed = allowlist(network)
    sockets = []
    for kind, _address, _port in doors(allowed):
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
        made.bind(("127.0.0.1", 0))
        if kind == "tcp":
            made.listen(64)
        made.setblocking(False)
        sockets.append(made)
    told: list[Access] = []
    operator = Operator(
        frozenset(authority(each, None) for each in private), authority(upstream, None) if upstream else None
    )
    gate = Gateway(allowed, sockets, operator, quota, lambda: told.append)
    try:
        yield Served(gate, sockets, told)
    finally:
        await gate.close()


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]


@asynccontextmanager
async def server(
    answer: bytes | None = None, *, host: str = "127.0.0.1", context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Listens at `host`; its port, and what it was sent. Answers each head with `answer`, or (None) sends all back."""
    got: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while block := await reader.read(65_536):
                got.append(block)
                writer.write(block if answer is None else answer)
                await writer.drain()
                if answer is not None:
                    break
        except ConnectionError:
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, host, 0, ssl=context)
    async with listening:
        yield listening.sockets[0].getsockname()[1], got


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
