"""`trlm files`: a session's files, put in and got out."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import sys
import tempfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from terraphim_rlm.core.errors import (
    DiskFull,
    InputUnreadable,
    InvalidArgument,
    PathDenied,
    PathIsFolder,
    PathNotFound,
)
from terraphim_rlm.faces.cli.options import AsJson, Debug, mode
from terraphim_rlm.faces.cli.out import speaking, write_bytes
from terraphim_rlm.faces.cli.reach import SessionOption, asked, living, route
from terraphim_rlm.faces.cli.words import clean, columns, size, when

if TYPE_CHECKING:
    from terraphim_rlm.faces.client.connection import Connection

_BLOCK = 1 << 18
_KINDS = {"folder": "d", "link": "l", "file": "-", "other": "?"}


def put(
    local: Annotated[str, typer.Argument(metavar="FILE|-", help="A file here; - is standard input.")],
    path: Annotated[
        str | None,
        typer.Argument(metavar="[PATH]", help="Where, in the session.  [default: its own name, in /work]"),
    ] = None,
    session: SessionOption = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Copies a file into a session, all or nothing."""
    with speaking("files put", mode(as_json), debug) as voice:
        target = _target(local, path)
        with _opened(local) as file:
            found = living(session)
            wanted = route(found.id, "files", "content")
            with _at_hand(file, local, found.resources["disk_mb"]) as ready:
                done = asked(lambda daemon: daemon.put(wanted, _read(ready, local), path=target))
        voice.give(done, f"{clean(done['path'])}  {size(done['size'])}")


def get(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A file in the session.")],
    local: Annotated[
        str | None,
        typer.Argument(
            metavar="[FILE|-]", help="Where to, here; - is standard output.  [default: its own name]"
        ),
    ] = None,
    session: SessionOption = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Copies a file out of a session. A file that is here is replaced, once the new one is whole."""
    with speaking("files get", mode(as_json), debug) as voice:
        if local == "-" and voice.quiet:
            raise InvalidArgument(
                "--json and the file cannot both go to standard output.", fix="Name a file."
            )
        wanted = route(living(session).id, "files", "content")
        if local == "-":
            asked(lambda daemon: _print(daemon, wanted, path))
            return
        target = _place(path, local)
        count = asked(lambda daemon: _save(daemon, wanted, path, target))
        voice.give({"path": str(target), "size": count}, f"{clean(str(target))}  {size(count)}")


def list_files(
    path: Annotated[str, typer.Argument(metavar="[PATH]", help="A folder in the session.")] = ".",
    deep: Annotated[bool, typer.Option("--deep", help="With all that is in its folders.")] = False,
    session: SessionOption = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Lists a folder of a session."""
    with speaking("files ls", mode(as_json), debug) as voice:
        wanted = route(living(session).id, "files")
        found = asked(lambda daemon: daemon.get(wanted, path=path, deep=deep))
        voice.give(found, _table(found["files"]))


def _table(found: list[dict[str, Any]]) -> str:
    rows = [
        [
            f"{_KINDS.get(each['kind'], '?')}{stat.filemode(each['mode'])[1:]}",
            size(each["size"]) if each["kind"] == "file" else "",
            when(each["modified"]),
            each["path"],
        ]
        for each in found
    ]
    return columns(("mode", "size", "modified", "path"), rows) if rows else "The folder is empty."


def _target(local: str, path: str | None) -> str:
    """The path in the session: of `PATH/` a folder in it, else itself."""
    if path is not None and not path.endswith("/"):
        return path
    if local == "-":
        raise InvalidArgument(
            "Standard input has no name of its own.", fix="Say where: trlm files put - PATH"
        )
    return f"{path or ''}{Path(local).absolute().name}"


def _place(path: str, local: str | None) -> Path:
    """The path here."""
    name = PurePosixPath(path).name
    target = Path(local or ".")
    if local is None or target.is_dir() or local.endswith("/"):
        if name in ("", ".", ".."):
            raise InvalidArgument(f"{path[:80]!r} names no file.", fix="Name one in it: trlm files ls PATH")
        target /= name
    if target.is_dir():
        raise PathIsFolder(f"{target} is a folder here.", path=str(target))
    return target


@contextmanager
def _opened(local: str) -> Iterator[BinaryIO]:
    if local == "-":
        if sys.stdin is None:
            raise InputUnreadable("Standard input is closed.", fix="Name a file.")
        yield sys.stdin.buffer
        return
    try:
        file = Path(local).open("rb")  # noqa: SIM115 - what its user raises is not translated here
    except FileNotFoundError:
        raise PathNotFound(f"There is no file {local}.", path=local) from None
    except IsADirectoryError:
        raise PathIsFolder(
            f"{local} is a folder.", fix="Put its files, or an archive of it.", path=local
        ) from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", error)
        raise InputUnreadable(f"{local} cannot be read: {why}.", path=local) from error
    with file:
        yield file


@contextmanager
def _at_hand(file: BinaryIO, name: str, disk_mb: int) -> Iterator[BinaryIO]:
    """The file itself, or what a pipe gave until its end, in a temporary file.

    A pipe may be slow: the daemon gives up a request that stands still, and a snapshot waits for every transfer. Of
    an endless one no more is taken than the session's disk refuses.
    """
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        yield file
        return
    with tempfile.TemporaryFile() as spool:
        left = (disk_mb + 1) << 20
        try:
            while left > 0 and (block := file.read(min(_BLOCK, left))):
                left -= spool.write(block)
        except OSError as error:
            raise InputUnreadable(f"{name} cannot be read: {error.strerror}.", path=name) from error
        spool.seek(0)
        yield spool


async def _read(file: BinaryIO, name: str) -> AsyncGenerator[bytes, None]:
    """Its blocks; read by a thread, since a disk may be slow."""
    import asyncio

    while True:
        try:
            block = await asyncio.to_thread(file.read, _BLOCK)
        except OSError as error:
            raise InputUnreadable(f"{name} cannot be read: {error.strerror}.", path=name) from error
        if not block:
            return
        yield block


async def _print(daemon: Connection, wanted: str, path: str) -> None:
    async with daemon.blocks(wanted, path=path) as blocks:
        async for block in blocks:
            write_bytes(block)


async def _save(daemon: Connection, wanted: str, path: str, target: Path) -> int:
    """Writes it; the count of bytes. Nothing is made here before the session has answered."""
    async with daemon.blocks(wanted, path=path) as blocks:
        with _written(target) as file:
            count = 0
            async for block in blocks:
                count += file.write(block)
    return count


@contextmanager
def _written(target: Path) -> Iterator[BinaryIO]:
    """A file that takes its place when it is whole; a pipe or device is written to as it is.

    Raises:
        PathDenied, DiskFull: it cannot be written.
    """
    try:
        if target.exists() and not target.is_file():
            with target.open("wb") as file:
                yield file
            return
        place = Path(os.path.realpath(target))
        draft = place.with_name(f".trlm-{secrets.token_hex(8)}")
        try:
            with draft.open("xb") as file:
                yield file
            draft.replace(place)
        finally:
            draft.unlink(missing_ok=True)
    except FileNotFoundError as error:
        raise PathNotFound(f"There is no folder {target.parent}.", path=str(target.parent)) from error
    except OSError as error:
        kind = DiskFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else PathDenied
        raise kind(f"{target} cannot be written: {error.strerror}.", path=str(target)) from error
