"""Lines and events of a reply, however its bytes are cut."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable

import pytest

from terraphim_rlm.core.errors import ModelProtocol
from terraphim_rlm.llm.http import Bounds, Reply

pytestmark = pytest.mark.anyio


class Response:
    """The part of an HTTP response that a `Reply` reads."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.headers = {"content-type": "text/event-stream; charset=utf-8"}
        self._pieces = pieces

    async def aiter_raw(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


def _reply(pieces: Iterable[bytes], bounds: Bounds = Bounds()) -> Reply:  # noqa: B008 - frozen
    return Reply(Response(pieces), bounds, asyncio.get_running_loop().time() + 60)


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
async def test_events_are_the_same_wherever_their_bytes_are_cut(size: int) -> None:
    body = 'data: {"a": "é€😀"}\r\n\r\n: comment\r\ndata: one\ndata: two\n\nevent: x\ndata:last'.encode()
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    assert [event async for event in _reply(pieces).events()] == ['{"a": "é€😀"}', "one\ntwo", "last"]


async def test_a_long_line_that_comes_byte_by_byte_costs_time_in_proportion() -> None:
    """Joined anew for every byte, these 400 kB would be 80 GB of copying."""
    began = time.process_time()
    lines = [line async for line in _reply([b"a"] * 400_000).lines()]
    assert (len(lines), len(lines[0])) == (1, 400_000)
    assert time.process_time() - began < 3.0


async def test_a_line_without_end_is_cut_off_at_its_bound() -> None:
    endless = (b"a" * 1000 for _ in range(10**9))
    with pytest.raises(ModelProtocol, match="endless"):
        async for _ in _reply(endless, Bounds(line_bytes=5000)).lines():
            pass
