"""The door of a run that works: a socket by which any process of its user can have it stopped.

A file that says so would have to be looked for again and again; a signal needs a process id that is still the right
one, and a program that does not use the signal itself. A socket wakes its loop at once, belongs to this run alone,
tells both ends who the other is, and answers when the run has ended and that is durable.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from terraphim_rlm.core.errors import RlmError, RunUnreachable
from terraphim_rlm.core.paths import runtime_dir
from terraphim_rlm.core.sockets import private_folder, reachable

_CANCEL = b"cancel\n"
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


class Door:
    """Listens while its block lasts. Where no socket can be made the run works without one: it can be stopped by
    whoever started it.

    Args:
        run: the run's id.
        stop: stops it; must return at once.
    """

    def __init__(self, run: str, stop: Callable[[], None]) -> None:
        self._path = door_of(run)
        self._stop = stop
        self._server: asyncio.Server | None = None
        self._ended = asyncio.Event()
        self._silent: set[asyncio.Task[None]] = set()
        self._askers: set[asyncio.Task[None]] = set()
        self._inode = 0

    async def __aenter__(self) -> Self:
        with contextlib.suppress(OSError, RlmError):
            private_folder(
                self._path.parent.parent
            )  # whoever owns it could put another folder in the place of ours
            private_folder(self._path.parent)
            self._path.unlink(missing_ok=True)  # of a process that died while the run was its own
            sock = socket.socket(socket.AF_UNIX)
            try:
                with reachable(self._path) as address:
                    sock.bind(address)
                self._inode = self._path.lstat().st_ino
                self._server = await asyncio.start_unix_server(self._visited, sock=sock)
            except BaseException:
                sock.close()
                raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._server is None:
            return
        self._hide()
        self._server.close()
        visits = self._silent | self._askers
        # A run never waits for who said nothing: that one may be stopped, or be no client of ours.
        for visit in visits if kind is not None else self._silent:
            visit.cancel()
        if visits:
            await asyncio.wait(visits)

    def _hide(self) -> None:
        """Takes the socket away, unless another process has its own there by now: a replay has the id of its run."""
        with contextlib.suppress(OSError):
            if self._path.lstat().st_ino == self._inode:
                self._path.unlink()

    def ended(self) -> None:
        """The run has ended, and that is durable: whoever stopped it is told."""
        self._ended.set()

    async def _visited(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._silent.add(task)
        try:
            sock = writer.get_extra_info("socket")
            if _uid_of(sock) not in (0, os.geteuid()) or await reader.readline() != _CANCEL:
                return
            self._silent.discard(task)
            self._askers.add(task)
            self._stop()
            await self._ended.wait()
            writer.write(json.dumps({"ended": True}).encode() + b"\n")
            await writer.drain()
        except (OSError, asyncio.CancelledError, ValueError):
            pass  # whoever asked has left, or the run's process is about to
        finally:
            writer.close()
            self._silent.discard(task)
            self._askers.discard(task)


def door_of(run: str) -> Path:
    """Where the socket of a run lies."""
    return runtime_dir() / "runs" / f"{run}.sock"


async def knock(run: str, seconds: float) -> None:
    """Has a run stopped; returns when it has ended.

    Raises:
        RunUnreachable: its process cannot be reached from here, or did not end it in that time.
    """
    try:
        async with asyncio.timeout(seconds):
            with reachable(door_of(run)) as address:
                reader, writer = await asyncio.open_unix_connection(address)
            try:
                if _uid_of(writer.get_extra_info("socket")) not in (0, os.geteuid()):
                    raise RunUnreachable(f"The socket of {run} belongs to another user.", run=run)
                writer.write(_CANCEL)
                answer = await reader.readline()
            finally:
                writer.close()
    except TimeoutError:
        raise RunUnreachable(f"{run} was told to stop and has not ended in {seconds:g} s.", run=run) from None
    except OSError as error:
        raise RunUnreachable(
            f"The process that works on {run} cannot be reached from here: {error.strerror or error}.",
            fix="Stop it where it was started: Ctrl-C, or end its process. XDG_RUNTIME_DIR must be the same here and there.",
            run=run,
        ) from error
    if not _said(answer).get("ended"):
        raise RunUnreachable(f"The process that works on {run} ended before it could answer.", run=run)


def _said(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _uid_of(sock: Any) -> int:
    """The user at the other end, as the kernel knows it."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(raw)[1])
