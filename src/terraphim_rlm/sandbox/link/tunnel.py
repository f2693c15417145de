"""The host's end of a guest behind one byte stream: what `link.guest` hands over as descriptors goes through as bytes.

For backends whose sandboxes share no descriptors with us. To the rest of this package nothing differs: it gets a socket
to send requests and descriptors on. Each descriptor becomes a *line*: a number for its other side, see
`guest/tunnel.py`. All that comes back is hostile: sizes, numbers, windows and order are checked, and one mistake ends it.
"""

from __future__ import annotations

import asyncio
import errno
import marshal
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from terraphim_rlm.guest import ends as inside
from terraphim_rlm.sandbox.link.lines import Line, descriptors, kind_of

_REQUEST_BYTES = 1 << 20
_MOST_DESCRIPTORS = 16
_PIECE = 1 << 18
_REPORT = 17
"""Bytes of a supervisor's report."""
_EXITED, _FAILED = 3, 4
_REPORT_OF = struct.Struct("<BIiii")
_MOST_HELD = 10_000
"""Words that wait for a pipe of ours to be emptied; each is of a window's bytes at most, or a report."""


class Stream(Protocol):
    """What a tunnel goes through. It calls `Tunnel.hear`, `Tunnel.lost` and, when it has room again, `Tunnel.pump`."""

    @property
    def is_full(self) -> bool: ...

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


class Tunnel:
    """One guest behind a stream. `guest_end` is for `Guest`; closing that closes all."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.guest_end, self._requests = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for each in (self.guest_end, self._requests):
            each.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._requests.fileno(), self._requested)
        self._lines: dict[int, Line] = {}
        self._last = 0
        self._pipes: dict[int, list[Line]] = {}
        """Of what an interpreter or a program prints, by the number of the request that started it."""
        self._in = bytearray()
        self._out: deque[Callable[[], bytes | None]] = deque()
        self._held: deque[tuple[Sequence[Line], Callable[[], None]]] = deque()
        self._reports: deque[bytes] = deque()
        self.kills = 0
        """How often pid 1 says that it ended somebody for memory."""
        self._stalled = False
        """Whether lines and requests wait for room."""
        self._open = True
        self.why = ""
        """What the other side did wrong, if that ended it."""

    # Downward.

    def _requested(self) -> None:
        """Takes what `Guest` sends, one request after another."""
        while self._open and not self._stream.is_full and not self._out:
            try:
                data, ancillary, flags, _address = self._requests.recvmsg(
                    _REQUEST_BYTES, socket.CMSG_SPACE(_MOST_DESCRIPTORS * 4)
                )
            except BlockingIOError:
                return
            except OSError:
                data, ancillary, flags = b"", [], 0
            fds = descriptors(ancillary)
            if not data:
                self.close()
                return
            request = marshal.loads(data)  # noqa: S302 - of our own `Guest`
            if flags & socket.MSG_CTRUNC:  # the kernel had no room for all of them
                for fd in fds:
                    os.close(fd)
                self._tell(_REPORT_OF.pack(_FAILED, request["id"], errno.EMFILE, 0, 0))
                continue
            described = self.describe(fds)
            pipes = [self._lines[number] for kind, number in described if kind == inside.WRITES]
            if pipes:
                self._pipes[request["id"]] = pipes
            self.say(inside.REQUEST, 0, marshal.dumps((data, described), 4))

    def describe(self, fds: Sequence[int]) -> list[tuple[int, int]]:
        """Makes lines of descriptors, which it takes over: what the other side is to make of each."""
        described: list[tuple[int, int]] = []
        made: list[Line] = []
        for fd in fds:
            kind = kind_of(fd)
            self._last += 1
            if kind == inside.MEMORY:
                self._send_memory(self._last, fd)
            elif kind == inside.NULL:
                os.close(fd)
            else:
                line = Line(self, self._last, kind, fd)
                self._lines[self._last] = line
                made.append(line)
            described.append((kind, self._last))
        pipes = [line for line in made if line.kind == inside.WRITES]
        for line in made:
            if line.kind == inside.STREAM:
                line.before = pipes
        self._forget_memory(described)
        return described

    def _send_memory(self, number: int, fd: int) -> None:
        """Queues the content of a memory file, read piece by piece as there is room."""
        size, at = os.fstat(fd).st_size, 0

        def piece() -> bytes | None:
            nonlocal at
            if at >= size:
                os.close(fd)
                return None
            data = os.pread(fd, _PIECE, at)
            at = at + len(data) if data else size
            return inside.HEADER.pack(len(data), inside.FILL, number) + data

        self._out.append(piece)
        self.say(inside.SEAL, number)

    def _forget_memory(self, described: Sequence[tuple[int, int]]) -> None:
        """Once the message that hands them over is said, the other side needs no number for them."""
        for kind, number in described:
            if kind == inside.MEMORY:
                self._loop.call_soon(self.say, inside.FORGET, number)

    def say(self, kind: int, number: int, body: bytes = b"") -> None:
        """One frame, in order."""
        if not self._open:
            return
        whole = [inside.HEADER.pack(len(body), kind, number) + body]
        self._out.append(lambda: whole.pop() if whole else None)
        self.pump()

    def pump(self) -> None:
        """Writes what waits, as far as there is room."""
        while self._open and self._out and not self._stream.is_full:
            data = self._out[0]()
            if data is None:
                self._out.popleft()
            else:
                self._stream.write(data)
        if self._open and self.is_busy:
            self._stalled = True
        elif self._open and self._stalled:
            self._stalled = False
            for line in list(self._lines.values()):
                line.watch()
            self._loop.call_soon(self._requested)

    @property
    def is_busy(self) -> bool:
        """Whether more is under way than there is room for; then nothing is taken from lines."""
        return bool(self._out) or self._stream.is_full

    # Upward.

    def hear(self, data: bytes) -> None:
        """Bytes from the guest."""
        self._in += data
        at = 0
        while self._open and len(self._in) - at >= inside.HEADER.size:
            length, kind, number = inside.HEADER.unpack_from(self._in, at)
            if length > inside.WINDOW + _PIECE:
                self._broken(f"it announced a frame of {length:,} bytes")
                return
            end = at + inside.HEADER.size + length
            if len(self._in) < end:
                break
            body = bytes(memoryview(self._in)[at + inside.HEADER.size : end])
            at = end
            self._take(kind, number, body)
        del self._in[:at]

    def _take(self, kind: int, number: int, body: bytes) -> None:
        if kind == inside.REPORT:
            self._report(body)
            return
        if kind == inside.KILLED:
            self.kills += 1
            return
        line = self._lines.get(number)
        if not 0 < number <= self._last or kind not in (
            inside.DATA,
            inside.PACKET,
            inside.CLOSE,
            inside.CREDIT,
        ):
            self._broken(f"it spoke of an end {number} that there never was, or sent a frame of type {kind}")
        elif line is None:
            return  # ours is closed; it does not know yet
        elif kind == inside.CREDIT:
            if len(body) != inside.COUNT.size or not line.took(inside.COUNT.unpack(body)[0]):
                self._broken("it took more than it was given")
        elif kind == inside.CLOSE:
            self.after(line.before, line.end)
        elif not line.expect(len(body)):
            self._broken("it sent more than it may")
        else:
            self.after(line.before, lambda: line.put(body))

    def _report(self, body: bytes) -> None:
        if len(body) != _REPORT:
            self._broken(f"it sent a report of {len(body)} bytes")
            return
        number = int.from_bytes(body[1:5], "little")
        if body[0] != _EXITED:
            self._tell(body)
            return
        pipes = self._pipes.pop(number, None)
        if pipes is None:
            pipes = [pipe for group in self._pipes.values() for pipe in group]
        self.after(pipes, lambda: self._tell(body))

    def after(self, pipes: Sequence[Line], act: Callable[[], None]) -> None:
        """Does it once what has come for these pipes is in them."""
        if len(self._held) > _MOST_HELD:
            self._broken("it goes on and on")
        elif self._held or any(pipe.is_behind for pipe in pipes):
            self._held.append((pipes, act))
            self.release()
        else:
            act()

    def release(self) -> None:
        """Does what need not wait any more. In order among those that wait for the same."""
        waiting: set[Line] = set()
        for _ in range(len(self._held)):
            pipes, act = self._held.popleft()
            if any(pipe.is_behind or pipe in waiting for pipe in pipes):
                waiting.update(pipes)
                self._held.append((pipes, act))
            else:
                act()

    def _tell(self, report: bytes) -> None:
        self._reports.append(report)
        self._tell_all()

    def _tell_all(self) -> None:
        if not self._open:
            return
        self._loop.remove_writer(self._requests.fileno())
        try:
            while self._reports:
                self._requests.send(self._reports[0])
                self._reports.popleft()
        except BlockingIOError:
            self._loop.add_writer(self._requests.fileno(), self._tell_all)
        except OSError:
            self.close()

    def forget(self, line: Line, *, tell: bool) -> None:
        """A line that is closed."""
        if self._lines.pop(line.number, None) is not None and tell:
            self.say(inside.CLOSE, line.number)
        self.release()

    # The end.

    def _broken(self, why: str) -> None:
        self.why = why
        self.close()

    def lost(self) -> None:
        """Nothing more comes. What has come is delivered as far as it can be; `Guest` sees the end of its socket."""
        self.close()

    def close(self) -> None:
        """Idempotent."""
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._requests.fileno())
        self._loop.remove_writer(self._requests.fileno())
        self._requests.close()
        for line in list(self._lines.values()):
            line.close()
        self._lines.clear()
        self._held.clear()
        self._out.clear()
        self._stream.close()
