"""What a guest may send through its tunnel is bounded; one mistake ends it."""

from __future__ import annotations

import os
import struct
from collections.abc import AsyncIterator

import pytest

from terraphim_rlm.guest import ends as inside
from terraphim_rlm.sandbox.link.tunnel import Tunnel

pytestmark = pytest.mark.anyio


class _Sink:
    """A stream that takes all."""

    def __init__(self) -> None:
        self.is_full = False
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True


@pytest.fixture
async def made() -> AsyncIterator[tuple[Tunnel, _Sink]]:
    sink = _Sink()
    tunnel = Tunnel(sink)
    yield tunnel, sink
    tunnel.close()
    tunnel.guest_end.close()


def frame(kind: int, number: int, body: bytes = b"") -> bytes:
    return inside.HEADER.pack(len(body), kind, number) + body


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (struct.pack("<IBI", 1 << 30, inside.DATA, 1), "announced"),
        (frame(inside.DATA, 77, b"x"), "never was"),
        (frame(inside.FILL, 1, b"x"), "type"),
        (frame(99, 1), "type"),
        (frame(inside.REPORT, 0, b"short"), "report"),
    ],
)
async def test_a_frame_that_is_none_ends_it(made: tuple[Tunnel, _Sink], data: bytes, why: str) -> None:
    tunnel, sink = made
    tunnel.hear(data)
    assert why in tunnel.why
    assert sink.closed


async def test_more_than_its_window_ends_it(made: tuple[Tunnel, _Sink]) -> None:
    tunnel, sink = made
    reader, writer = os.pipe()
    tunnel.describe([writer])
    for _ in range(inside.WINDOW // inside.CHUNK):
        tunnel.hear(frame(inside.DATA, 1, b"x" * inside.CHUNK))
    assert not sink.closed  # the pipe holds a part of it, and we the rest
    tunnel.hear(frame(inside.DATA, 1, b"x" * inside.CHUNK) * 2)
    assert "more than it may" in tunnel.why
    os.close(reader)


async def test_what_it_never_got_it_cannot_have_taken(made: tuple[Tunnel, _Sink]) -> None:
    tunnel, _ = made
    reader, writer = os.pipe()
    tunnel.describe([reader])
    tunnel.hear(frame(inside.CREDIT, 1, inside.COUNT.pack(1)))
    assert "took more" in tunnel.why
    os.close(writer)


async def test_it_cannot_write_where_it_only_reads(made: tuple[Tunnel, _Sink]) -> None:
    tunnel, _ = made
    reader, writer = os.pipe()
    tunnel.describe([reader])
    tunnel.hear(frame(inside.DATA, 1, b"x"))
    assert tunnel.why
    os.close(writer)


async def test_a_file_of_the_host_does_not_go_through_as_anything_but_its_content(
    made: tuple[Tunnel, _Sink], tmp_path: object
) -> None:
    tunnel, sink = made
    fd = os.memfd_create("m")
    os.write(fd, b"content")
    assert tunnel.describe([fd]) == [(inside.MEMORY, 1)]
    assert b"content" in sink.written
    with pytest.raises(ValueError, match="does not go through"):
        tunnel.describe([os.open("/", os.O_RDONLY)])
