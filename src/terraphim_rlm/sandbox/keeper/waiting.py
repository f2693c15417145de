"""Small steps with futures that both sides of the keeper's line need."""

from __future__ import annotations

import asyncio
import socket
from typing import Any


def settle(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


def fail(future: asyncio.Future[Any], error: Exception) -> None:
    """Whoever waits gets it; it is no error when nobody does, as after a cancellation."""
    if not future.done():
        future.set_exception(error)
        future.exception()


async def writable(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    ready = loop.create_future()
    fd = sock.fileno()
    loop.add_writer(fd, settle, ready, None)
    try:
        await ready
    finally:
        loop.remove_writer(fd)
