"""An end of a connection takes what it must, and leaves turns to all others."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from terraphim_rlm.sandbox.egress.peer import BLOCK, Peer

pytestmark = [pytest.mark.anyio]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def pair() -> tuple[Peer, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    return Peer(ours), theirs


async def test_an_end_that_always_has_more_to_say_does_not_hold_the_event_loop() -> None:
    peer, other = pair()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    with other:
        other.sendall(b"1\r\n" * 200)
        counting = asyncio.create_task(count())
        for _ in range(100):
            assert await peer.until(b"\r\n", 10) == b"1\r\n"
            assert len(await peer.some(3)) == 3
        counting.cancel()
        assert turns >= 200
    peer.close()


async def test_the_last_word_is_not_waited_for_by_taking_whatever_comes() -> None:
    peer, other = pair()
    sent = 0

    def pour() -> None:
        nonlocal sent
        try:
            while sent < 64 << 20:
                sent += other.send(bytes(BLOCK))
        except OSError:
            return

    with other:
        pouring = threading.Thread(target=pour)
        pouring.start()
        await peer.end(b"no")
        await asyncio.to_thread(pouring.join)
        assert other.recv(10) == b"no"
    assert sent < 2 << 20
