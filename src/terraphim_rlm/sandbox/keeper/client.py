"""The owner's side of the keeper: asks for sandboxes, hears how they ended. One event loop, no threads."""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import marshal
import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from terraphim_rlm.core.errors import InternalError, SandboxLost, SandboxStartFailed
from terraphim_rlm.sandbox.contract import Consumption, GuestEnd
from terraphim_rlm.sandbox.keeper import child
from terraphim_rlm.sandbox.keeper.doorways import Door, made
from terraphim_rlm.sandbox.keeper.file_states import FileStates, Place
from terraphim_rlm.sandbox.keeper.groups import count, gauge
from terraphim_rlm.sandbox.keeper.launch import Fork, Launch
from terraphim_rlm.sandbox.keeper.waiting import fail, settle, writable
from terraphim_rlm.sandbox.undivided import undivided

__all__ = ["Fork", "Keeper", "KeeperStatistics", "Kept", "Launch"]

_START_SECONDS = 20.0
_END_SECONDS = 15.0
_MESSAGE = 1 << 16


@dataclass(frozen=True, slots=True)
class KeeperStatistics:
    """What one keeper has done so far."""

    pid: int | None
    running: int
    started: int
    failed: int
    ended: int
    oom_kills: int
    control_groups: Mapping[str, int]
    """Controller -> version of the hierarchy in which it limits sandboxes."""


class Kept:
    """One sandbox in the keeper's care, or what sandboxes are forked from."""

    def __init__(self, keeper: Keeper, number: int, *, is_zygote: bool = False) -> None:
        loop = asyncio.get_running_loop()
        self._keeper = keeper
        self.number = number
        self.is_zygote = is_zygote
        self.pid = 0
        self.enforced: tuple[str, ...] = ()
        self._counts: Mapping[str, str] = {}
        self._oom = self._counted = 0
        self.started: asyncio.Future[None] = loop.create_future()
        self._end: asyncio.Future[GuestEnd] = loop.create_future()
        self._states = FileStates(keeper.request, number)
        self.bounded: asyncio.Future[bool] = loop.create_future()
        """Whether its file systems hold no more files than `bound` said; done soon after it."""

    async def ended(self) -> GuestEnd:
        return await asyncio.shield(self._end)

    @property
    def is_over(self) -> bool:
        return self._end.done()

    def when_over(self, told: asyncio.Future[object]) -> None:
        """Settles `told` at its end, unless somebody else has."""
        self._end.add_done_callback(lambda _: settle(told, None))

    def oom_kills(self) -> int:
        if self._end.done():
            return self._oom
        if "memory" not in self.enforced:
            self._keeper.hear()  # it watches, and tells before it kills
        self._counted = max(self._counted, count(self._counts, "oom_kill"))  # 0 when there is no room to look
        return self._oom + self._counted

    def consumption(self) -> Consumption:
        """What it takes up now."""
        return Consumption(gauge(self._counts, "memory"), gauge(self._counts, "processes"))

    def throttled(self) -> int:
        """How many CPU periods it has been stopped in for using up its share."""
        return count(self._counts, "nr_throttled")

    async def limit(self, **limits: float) -> None:
        """Changes limits of its control group: memory (bytes), pids, cpu (CPUs)."""
        await self._keeper.request({"op": "limit", "id": self.number, "limits": limits})

    async def bound(self, places: Sequence[str], most: int, uid: int | None) -> None:
        """Lets each tmpfs at `places` hold `most` files; asks for it and does not wait until it is done."""
        await self._keeper.request(
            {"op": "bound", "id": self.number, "uid": uid, "places": list(places), "most": most}
        )

    async def file_states(self, place: Place, name: str, *arguments: Any) -> Any:
        """One call of the sandbox's warden, see `keeper/views.py`; the first one starts it.

        Raises:
            OSError: it could not be done, and nothing has changed.
            SnapshotLost: the warden is gone, and all states with it.
        """
        return await self._states.call(place, name, *arguments)

    async def doors(self, uid: int | None, sockets: Sequence[Door]) -> list[socket.socket]:
        """Sockets that listen inside the sandbox and are answered here; `uid` is whose it is. Raises OSError."""
        return await made(self._keeper.request, self.number, uid, sockets)

    def on_file_states(self, data: bytes) -> None:
        self._states.hear(data)

    async def kill(self) -> GuestEnd:
        """Ends it; returns when nothing of it is left.

        Raises:
            SandboxLost: the kernel has not let go of it in 15 seconds; the keeper goes on trying.
        """
        if not self._end.done():
            with contextlib.suppress(
                SandboxLost
            ):  # the keeper is gone; its hanging up is the end we wait for
                await self._keeper.request({"op": "kill", "id": self.number})
        try:
            async with asyncio.timeout(_END_SECONDS):
                return await self.ended()
        except TimeoutError:
            raise SandboxLost(
                f"The sandbox was killed {_END_SECONDS:.0f} seconds ago and process {self.pid} is still there.",
                fix="See what it waits for: cat /proc/PID/stack. A full or hung disk is the usual cause.",
                pid=self.pid,
            ) from None

    def on_spawned(self, pid: int, enforced: Sequence[str], counts: Mapping[str, str]) -> None:
        self.pid, self.enforced, self._counts = pid, tuple(enforced), counts
        settle(self.started, None)

    def on_oom(self, kills: int) -> None:
        self._oom = kills

    def on_ended(self, code: int | None, signal: int | None, oom: int) -> None:
        self._oom = oom
        settle(self.started, None)
        self.on_file_states(b"")
        settle(self.bounded, False)
        settle(self._end, GuestEnd(code, signal, oom > 0))

    def on_lost(self) -> None:
        """The keeper died, and by their parent-death signals all its sandboxes with it."""
        fail(self.started, SandboxLost("The keeper of the sandboxes ended."))
        self.on_file_states(b"")
        settle(self.bounded, False)
        settle(self._end, GuestEnd(None, 9))


class Keeper:
    """An async context manager; leaving it ends every sandbox and the keeper's process."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._said = -1
        """Where the keeper would complain; it says nothing as long as all is well."""
        self._ready: asyncio.Future[dict[str, int]] | None = None
        self._kept: dict[int, Kept] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._last = self._started = self._failed = self._ended = self._oom = 0
        self._modes: Mapping[str, int] = {}
        self._watchers: list[asyncio.Future[str]] = []
        self._owner = os.getpid()
        """A child forked from it shares the sockets, and must not end its sandboxes."""

    async def start(self) -> None:
        """Starts the process without waiting until it serves; requests wait for that in its socket."""
        if self._socket is not None:
            return
        self._loop = asyncio.get_running_loop()
        if self._process is not None:
            self._process.wait()  # the last one hung up, so it is gone or about to be
        ours, self._process, self._said = child.started()
        self._owner = os.getpid()
        self._socket = ours
        self._ready = self._loop.create_future()
        self._loop.add_reader(ours.fileno(), self.hear)

    async def ready(self) -> Mapping[str, int]:
        """Waits until it serves: controller -> version of the hierarchy in which it can limit sandboxes."""
        assert self._ready is not None, "start first"
        try:
            async with asyncio.timeout(_START_SECONDS):
                return await asyncio.shield(self._ready)
        except TimeoutError:
            raise SandboxStartFailed(f"The keeper did not start in {_START_SECONDS:.0f} seconds.") from None

    @property
    def is_alive(self) -> bool:
        return self._socket is not None

    async def lost(self) -> str:
        """Returns when the process ends without having been asked to: the last that it said."""
        told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._watchers.append(told)
        try:
            return await told
        finally:
            self._watchers.remove(told)

    async def launch(self, launch: Launch | Fork) -> Kept:
        """Starts a program in the keeper's care, or has one forked; returns once it is there.

        Raises:
            SandboxStartFailed: it could not be forked, or its control group not be made.
            SandboxLost: the keeper is gone.
        """
        self._last += 1
        is_zygote = isinstance(launch, Launch) and launch.line > 0
        kept = self._kept[self._last] = Kept(self, self._last, is_zygote=is_zygote)
        try:
            await self.request({**launch.message(), "id": kept.number}, launch.descriptors())
        except BaseException:
            self._kept.pop(kept.number, None)
            raise
        try:
            await asyncio.shield(kept.started)
        except asyncio.CancelledError:
            await undivided(_withdrawn(kept))
            raise
        return kept

    async def request(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        data = marshal.dumps(message)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        while True:
            if self._socket is None:
                raise SandboxLost("The keeper of the sandboxes is not running.")
            if self._owner != os.getpid():
                raise SandboxLost("The sandboxes belong to the process that this one was forked from.")
            try:
                self._socket.sendmsg([data], ancillary)
            except BlockingIOError:
                await writable(asyncio.get_running_loop(), self._socket)
            except OSError as error:
                if error.errno == errno.ETOOMANYREFS:
                    raise SandboxLost(
                        "Other programs of this user have too many descriptors in flight."
                    ) from error
                self._on_lost()
                raise SandboxLost(f"The keeper of the sandboxes ended: {error.strerror}.") from error
            else:
                return

    def hear(self) -> None:
        """Takes in what the keeper has said so far."""
        while self._socket is not None:
            try:
                data = self._socket.recv(_MESSAGE)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._on_lost()
                return
            self._handle(*marshal.loads(data))  # noqa: S302 - from the keeper, a process of ours

    def _handle(self, kind: str, *fields: Any) -> None:
        if kind == "ready":
            self._modes = fields[0]
            if self._ready is not None:
                settle(self._ready, fields[0])
            return
        kept = self._kept.get(fields[0])
        if kept is None:
            return
        if kind == "spawned":
            self._started += not kept.is_zygote
            kept.on_spawned(*fields[1:])
        elif kind == "failed":
            self._failed += 1
            del self._kept[kept.number]
            fail(kept.started, SandboxStartFailed(f"The sandbox could not be started: {fields[1]}."))
        elif kind == "file_states":
            kept.on_file_states(fields[1])
        elif kind == "oom":
            kept.on_oom(fields[1])
        elif kind == "bounded":
            settle(kept.bounded, fields[1])
        elif kind == "ended":
            self._ended += not kept.is_zygote
            self._oom += fields[3]
            del self._kept[kept.number]
            kept.on_ended(*fields[1:])
        else:
            raise InternalError(f"The keeper said {kind!r}.")

    def _on_lost(self) -> None:
        assert self._socket is not None
        assert self._loop is not None
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        self._socket = None
        for kept in self._kept.values():
            kept.on_lost()
        self._kept.clear()
        words = self._last_words()
        if self._process is not None:  # nobody has closed it
            for told in self._watchers:
                settle(told, words)
        if self._ready is not None:
            fail(self._ready, SandboxStartFailed(f"The keeper of the sandboxes did not start: {words}."))

    def _last_words(self) -> str:
        try:
            text = os.read(self._said, _MESSAGE).decode("utf-8", "replace")
        except BlockingIOError:
            text = ""
        os.close(self._said)
        return text.strip().rpartition("\n")[2][:300] or "it said nothing"

    def statistics(self) -> KeeperStatistics:
        return KeeperStatistics(
            self._process.pid if self._process else None,
            sum(not kept.is_zygote for kept in self._kept.values()),
            self._started,
            self._failed,
            self._ended,
            self._oom,
            dict(self._modes),
        )

    async def close(self) -> None:
        """Ends every sandbox, then the keeper; returns when all are gone. Idempotent.

        In a forked child it gives up the child's copies, and the parent's sandboxes live on.
        """
        process, self._process = self._process, None
        if self._owner != os.getpid():
            self._forget(process)
            return
        if self._socket is not None:
            self._socket.shutdown(socket.SHUT_WR)
        if process is not None:
            await child.reap(process)
        if self._socket is not None:
            self._on_lost()

    def _forget(self, process: subprocess.Popen[bytes] | None) -> None:
        """Not through the event loop: its epoll is the parent's as well."""
        if process is not None:
            process.returncode = 0  # not ours to wait for
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            os.close(self._said)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def _withdrawn(kept: Kept) -> None:
    """Ends what has only just been asked for; returns when nothing of it is left."""
    await asyncio.wait({kept.started})
    if kept.started.exception() is None:
        with contextlib.suppress(SandboxLost):  # the keeper goes on trying
            await kept.kill()
