"""The host's side of a frozen interpreter: see `guest/freeze.py`.

Its socket is in the hands of code that may be hostile: answers are one small number, within a time, or it counts as
lost. What it can gain by lying is a state of its own that is not the one it had.
"""

from __future__ import annotations

import array
import asyncio
import json
import socket
from collections.abc import Sequence

from terraphim_rlm.core.errors import SandboxLost, SnapshotLost, SnapshotRefused
from terraphim_rlm.sandbox.link.guest import Child, Guest

_SECONDS = 10.0
_MOST_PID = 1 << 22


class Frozen:
    """One frozen interpreter. `close` it, or it lives as long as the sandbox."""

    def __init__(self, guest: Guest, line: socket.socket, child: Child) -> None:
        self._guest = guest
        self._line = line
        self._child = child
        self._lock = asyncio.Lock()
        self._closed = False

    async def check(self) -> None:
        """Asks whether it is still there.

        Raises:
            SnapshotLost: it is not.
        """
        await self._ask({"op": "check"}, ())

    async def thaw(self, fds: Sequence[int], *, branch: bool) -> Child:
        """A new interpreter that goes on from it, parked; `fds`: its standard streams and its channel.

        Args:
            branch: its random numbers shall differ from those of others made from the same one.

        Raises:
            SnapshotLost: it is gone.
            SnapshotRefused: there is no room for another process.
        """
        await self._guest.settled()
        pid = await self._ask({"op": "thaw", "branch": branch}, fds)
        if pid == 0:
            raise no_fork()
        try:
            return await self._guest.adopt(pid)
        except SandboxLost as error:
            raise _lost("What came back of it ended at once.") from error

    async def _ask(self, request: dict[str, object], fds: Sequence[int]) -> int:
        loop = asyncio.get_running_loop()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        async with self._lock:
            try:
                self._line.sendmsg([json.dumps(request).encode()], rights)
                async with asyncio.timeout(_SECONDS):
                    data = await loop.sock_recv(self._line, 32)
            except (OSError, TimeoutError) as error:
                raise _lost("It does not answer.") from error
            finally:
                if self._closed:
                    self._line.close()
        if not (data.isdigit() and int(data) < _MOST_PID and int(data) != 1):
            raise _lost("It is gone." if not data else "It gave no answer that makes sense.")
        return int(data)

    def close(self) -> None:
        """Ends it. Idempotent."""
        self._closed = True
        self._child.signal(9)
        if not self._lock.locked():  # who waits for its answer hears the end, and closes what he listens on
            self._line.close()


def no_fork() -> SnapshotRefused:
    """A fork that the kernel refused."""
    return SnapshotRefused(
        "The sandbox has no room for another interpreter.",
        fix="End processes in it or forget snapshots, or give it more with Resources(pids=.., memory_mb=..).",
    )


def _lost(why: str) -> SnapshotLost:
    return SnapshotLost(f"The interpreter of this snapshot was ended by code in the sandbox. {why}")
