"""Files of a sandbox that runs our guest: each transfer is a short-lived process inside, and a pipe to it.

The host opens no path of a sandbox. What comes through the pipe is hostile: it is counted, and parsed strictly.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import secrets
import struct
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, suppress
from typing import Literal

from terraphim_rlm.core.errors import (
    DiskFull,
    ExecutionFailed,
    ExecutionTimeout,
    FileTooLarge,
    InvalidArgument,
    PathDenied,
    PathIsFolder,
    PathNotFound,
    RlmError,
    SandboxLost,
)
from terraphim_rlm.core.values import FileInfo
from terraphim_rlm.guest import files as inside
from terraphim_rlm.sandbox.link.guest import Child, Exit, Guest
from terraphim_rlm.sandbox.link.room import Room
from terraphim_rlm.sandbox.undivided import undivided

_PIPE_BYTES = 1 << 20
_LENGTH = struct.Struct("<I")
_STALL_SECONDS = 60.0
"""That the other end may stand still while we wait for it: code in the sandbox can stop any process of its own."""
_END_SECONDS = 2.0
"""That a transfer has to end once its pipe is closed."""
_MOST_IN_A_ROW = 16
"""Blocks that are moved before others get their turn, however fast the other end is."""
_KINDS: Mapping[bytes, Literal["file", "folder", "link", "other"]] = {
    b"f": "file",
    b"d": "folder",
    b"l": "link",
    b"o": "other",
}
_FULL_FIX = "Remove files in the sandbox, or open one with more of Resources(disk_mb=.., memory_mb=..)."

_REFUSALS: Mapping[int, tuple[type[RlmError], str, str]] = {
    errno.ENOENT: (PathNotFound, "is not there", ""),
    errno.ENOTDIR: (PathNotFound, "is not there: a part of it is no folder", ""),
    errno.ELOOP: (PathNotFound, "leads nowhere: its links go round", ""),
    errno.EISDIR: (PathIsFolder, "is a folder", ""),
    errno.ENAMETOOLONG: (InvalidArgument, "has a name in it that is too long", "Use names of at most 255 bytes."),
    errno.EBUSY: (PathDenied, "is a folder of the sandbox itself", "Remove what is in it, by name."),
    errno.EROFS: (PathDenied, "lies in a part of the sandbox that is read-only", ""),
    errno.ENOTEMPTY: (PathDenied, "is being written to", "Try again when nothing writes there."),
    errno.EAGAIN: (PathDenied, "is in use", "Try again when nothing in the sandbox uses it."),
    errno.ENOSPC: (DiskFull, "does not fit: the sandbox's disk is full", _FULL_FIX),
    errno.EDQUOT: (DiskFull, "does not fit: the sandbox's disk is full", _FULL_FIX),
    errno.EFBIG: (DiskFull, "does not fit: it is larger than the sandbox's disk", _FULL_FIX),
    errno.ENOMEM: (DiskFull, "does not fit: the sandbox has no memory left", _FULL_FIX),
    inside.NO_FILE: (PathDenied, "is no regular file", "Name a file; pipes, sockets and devices are none."),
    inside.TOO_LARGE: (FileTooLarge, "is larger than the limit", "Read it in blocks, or raise `limit`."),
    inside.TOO_MANY: (
        FileTooLarge,
        f"holds more than {inside.MOST_ENTRIES:,} entries",
        "List the folders in it one by one, or `sh` a command that counts or finds.",
    ),
}  # fmt: skip
"""Exit code of a transfer -> what is raised, and how the sentence about the path goes on."""


class GuestFiles:
    """See `contract.MachineFiles`.

    Args:
        come: makes the machine's files the ones that are seen; awaited before each transfer.
    """

    def __init__(self, guest: Guest, come: Callable[[], Awaitable[None]]) -> None:
        self._guest = guest
        self._come = come

    async def read(self, path: str, *, size: int, limit: int | None) -> AsyncGenerator[bytes, None]:
        total = 0
        async with self._transfer("read", path, -1 if limit is None else limit) as transfer:
            while block := await transfer.receive(size):
                total += len(block)
                if limit is not None and total > limit:
                    raise _refusal(inside.TOO_LARGE, path)
                yield block
            await transfer.finish()

    async def write(self, path: str, blocks: AsyncIterable[bytes | memoryview]) -> None:
        draft = f".trlm-{secrets.token_hex(8)}".encode()
        async with self._transfer("write", path, draft, writes=True) as transfer:
            with suppress(BrokenPipeError):  # it has refused; its end says why
                async for block in blocks:
                    await transfer.send(block)
                await transfer.commit()
            await transfer.finish()

    async def entries(self, path: str, *, deep: bool) -> list[FileInfo]:
        data = bytearray()
        async with self._transfer("entries", path, deep) as transfer:
            while block := await transfer.receive(_PIPE_BYTES):
                data += block
                if len(data) > 2 * inside.MOST_LISTED:
                    raise _refusal(inside.TOO_MANY, path)
            await transfer.finish()
        records = bytes(data).split(b"\0")
        if records.pop() or len(records) > inside.MOST_ENTRIES:
            raise _strange(path)
        return [_entry(record, path) for record in records]

    async def remove(self, path: str) -> None:
        async with self._transfer("remove", path) as transfer:
            while await transfer.receive(_PIPE_BYTES):
                pass  # signs of life
            await transfer.finish()

    @asynccontextmanager
    async def _transfer(
        self, name: str, path: str, *more: object, writes: bool = False
    ) -> AsyncIterator[_Transfer]:
        """A process inside and our end of its pipe; neither outlives the block, nor does a draft."""
        await self._come()
        arguments = [path.encode("utf-8", "surrogateescape"), *more]
        with Room() as held, Room() as own:
            null = held.null()  # to the end: what sweeps then needs one, and may have no room for it
            theirs = held.enter_context(Room())
            if writes:
                its, ours = own.pipe(reader=theirs)
            else:
                ours, its = own.pipe(writer=theirs)
            os.set_blocking(ours, False)
            with suppress(OSError):  # an ordinary user may have only so much in pipes
                fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            child = None
            try:
                with theirs:
                    child = await self._guest.transfer(name, arguments, (its, null, null))
                yield _Transfer(child, ours, path)
            finally:
                own.close()
                await undivided(self._end(child, null, arguments if writes else None))

    async def _end(self, child: Child | None, null: int, written: Sequence[object] | None) -> None:
        """Sees to the end of a transfer whose pipe is closed.

        A `write` that was killed, by whomever, leaves its draft, which would take up room for ever.
        """
        end = None if child is None else await _over(child, _END_SECONDS if written else 0)
        if written and (end is None or end.signal is not None):
            with suppress(SandboxLost):  # and the draft with it
                sweeping = await self._guest.transfer("sweep", written, (null, null, null))
                await _over(sweeping, _END_SECONDS)


class _Transfer:
    """One transfer under way: our end of its pipe, and the process at the other."""

    def __init__(self, child: Child, fd: int, path: str) -> None:
        self._child = child
        self._fd = fd
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._in_a_row = 0

    async def receive(self, size: int) -> bytes:
        """The next bytes, at most `size`; none at the end."""
        if self._in_a_row >= _MOST_IN_A_ROW:
            self._in_a_row = 0
            await asyncio.sleep(0)
        while True:
            try:
                data = os.read(self._fd, size)
            except BlockingIOError:
                self._in_a_row = 0
                await self._ready(self._loop.add_reader, self._loop.remove_reader)
            else:
                self._in_a_row += 1
                return data

    async def send(self, block: bytes | memoryview) -> None:
        """Raises:
        BrokenPipeError: nobody takes it any more.
        """
        rest = memoryview(block).cast("B")
        while rest:
            piece, rest = rest[:_PIPE_BYTES], rest[_PIPE_BYTES:]
            await self._put(memoryview(_LENGTH.pack(len(piece))))
            await self._put(piece)

    async def commit(self) -> None:
        """All is sent."""
        await self._put(memoryview(_LENGTH.pack(0)))

    async def _put(self, data: memoryview) -> None:
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                await self._ready(self._loop.add_writer, self._loop.remove_writer)

    async def _ready(self, add: Callable[..., None], remove: Callable[[int], object]) -> None:
        ready = self._loop.create_future()
        add(self._fd, _settle, ready)
        try:
            async with asyncio.timeout(_STALL_SECONDS):
                await ready
        except TimeoutError:
            raise ExecutionTimeout(
                f"{self._path!r}: nothing has moved for {_STALL_SECONDS:.0f} seconds.",
                fix="See what in the sandbox stops its processes, then try again.",
                path=self._path,
            ) from None
        finally:
            remove(self._fd)

    async def finish(self) -> None:
        """Waits for the other end to be done.

        Raises:
            RlmError: what it refused to do, and why.
        """
        end = await _over(self._child, _STALL_SECONDS)
        if end == Exit(None, None):
            raise SandboxLost("The sandbox ended while a file was transferred.")
        if end.code is None:
            raise ExecutionFailed(
                f"{self._path!r}: something in the sandbox ended the transfer (signal {end.signal}).",
                fix="Try again when no code there kills processes, and there is memory left.",
                path=self._path,
            )
        if end.code:
            raise _refusal(end.code, self._path)


async def _over(child: Child, seconds: float) -> Exit:
    """How a process ended; after so many seconds it is killed, for code in the sandbox can stop it."""
    if not child.exited.done():
        await asyncio.wait({child.exited}, timeout=seconds)
        if not child.exited.done():
            child.kill()
    return await child.ended()


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _entry(record: bytes, folder: str) -> FileInfo:
    fields = record.split(b" ", 4)
    if len(fields) != 5 or fields[0] not in _KINDS or not fields[4]:
        raise _strange(folder)
    try:
        size, mode, modified = (int(field) if len(field) <= 20 else -1 for field in fields[1:4])
    except ValueError:
        raise _strange(folder) from None
    name = fields[4].decode("utf-8", "surrogateescape")
    return FileInfo(name, _KINDS[fields[0]], max(size, 0), mode & 0o7777, modified / 1e9)


def _refusal(code: int, path: str) -> RlmError:
    if code in (inside.ABANDONED, inside.CRASHED) or code > inside.CRASHED:
        return _strange(path)
    kind, text, fix = _REFUSALS.get(code, (PathDenied, f"cannot be used: {os.strerror(code)}", ""))
    return kind(f"{path!r} {text}.", fix=fix, path=path)


def _strange(path: str) -> ExecutionFailed:
    return ExecutionFailed(
        f"{path!r}: the transfer ended in a way that our side of the sandbox never ends it.",
        fix="Try again; if it stays so, open another sandbox.",
        path=path,
    )
