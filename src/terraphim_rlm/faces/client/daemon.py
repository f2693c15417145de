"""The daemon that runs, or one that is started for it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from terraphim_rlm import __version__
from terraphim_rlm.core.errors import DaemonMismatch, DaemonUnavailable
from terraphim_rlm.core.paths import socket_path
from terraphim_rlm.faces.client.connection import Connection
from terraphim_rlm.faces.client.start import start, starting
from terraphim_rlm.faces.server.listening import refuse_elsewhere

_TRIES = 3
"""A daemon may end, idle, between being found and being asked."""
_HEALTH_SECONDS = 60.0
"""One that has just been started imports its libraries before it answers."""
_STOP_SECONDS = 60.0


@asynccontextmanager
async def daemon() -> AsyncIterator[Connection]:
    """A connection to the daemon of this data folder, which is started where none serves.

    Raises:
        DaemonUnavailable: none could be started, or it does not answer.
        DaemonMismatch: the one that runs is of another version than this package.
    """
    for left in range(_TRIES, 0, -1):
        async with Connection(socket_path()) as connection:
            try:
                health = await _health(connection)
            except DaemonUnavailable:
                if left == 1:
                    raise
                await asyncio.to_thread(start)
                continue
            _check(health)
            yield connection
            return


@asynccontextmanager
async def running_daemon() -> AsyncIterator[Connection | None]:
    """A connection to the daemon of this data folder, or None where none runs.

    Raises:
        DaemonRunning: it serves on another socket than the one of this environment.
        DaemonMismatch: the one that runs is of another version than this package.
    """
    async with Connection(socket_path()) as connection:
        try:
            health = await _health(connection)
        except DaemonUnavailable:
            refuse_elsewhere()
            yield None
        else:
            _check(health)
            yield connection


async def stop() -> int | None:
    """Ends the daemon, of whatever version; returns how many sessions it had, or None where none runs.

    One that is being started is waited for.

    Raises:
        DaemonUnavailable: it did not end.
        DaemonRunning: it serves on another socket than the one of this environment.
    """
    stopped = await _stopped()
    if stopped is None and await asyncio.to_thread(starting):
        stopped = await _stopped()
    if stopped is None:
        refuse_elsewhere()
    return stopped


async def _stopped() -> int | None:
    async with Connection(socket_path()) as connection:
        try:
            health = await _health(connection)
            pidfd = os.pidfd_open(int(health["pid"]))
        except (DaemonUnavailable, ProcessLookupError):
            return None
        try:
            await connection.post("/api/stop", {})
            await _ended(pidfd)
        finally:
            os.close(pidfd)
    return int(health["sessions"]["live"])


async def _health(connection: Connection) -> Mapping[str, Any]:
    try:
        async with asyncio.timeout(_HEALTH_SECONDS):
            found: dict[str, Any] = await connection.get("/health")
            return found
    except TimeoutError:
        raise DaemonUnavailable(
            f"The daemon at {socket_path()} does not answer.",
            fix="See what it does, or end it: `daemon.lock` in the data folder has its process id.",
        ) from None


def _check(health: Mapping[str, Any]) -> None:
    found = str(health.get("version"))[:40]
    if found != __version__:
        raise DaemonMismatch(
            f"The daemon that runs is of version {found}, this is {__version__}.",
            daemon=found,
            package=__version__,
        )


async def _ended(pidfd: int) -> None:
    """Waits until a process is gone."""
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    loop.add_reader(pidfd, gone.set)
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await gone.wait()
    except TimeoutError:
        raise DaemonUnavailable(
            f"The daemon did not end within {_STOP_SECONDS:g} s.",
            fix="Kill it: `daemon.lock` in the data folder has its process id. Its sandboxes end with it.",
        ) from None
    finally:
        loop.remove_reader(pidfd)
