"""The host's end of a cell's channel. Whatever arrives is hostile: sizes, types, order and rates are checked."""

from __future__ import annotations

import array
import asyncio
import json
import os
import re
import socket
from collections import deque
from collections.abc import Callable
from math import isfinite
from typing import Any

from terraphim_rlm.guest import frames
from terraphim_rlm.sandbox.link.room import Room

_READ = 1 << 16
_MOST_UNSENT = 64 << 20
"""Bytes that wait for a cell which does not read; above it we stop reading from it, too."""
_SMALL = 1 << 20
"""Bytes of a message that are decoded unlooked at: never more than a tenth of a second."""
_MOST_VALUES = 4_000_000
_MOST_QUOTES = 8_000_000
_FRAME_COST = 512
"""Bytes that a waiting frame costs us on top of its own."""
_MOST_LAST_READS = 16
"""Of a socket whose cell has ended: a megabyte, more than a socket holds. What its children write is for nobody."""
_MOST_AT_ONCE = 500
"""Frames written before others get their turn, however fast a cell reads."""


class ChannelBroken(Exception):
    """The cell broke the rules of its channel; the text says which."""


class Channel:
    """Frames of one cell. `on_frame(kind, number, body)` runs in the reader's callback; `on_end(reason)` once.

    Raises:
        SandboxBusy: there is no room for a pair of sockets.
    """

    def __init__(
        self, on_frame: Callable[[int, int, bytes], None], on_end: Callable[[str | None], None]
    ) -> None:
        self._on_frame = on_frame
        self._on_end = on_end
        self._in = bytearray()
        self._out: deque[tuple[memoryview, int | None]] = deque()
        self._unsent = 0
        self._paused = False
        self._open = True
        self._loop = asyncio.get_running_loop()
        self._child_end: socket.socket | None
        with Room() as room:
            self._socket, self._child_end = room.pair(socket.SOCK_STREAM)
            self._socket.setblocking(False)
            self._loop.add_reader(self._socket.fileno(), self._readable)
            room.pop_all()

    @property
    def child_fd(self) -> int:
        assert self._child_end is not None
        return self._child_end.fileno()

    def release_child_end(self) -> None:
        if self._child_end is not None:
            self._child_end.close()
            self._child_end = None

    @property
    def is_open(self) -> bool:
        return self._open

    def send(self, kind: int, number: int, body: bytes = b"", fd: int | None = None) -> None:
        """Queues one frame; `fd` is handed over with it, and is ours from now on: nobody else may close it.

        A cell that reads late would else be given whatever the number means by then.
        """
        if not self._open:
            if fd is not None:
                os.close(fd)
            return
        data = memoryview(frames.pack(kind, number, body))
        self._out.append((data, fd))
        self._unsent += len(data) + _FRAME_COST
        if len(self._out) == 1:
            self._flush()
        if self._unsent > _MOST_UNSENT and not self._paused:
            self._paused = True
            self._loop.remove_reader(self._socket.fileno())

    def _flush(self) -> None:
        try:
            for _ in range(_MOST_AT_ONCE):
                if not self._out:
                    return
                data, fd = self._out[0]
                sent = self._send_some(data, fd)
                if fd is not None:
                    os.close(fd)
                self._unsent -= sent
                if sent == len(data):
                    self._out.popleft()
                    self._unsent -= _FRAME_COST
                else:
                    self._out[0] = (data[sent:], None)
            self._loop.add_writer(self._socket.fileno(), self._writable)
        except BlockingIOError:
            self._loop.add_writer(self._socket.fileno(), self._writable)
        except OSError:
            self._end(None)

    def _send_some(self, data: memoryview, fd: int | None) -> int:
        if fd is None:
            return self._socket.send(data)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        return self._socket.sendmsg([data], rights)

    def _writable(self) -> None:
        self._loop.remove_writer(self._socket.fileno())
        self._flush()
        if self._open and self._paused and self._unsent < _MOST_UNSENT // 2:
            self._paused = False
            self._loop.add_reader(self._socket.fileno(), self._readable)

    def _readable(self) -> None:
        self._read_once()

    def _read_once(self) -> bool:
        """Takes what is there; False when that is nothing, or the end."""
        # Plain recv: descriptors that a cell sends along are dropped by the kernel.
        try:
            data = self._socket.recv(_READ)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._end(None)
            return False
        self._in += data
        try:
            self._take_frames()
        except ChannelBroken as error:
            self._end(str(error))
        return self._open

    def finish(self) -> None:
        """Takes what an interpreter that has ended still said, and ends: a child of it may hold the socket open."""
        for _ in range(_MOST_LAST_READS):
            if not self._open or not self._read_once():
                break
        self._end(None)

    def _take_frames(self) -> None:
        position = 0
        while self._open and len(self._in) - position >= frames.HEADER.size:
            length, kind, number = frames.HEADER.unpack_from(self._in, position)
            if length > frames.MAX_BODY:
                raise ChannelBroken(f"it announced a message of {length:,} bytes")
            end = position + frames.HEADER.size + length
            if len(self._in) < end:
                break
            body = bytes(memoryview(self._in)[position + frames.HEADER.size : end])
            position = end
            self._on_frame(kind, number, body)
        del self._in[:position]

    def _end(self, reason: str | None) -> None:
        if self._open:
            self.close()
            self._on_end(reason)

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        for _, fd in self._out:
            if fd is not None:
                os.close(fd)
        self._out.clear()
        self._socket.close()
        self.release_child_end()


def decode(body: bytes) -> dict[str, Any]:
    """A JSON object from a cell.

    Raises:
        ChannelBroken: it is none, or is nested or sized so that Python refuses it.
    """
    if len(body) > _SMALL and _values(body) > _MOST_VALUES:
        raise ChannelBroken(f"it sent more than {_MOST_VALUES:,} values in one message")
    try:
        value = json.loads(body.decode("utf-8", "surrogatepass"), parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise ChannelBroken(f"it sent something that is not JSON ({type(error).__name__})") from None
    if not isinstance(value, dict):
        raise ChannelBroken("it sent JSON that is no object")
    return value


_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"')


def _values(body: bytes) -> int:
    """About how many values a JSON text holds, the costly ones (objects, lists) counted tenfold.

    Without this a message of 64 MB that is nothing but empty lists stops the host for 8 s and takes 1.7 GB.
    """
    if body.count(b'"') > _MOST_QUOTES:
        return _MOST_VALUES + 1
    rough = body.count(b",") + 10 * (body.count(b"[") + body.count(b"{"))
    if rough <= _MOST_VALUES:
        return rough
    bare = _TEXT.sub(b"", body)
    return bare.count(b",") + 10 * (bare.count(b"[") + bare.count(b"{"))


def _refuse(name: str) -> Any:
    raise ValueError(name)


def _finite(text: str) -> float:
    """JSON has no infinity, but `1e999` would become one."""
    value = float(text)
    return value if isfinite(value) else _refuse(text)
