"""One descriptor whose other side is behind a tunnel: bytes between it and the tunnel, within a window both ways."""

from __future__ import annotations

import asyncio
import fcntl
import marshal
import os
import socket
import stat
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from terraphim_rlm.guest import ends as inside

_CHUNK = 1 << 16
_MOST_DESCRIPTORS = 8
_SLACK = _CHUNK
"""That a datagram may go past its window."""


class Carrier(Protocol):
    """What a line needs of its tunnel."""

    @property
    def is_busy(self) -> bool: ...

    def say(self, kind: int, number: int, body: bytes = b"") -> None: ...

    def describe(self, fds: Sequence[int]) -> list[tuple[int, int]]: ...

    def forget(self, line: Line, *, tell: bool) -> None: ...

    def release(self) -> None: ...


def kind_of(fd: int) -> int:
    """What a process in the sandbox is to get for this descriptor.

    Raises:
        ValueError: nothing that goes through a tunnel.
    """
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return inside.MEMORY
    if stat.S_ISFIFO(mode):
        reads = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
        return inside.READS if reads else inside.WRITES
    if stat.S_ISCHR(mode) and os.fstat(fd).st_rdev == os.stat(os.devnull).st_rdev:
        return inside.NULL
    if stat.S_ISSOCK(mode):
        with socket.socket(fileno=os.dup(fd)) as known:
            return inside.PACKETS if known.type == socket.SOCK_SEQPACKET else inside.STREAM
    raise ValueError(f"descriptor {fd} is of a kind that does not go through a tunnel")


class Line:
    """Takes over `fd`, which is of the kind that the sandbox's process is to get: we stand in for that process."""

    def __init__(self, tunnel: Carrier, number: int, kind: int, fd: int) -> None:
        self._tunnel = tunnel
        self.number = number
        self.kind = kind
        self.before: Sequence[Line] = ()
        """Pipes in which everything that came before has to be, before anything of this one is."""
        self._socket = socket.socket(fileno=fd) if kind in (inside.STREAM, inside.PACKETS) else None
        self._fd = fd
        os.set_blocking(fd, False)
        self._credit = inside.WINDOW
        """Bytes that the guest still takes."""
        self._expected = inside.WINDOW
        """Bytes that the guest may still send."""
        self._waiting: deque[memoryview] = deque()
        self._ending = False
        self._open = True
        self._loop = asyncio.get_running_loop()
        self._reads = self._writes = False
        self.watch()

    @property
    def is_behind(self) -> bool:
        """Whether something waits to be written."""
        return self._open and bool(self._waiting)

    def watch(self) -> None:
        """Looks for what can be done now. A pipe that we write is read as well, which tells that nobody reads it."""
        reads = self._open and (self.kind == inside.WRITES or (self._credit > 0 and not self._tunnel.is_busy))
        writes = self._open and bool(self._waiting)
        if reads != self._reads:
            self._reads = reads
            self._set(self._loop.add_reader, self._loop.remove_reader, reads, self._readable)
        if writes != self._writes:
            self._writes = writes
            self._set(self._loop.add_writer, self._loop.remove_writer, writes, self._writable)

    def _set(
        self, add: Callable[..., Any], remove: Callable[[int], Any], on: bool, act: Callable[[], None]
    ) -> None:
        if on:
            add(self._fd, act)
        else:
            remove(self._fd)

    def _readable(self) -> None:
        if self.kind == inside.WRITES:
            self.close(tell=True)  # its reader has gone
            return
        fds: list[int] = []
        try:
            if self._socket is None:
                data = os.read(self._fd, min(_CHUNK, self._credit))
            else:
                size = _CHUNK if self.kind == inside.PACKETS else min(_CHUNK, self._credit)
                data, ancillary, flags, _ = self._socket.recvmsg(
                    size, socket.CMSG_SPACE(_MOST_DESCRIPTORS * 4)
                )
                fds = descriptors(ancillary)
                if (
                    flags & socket.MSG_CTRUNC
                ):  # the kernel had no room for all of them: what is said without them is wrong
                    data = b""
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            for fd in fds:
                os.close(fd)
            self.close(tell=True)
            return
        self._credit -= len(data)
        if fds or self.kind == inside.PACKETS:
            described = self._tunnel.describe(fds)
            self._tunnel.say(inside.PACKET, self.number, marshal.dumps((data, described), 4))
        else:
            self._tunnel.say(inside.DATA, self.number, data)
        self.watch()

    def took(self, count: int) -> bool:
        """The guest has taken so much; False when that was never sent."""
        self._credit += count
        self.watch()
        return self._credit <= inside.WINDOW

    def expect(self, count: int) -> bool:
        """So much comes; False when that is more than there is room for."""
        self._expected -= count
        return self._expected >= (-_SLACK if self.kind == inside.PACKETS else 0) and self.kind != inside.READS

    def put(self, data: bytes) -> None:
        """What came for us."""
        if not self._open:
            return
        self._waiting.append(memoryview(data))
        self._writable()

    def _writable(self) -> None:
        taken = 0
        try:
            while self._waiting:
                data = self._waiting[0]
                sent = os.write(self._fd, data)
                taken += sent
                if sent == len(data):
                    self._waiting.popleft()
                else:
                    self._waiting[0] = data[sent:]
        except BlockingIOError:
            pass
        except OSError:
            self.close(tell=True)
            return
        if taken and not self._ending:
            self._expected += taken
            self._tunnel.say(inside.CREDIT, self.number, inside.COUNT.pack(taken))
        if not self._waiting:
            if self._ending:
                self.close()
            self._tunnel.release()
        self.watch()

    def end(self) -> None:
        """The other side is closed; what has come is still written."""
        self._ending = True
        if not self._waiting:
            self.close()

    def close(self, *, tell: bool = False) -> None:
        """Idempotent. `tell`: the other side does not know."""
        if not self._open:
            return
        self._open = False
        self._waiting.clear()
        self.watch()
        if self._socket is None:
            os.close(self._fd)
        else:
            self._socket.close()
        self._tunnel.forget(self, tell=tell and not self._ending)


def descriptors(ancillary: Sequence[tuple[int, int, bytes]]) -> list[int]:
    """Those that came with a message."""
    found: list[int] = []
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found += [int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data) - 3, 4)]
    return found
