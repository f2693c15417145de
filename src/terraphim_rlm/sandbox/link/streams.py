"""What comes out of a sandbox: two pipes, read at once, capped, handed on as text while they run."""

from __future__ import annotations

import asyncio
import codecs
import os
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from io import StringIO
from typing import Literal, Self

from terraphim_rlm.core.values import Output
from terraphim_rlm.sandbox.link.room import Room

StreamName = Literal["stdout", "stderr"]
OnOutput = Callable[[StreamName, str], None]
"""Called with each piece of text as it comes."""
_READ = 1 << 16
_MOST_WAITING = 1000
"""Pieces that wait for a reader, each of its own."""


class Listener:
    """An output callback that may raise. Its first error ends the listening, and is kept for who runs the code."""

    def __init__(self, on_output: OnOutput) -> None:
        self._on_output = on_output
        self._error: Exception | None = None

    def __call__(self, name: StreamName, text: str) -> None:
        if self._error is None:
            try:
                self._on_output(name, text)
            except Exception as error:
                self._error = error

    def check(self) -> None:
        """Raises what the callback raised."""
        if self._error is not None:
            raise self._error


def listener(on_output: OnOutput | None) -> Listener | None:
    return None if on_output is None else Listener(on_output)


class Pieces:
    """What an execution says, for a reader that may be slower: an `OnOutput`, and an iterator of `Output`.

    Past a thousand waiting pieces new text joins the last one of its stream, so memory is bounded by the text, which
    its `Stream` bounds; the order of the two streams among themselves is then no longer exact.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[StreamName, StringIO]] = deque()
        self._last: dict[StreamName, StringIO] = {}
        self._news = asyncio.Event()
        self._ended = False

    def __call__(self, name: StreamName, text: str) -> None:
        if not text:
            return
        joins = self._waiting and (self._waiting[-1][0] == name or len(self._waiting) >= _MOST_WAITING)
        if not joins or name not in self._last:
            self._last[name] = StringIO()
            self._waiting.append((name, self._last[name]))
        self._last[name].write(text)
        self._news.set()

    def end(self, _: object = None) -> None:
        """Nothing more comes."""
        self._ended = True
        self._news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Output:
        while not self._waiting:
            if self._ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        name, text = self._waiting.popleft()
        if self._last.get(name) is text:
            del self._last[name]
        return Output(name, text.getvalue())


class Stream:
    """One pipe of a child. Keeps the first `limit` bytes since `begin`, and reads on past them.

    Raises:
        SandboxBusy: there is no room for a pipe.
    """

    def __init__(self, name: StreamName, limit: int) -> None:
        self.name: StreamName = name
        self.child_fd = -1
        self._limit = limit
        self._kept = bytearray()
        self.total = 0
        self._on_output: Listener | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._loop = asyncio.get_running_loop()
        with Room() as room:
            self._fd, self.child_fd = room.pipe()
            os.set_blocking(self._fd, False)
            self._loop.add_reader(self._fd, self._readable)
            room.pop_all()

    def begin(self, on_output: Listener | None) -> None:
        """A new execution starts; what a background process wrote since the last one stays in front."""
        self._on_output = on_output
        if on_output and self._kept:
            on_output(self.name, self._decoder.decode(bytes(self._kept)))

    def take(self) -> tuple[bytes, bool]:
        """What was kept since `begin`, and whether more came than was kept."""
        self.drain()
        kept, cut = bytes(self._kept), self.total > len(self._kept)
        self._kept.clear()
        self.total = 0
        self._on_output = None
        self._decoder.reset()
        return kept, cut

    def drain(self) -> None:
        """Reads what is there now; at most a pipe's worth and a bit, so that a flood cannot hold us."""
        for _ in range(32):
            if not self._read_once():
                return

    def _readable(self) -> None:
        self._read_once()

    def _read_once(self) -> bool:
        if self._fd < 0:
            return False
        try:
            data = os.read(self._fd, _READ)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.close()
            return False
        self.total += len(data)
        room = self._limit - len(self._kept)
        if room > 0:
            piece = data[:room]
            self._kept += piece
            if self._on_output:
                self._on_output(self.name, self._decoder.decode(piece))
        return True

    @property
    def at_end(self) -> bool:
        return self._fd < 0

    def release_child_end(self) -> None:
        """The child has its copy; ours must go, or the end of the pipe is never seen."""
        if self.child_fd >= 0:
            os.close(self.child_fd)
            self.child_fd = -1

    def close(self) -> None:
        self.release_child_end()
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1


def both(limit: int) -> tuple[Stream, Stream]:
    """Of one child. Raises as `Stream`."""
    with ExitStack() as undone:
        out = Stream("stdout", limit)
        undone.callback(out.close)
        err = Stream("stderr", limit)
        undone.pop_all()
    return out, err


def text(data: bytes) -> str:
    """Output as text: UTF-8, other bytes as visible escapes."""
    return data.decode("utf-8", "backslashreplace")
