"""Sandboxes come up isolated and go without a trace."""

from __future__ import annotations

import asyncio

import pytest

from terraphim_rlm.sandbox.backends.bubblewrap.backend import Bubblewrap, Link
from terraphim_rlm.sandbox.contract import SandboxSpec

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]

EVALUATE = b"""
import posix, sys, _socket
host = _socket.socket(fileno=int(sys.argv[1]))
host.send(b"hello")
while True:
    data = host.recv(65536)
    if not data:
        break
    try:
        answer = repr(eval(data))
    except BaseException as error:
        answer = "!" + repr(error)
    host.send(answer.encode())
"""
SPEC = SandboxSpec(guest={"start.py": EVALUATE})


async def ask(link: Link, expression: str) -> str:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(link.socket, expression.encode())
    return (await loop.sock_recv(link.socket, 65536)).decode()


async def test_a_created_sandbox_has_already_said_hello() -> None:
    async with Bubblewrap() as backend:
        link = await backend.create(SPEC)
        assert link.socket.recv(64) == b"hello"
        assert await ask(link, "posix.getpid()") == "1"
        await link.destroy()
        assert (await link.ended()).signal == 9
        assert backend.statistics().running == 0
