"""The files of a sandbox, as callers use them: whole, as text, in blocks."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import replace
from io import BytesIO

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.core.values import FileInfo
from terraphim_rlm.sandbox.checks import is_plain
from terraphim_rlm.sandbox.contract import MachineFiles
from terraphim_rlm.sandbox.statistics import Tally

READ_LIMIT = 100_000_000
"""Bytes that `read` takes when nothing else is said."""
BLOCK = 1 << 18
_MOST_BLOCK = 64 << 20
_MOST_PATH = 4095
"""Bytes that a system call takes (PATH_MAX of Linux, less its NUL)."""
_HOME = "/work"

Path = str | os.PathLike[str]
"""Absolute, or relative to `/work`. Bytes that are no UTF-8 are written as `os.fsdecode` writes them."""
Block = bytes | bytearray | memoryview
Infos = list[FileInfo]  # within `Files`, `list` is something else


class Files:
    """What code in the sandbox reads and writes itself: links lead where they lead there.

    Up to eight transfers go on at once, beside executions. Snapshots wait for them, so take none while you are in
    the middle of `read_blocks`.

    All raise:
        InvalidArgument: the path is none.
        PathNotFound, PathIsFolder: as they say.
        PathDenied: code in the sandbox may not do that either; or it is a pipe, socket or device.
        SandboxLost: the sandbox has ended.
    """

    def __init__(self, turn: Callable[[], AbstractAsyncContextManager[MachineFiles]], tally: Tally) -> None:
        self._turn = turn
        self._tally = tally

    async def read(self, path: Path, limit: int | None = READ_LIMIT) -> bytes:
        """A file's whole content.

        Raises:
            FileTooLarge: it has more than `limit` bytes; None = no limit.
        """
        content = (
            BytesIO()
        )  # it gives away what it holds uncopied; joining blocks would touch twice the memory
        async with aclosing(self._read(path, BLOCK, limit)) as blocks:
            async for block in blocks:
                content.write(block)
        return content.getvalue()

    async def read_text(self, path: Path, encoding: str = "utf-8", limit: int | None = READ_LIMIT) -> str:
        """A file's whole content as text.

        Raises:
            UnicodeDecodeError: it is none in this encoding.
            FileTooLarge: it has more than `limit` bytes.
        """
        return (await self.read(path, limit)).decode(encoding)

    def read_blocks(self, path: Path, size: int = BLOCK) -> AsyncGenerator[bytes, None]:
        """A file's content in blocks of at most `size` bytes, read no faster than they are taken.

        Leaving the loop early ends the transfer soon; `contextlib.aclosing` ends it at once.
        """
        return self._read(path, size, None)

    async def _read(self, path: Path, size: int, limit: int | None) -> AsyncGenerator[bytes, None]:
        full = _absolute(path)
        _check_number("size of a block", size, 1, _MOST_BLOCK)
        if limit is not None:
            _check_number("limit", limit, 0, 1 << 62)
        async with self._turn() as files, aclosing(files.read(full, size=size, limit=limit)) as blocks:
            async for block in blocks:
                self._tally.read(len(block))
                yield block

    async def write(self, path: Path, content: str | Block) -> None:
        """Makes or replaces a file; folders that are missing are made. All or nothing.

        Args:
            content: text is written as UTF-8.

        Raises:
            UnicodeEncodeError: the text cannot be written so.
            DiskFull: it does not fit; what was there before still is.
        """
        if isinstance(content, str):
            content = content.encode()
        await self._write(path, [content])

    async def write_blocks(self, path: Path, blocks: Iterable[Block] | AsyncIterable[Block]) -> None:
        """As `write`, from blocks as they come. When `blocks` raises, what was there before still is."""
        if isinstance(blocks, (str, bytes, bytearray, memoryview)):
            raise InvalidArgument("These are no blocks, but one of them.", fix="Use `write`.")
        await self._write(path, blocks)

    async def _write(self, path: Path, blocks: Iterable[Block] | AsyncIterable[Block]) -> None:
        full = _absolute(path)
        if full.endswith("/"):
            raise InvalidArgument(f"{full!r} is no path of a file.")
        async with self._turn() as files, aclosing(self._counted(blocks)) as counted:
            await files.write(full, counted)

    async def _counted(
        self, blocks: Iterable[Block] | AsyncIterable[Block]
    ) -> AsyncGenerator[memoryview, None]:
        if isinstance(blocks, AsyncIterable):
            async for block in blocks:
                yield self._checked(block)
        else:
            for block in blocks:
                yield self._checked(block)

    def _checked(self, block: Block) -> memoryview:
        if not isinstance(block, (bytes, bytearray, memoryview)):
            raise InvalidArgument(f"A file's content must be bytes, not {type(block).__name__}.")
        view = memoryview(block).cast("B")
        self._tally.written(len(view))
        return view

    async def list(self, path: Path = ".", deep: bool = False) -> Infos:
        """What is in a folder, sorted by path, hidden files too; links are not followed.

        Args:
            deep: with all that is in its folders. One that may not be read is listed without what is in it.

        Raises:
            FileTooLarge: there are more than 100,000 entries.
        """
        full = _absolute(path)
        async with self._turn() as files:
            found = await files.entries(full, deep=deep)
        if os.fspath(path).startswith("/"):
            before = full.rstrip("/") + "/"
            found = [replace(info, path=before + info.path) for info in found]
        return sorted(found, key=lambda info: info.path)

    async def remove(self, path: Path) -> None:
        """A file, a link, or a folder with all in it; links are not followed.

        When it fails midway, what was removed until then stays so.
        """
        full = _absolute(path).rstrip("/")
        if full.rpartition("/")[2] in ("", ".", ".."):
            raise InvalidArgument(
                f"{os.fspath(path)!r} names nothing that can be removed.", fix="Name it itself."
            )
        async with self._turn() as files:
            await files.remove(full)


def _absolute(path: Path) -> str:
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(text, str) or not text or not is_plain(text):
        raise InvalidArgument(f"{str(path)[:80]!r} is no path.")
    full = text if text.startswith("/") else f"{_HOME}/{text}"
    if len(full.encode("utf-8", "surrogateescape")) > _MOST_PATH:
        raise InvalidArgument(f"A path of {len(text):,} characters is longer than a system takes.")
    return full


def _check_number(what: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidArgument(f"A {what} must be {least:,} to {most:,}, not {str(value)[:40]!r}.")
