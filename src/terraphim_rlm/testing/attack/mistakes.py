"""Mistakes that the host's code does not make, each as one name of it changed; see `weak`."""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from terraphim_rlm.core.errors import PathDenied
from terraphim_rlm.engine import hands
from terraphim_rlm.engine.replies import commands, parse
from terraphim_rlm.guest import frames
from terraphim_rlm.sandbox import queue
from terraphim_rlm.sandbox.languages import python
from terraphim_rlm.sandbox.link import execution, transfers
from terraphim_rlm.sandbox.link.body import Body
from terraphim_rlm.sandbox.link.channel import ChannelBroken
from terraphim_rlm.sandbox.link.room import Room
from terraphim_rlm.sandbox.pool import pool
from terraphim_rlm.testing.attack.weak import Place, attribute


def any_number(_place: Place) -> AbstractContextManager[None]:
    """Whatever execution a cell names, it is taken for the one that runs."""
    checked = python.Interpreter._frame

    def frame(self: Any, body: Body, kind: int, number: int, data: bytes) -> None:
        own = self._running.number if self._running and kind in (frames.DONE, frames.FINAL) else number
        checked(self, body, kind, own, data)

    return attribute(python.Interpreter, "_frame", frame)


def input_from_a_file(place: Place) -> AbstractContextManager[None]:
    """Standard input is a descriptor of a host file instead of a sealed memory file."""

    def opened(room: Room, _name: str, _pieces: object) -> int:
        fd = os.open(place.canary, os.O_RDONLY | os.O_CLOEXEC)
        room.callback(os.close, fd)
        return fd

    return attribute(Room, "sealed", opened)


def _unpickled(body: bytes) -> dict[str, Any]:
    try:
        value = pickle.loads(body)  # noqa: S301 - the mistake that this control makes
    except Exception as error:
        raise ChannelBroken("no pickle") from error
    return value if isinstance(value, dict) else {}


@contextlib.contextmanager
def unpickling(_place: Place) -> Iterator[None]:
    """Wherever the host reads what a cell sends, it unpickles."""
    with contextlib.ExitStack() as stack:
        for module in (python, execution):
            stack.enter_context(attribute(module, "decode", _unpickled))
        yield


@contextlib.contextmanager
def opening_paths(_place: Place) -> Iterator[None]:
    """The host opens a sandbox's files itself, below its root; where a link leads, the host's own root decides."""

    async def read(self: Any, path: str, *, size: int, limit: int | None) -> AsyncGenerator[bytes, None]:
        try:
            yield _opened(_below(self, path))
        except OSError as error:
            raise PathDenied(f"{path!r}: {error.strerror}.") from None

    async def write(self: Any, path: str, blocks: AsyncIterable[bytes | memoryview]) -> None:
        data = b"".join([bytes(block) async for block in blocks])
        try:
            fd = os.open(_below(self, path), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                os.write(fd, data)
            finally:
                os.close(fd)
        except OSError as error:
            raise PathDenied(f"{path!r}: {error.strerror}.") from None

    with attribute(transfers.GuestFiles, "read", read), attribute(transfers.GuestFiles, "write", write):
        yield


def _opened(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(fd, 1 << 20)
    finally:
        os.close(fd)


def _below(files: Any, path: str) -> str:
    outer = files._guest.link.kept.pid
    inner = Path(f"/proc/{outer}/task/{outer}/children").read_text(encoding="ascii").split()[0]
    return f"/proc/{inner}/root{path}"


def names_in_lines(_place: Place) -> AbstractContextManager[None]:
    """A listing is taken apart at the ends of lines."""
    return attribute(transfers, "bytes", lambda data: bytes(data).replace(b"\n", b"\0"), builtin=True)


def output_as_reply(_place: Place) -> AbstractContextManager[None]:
    """What a cell put out is read like a reply of the model."""
    end = hands.Hands._end

    def both(self: Any, number: str, source: str, result: Any, done: hands.Done, tell: Any) -> Any:
        words = [each for each in parse(result.stdout).commands if isinstance(each, commands.Final)]
        if words:
            done.finish = hands.Finish(words[0].text, words[0].text, "final", written=True)
        return end(self, number, source, result, done, tell)

    return attribute(hands.Hands, "_end", both)


def taken_back(_place: Place) -> AbstractContextManager[None]:
    """What a caller closes is handed to the next one."""
    take = pool.Pool.take
    kept: list[Any] = []

    async def close() -> None:
        return

    async def again(self: Any) -> Any:
        if not kept:
            kept.append(await take(self))
            kept[0].close = close
        return kept[0]

    return attribute(pool.Pool, "take", again)


def all_at_once(_place: Place) -> AbstractContextManager[None]:
    """Whoever wants a machine has it, whatever goes on there."""

    @asynccontextmanager
    async def turn(_self: Any, _lane: str | None, **_options: Any) -> AsyncIterator[None]:
        yield

    return attribute(queue.Queue, "turn", turn)
