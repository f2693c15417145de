"""Sandboxes that read, write and list files wrongly."""

from __future__ import annotations

import os
import shlex
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import Any

from terraphim_rlm.core.errors import FileTooLarge, PathDenied, PathIsFolder, PathNotFound, RlmError
from terraphim_rlm.core.values import FileInfo
from terraphim_rlm.testing.conformance.lies.wrapped import Wrapped, fault
from terraphim_rlm.testing.conformance.model import Box

Infos = list[FileInfo]  # within `Files`, `list` is something else


class Files:
    """Forwards all. Lies override."""

    def __init__(self, box: Box) -> None:
        self._box = box
        self._files = box.files

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)

    async def read(self, path: Any, *limits: Any, **options: Any) -> bytes:
        content: bytes = await self._files.read(path, *limits, **options)
        return content

    async def write(self, path: Any, content: Any) -> None:
        await self._files.write(path, content)

    async def list(self, *arguments: Any, **options: Any) -> Infos:
        found: Infos = await self._files.list(*arguments, **options)
        return found

    async def remove(self, path: Any) -> None:
        await self._files.remove(path)


def lies(name: str, *, raises: tuple[type[Exception], ...] = ()) -> Callable[[type[Files]], type[Files]]:
    """Enters a sandbox with files like these into the table."""

    def enter(kind: type[Files]) -> type[Files]:
        class Lying(Wrapped):
            @property
            def files(self) -> Files:
                return kind(self._box)

        fault(name, "files", raises=raises)(Lying)
        return kind

    return enter


@lies("turns line ends of files into LF")
class Translates(Files):
    async def write(self, path: Any, content: Any) -> None:
        told = content.replace("\r\n", "\n") if isinstance(content, str) else content
        await super().write(path, told)


@lies("ends the content of a file at the first NUL byte")
class EndsAtNul(Files):
    async def read(self, path: Any, *limits: Any, **options: Any) -> bytes:
        return (await super().read(path, *limits, **options)).partition(b"\0")[0]


@lies("changes one byte of a large file")
class Flips(Files):
    async def read(self, path: Any, *limits: Any, **options: Any) -> bytes:
        content = bytearray(await super().read(path, *limits, **options))
        if len(content) > 1 << 20:
            content[len(content) // 3] ^= 1
        return bytes(content)


@lies("cuts a large file that is written")
class Cuts(Files):
    async def write(self, path: Any, content: Any) -> None:
        await super().write(path, content[: 1 << 20] if isinstance(content, bytes) else content)


@lies("cuts at the limit and does not say so")
class CutsAtLimit(Files):
    async def read(self, path: Any, *limits: Any, **options: Any) -> bytes:
        try:
            return await super().read(path, *limits, **options)
        except FileTooLarge:
            return (await super().read(path))[: options["limit"]]


@lies("begins paths in the folder of the code", raises=(PathNotFound,))
class FollowsFolder(Files):
    async def read(self, path: Any, *limits: Any, **options: Any) -> bytes:
        return await super().read(await _moved(self._box, path), *limits, **options)

    async def write(self, path: Any, content: Any) -> None:
        await super().write(await _moved(self._box, path), content)


async def _moved(box: Box, path: Any) -> Any:
    told = await box.run("import os; print(os.getcwd(), end='')")
    return os.path.join(told.stdout, path) if isinstance(path, str) and path else path


@lies("gives names to a shell")
class Expands(Files):
    async def remove(self, path: Any) -> None:
        await self._box.sh(f"rm -rf {path}")


@lies("makes up an empty file where there is none")
class MakesUp(Files):
    async def read(self, path: Any, *limits: Any, **options: Any) -> bytes:
        try:
            return await super().read(path, *limits, **options)
        except PathNotFound:
            return b""


@lies("takes a folder for a file that is not there")
class ConfusesFolders(Files):
    async def read(self, path: Any, *limits: Any, **options: Any) -> bytes:
        try:
            return await super().read(path, *limits, **options)
        except PathIsFolder:
            raise PathNotFound(f"{path} is not there.") from None


@lies("reads devices")
class ReadsDevices(Files):
    async def read(self, path: Any, *limits: Any, **options: Any) -> bytes:
        try:
            return await super().read(path, *limits, **options)
        except PathDenied:
            told: bytes = (await self._box.sh(f"head -c 100 {shlex.quote(os.fspath(path))}")).stdout_bytes
            return told


@lies("ignores what it may not do")
class IgnoresRefusals(Files):
    async def write(self, path: Any, content: Any) -> None:
        try:
            await super().write(path, content)
        except PathDenied:
            return


@lies("does not follow links")
class FollowsNone(Files):
    async def write(self, path: Any, content: Any) -> None:
        if isinstance(path, str):
            await self._box.sh(f"[ ! -L {shlex.quote(path)} ] || rm {shlex.quote(path)}")
        await super().write(path, content)


@lies("writes over the content that was there and leaves its rest")
class LeavesRest(Files):
    async def write(self, path: Any, content: Any) -> None:
        rest = b""
        try:
            rest = (await super().read(path))[len(content) :]
        except (RlmError, TypeError):
            rest = b""
        await super().write(path, content + rest if rest and isinstance(content, bytes) else content)


@lies("gives a file that is replaced another mode")
class ForgetsMode(Files):
    async def write(self, path: Any, content: Any) -> None:
        await super().write(path, content)
        await self._box.sh(f"chmod 644 {shlex.quote(os.fspath(path))}")


@lies("leaves half a file where a source fails")
class LeavesHalf(Files):
    async def write_blocks(self, path: Any, blocks: Any) -> None:
        try:
            await self._files.write_blocks(path, blocks)
        except LookupError:
            await self._files.write(path, b"half")
            raise


@lies("gives blocks of a size of its own")
class OwnBlocks(Files):
    def read_blocks(self, path: Any, size: int = 1 << 18) -> AsyncGenerator[bytes, None]:
        blocks: AsyncGenerator[bytes, None] = self._files.read_blocks(path)
        return blocks


@lies("lists no hidden files")
class HidesHidden(Files):
    async def list(self, *arguments: Any, **options: Any) -> Infos:
        return [each for each in await super().list(*arguments, **options) if not each.path.startswith(".")]


@lies("lists the first thousand entries")
class ListsThousand(Files):
    async def list(self, *arguments: Any, **options: Any) -> Infos:
        return (await super().list(*arguments, **options))[:1000]


@lies("lists in no order")
class ListsInDisorder(Files):
    async def list(self, *arguments: Any, **options: Any) -> Infos:
        return (await super().list(*arguments, **options))[::-1]


@lies("takes links for files")
class TakesLinksForFiles(Files):
    async def list(self, *arguments: Any, **options: Any) -> Infos:
        found = await super().list(*arguments, **options)
        return [replace(each, kind="file") if each.kind == "link" else each for each in found]


@lies("tells times of files in whole seconds")
class WholeSeconds(Files):
    async def list(self, *arguments: Any, **options: Any) -> Infos:
        found = await super().list(*arguments, **options)
        return [replace(each, modified=float(int(each.modified))) for each in found]


@lies("never lists what folders hold")
class ListsFlat(Files):
    async def list(self, *arguments: Any, **options: Any) -> Infos:
        return await super().list(*arguments, **{**options, "deep": False})


@lies("removes what links lead to")
class RemovesTargets(Files):
    async def remove(self, path: Any) -> None:
        if isinstance(path, str) and path:
            await self._box.sh(
                f"find {shlex.quote(path)} -type l -exec sh -c 'rm -rf \"$(readlink -f $1)\"' _ {{}} \\;"
            )
        await super().remove(path)
