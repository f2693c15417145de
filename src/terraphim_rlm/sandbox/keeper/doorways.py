"""The owner's side of `doors`: asks for sockets inside a sandbox, and gets them."""

from __future__ import annotations

import array
import asyncio
import errno
import marshal
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from typing import Any

from terraphim_rlm.sandbox.keeper.waiting import settle

Door = tuple[str, str, int]
"""`tcp` or `udp`, address, port."""
_SECONDS = 10.0


async def made(
    send: Callable[[dict[str, Any], Sequence[int]], Awaitable[None]],
    number: int,
    uid: int | None,
    sockets: Sequence[Door],
) -> list[socket.socket]:
    """See `Kept.doors`; `send` takes a request to the keeper."""
    request = {"op": "doors", "id": number, "sockets": list(sockets), "uid": uid}
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with its:
            await send(request, [its.fileno()])
        await _readable(ours)
        found, said = _received(ours, len(sockets))
    if said or len(found) != len(sockets):
        for each in found:
            each.close()
        raise OSError(*(said or (errno.EIO, "the keeper could not make them")))
    return found


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(sock.fileno(), settle, ready, None)
    try:
        async with asyncio.timeout(_SECONDS):
            await ready
    except TimeoutError:
        raise OSError(errno.ETIMEDOUT, "the keeper did not answer") from None
    finally:
        loop.remove_reader(sock.fileno())


def _received(sock: socket.socket, count: int) -> tuple[list[socket.socket], list[Any]]:
    """The sockets, and why there are none; nothing of both when the maker died."""
    data, ancillary, _flags, _address = sock.recvmsg(4096, socket.CMSG_SPACE(count * 4))
    fds = array.array("i")
    for level, kind, raw in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(raw[: len(raw) - len(raw) % 4])
    with ExitStack() as unused:
        found = [unused.enter_context(socket.socket(fileno=fd)) for fd in fds]
        said: list[Any] = marshal.loads(data) if data else []  # noqa: S302 - from the keeper's child, a process of ours
        for each in found:
            each.setblocking(False)
        unused.pop_all()
    return found, said
