"""The use case of sessions: lasting holds on sandboxes, kept by one process, written down in the journal."""

from __future__ import annotations

import asyncio
import math
import resource
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

from terraphim_rlm.core.clock import SYSTEM_CLOCK, Clock
from terraphim_rlm.core.errors import DaemonUnavailable, InvalidArgument, SessionLimit, SessionNotFound
from terraphim_rlm.core.events import EventType
from terraphim_rlm.core.sessions import SESSION_SECONDS, Session, gone
from terraphim_rlm.core.values import ExecutionResult, Resources
from terraphim_rlm.guard.default import make_guard
from terraphim_rlm.guard.judging import GuardMode, check_mode
from terraphim_rlm.sandbox.contract import Backend
from terraphim_rlm.sandbox.link.streams import OnOutput
from terraphim_rlm.sandbox.packages.requirements import normalised
from terraphim_rlm.sandbox.pool.config import PoolConfig
from terraphim_rlm.sandbox.sandbox import Sandbox
from terraphim_rlm.sandbox.selection import choose
from terraphim_rlm.service.executions import Execution
from terraphim_rlm.service.live import Live, Made
from terraphim_rlm.service.session_records import check_name, find_session
from terraphim_rlm.service.supply import Supply
from terraphim_rlm.store.journal import Journal
from terraphim_rlm.supervision.children import Link, linked
from terraphim_rlm.supervision.reports import OnReport
from terraphim_rlm.supervision.spec import DEFAULT, ChildSpec
from terraphim_rlm.supervision.supervisor import Supervisor

MOST_SESSIONS = 1000
_DESCRIPTORS = 16
"""That a session may take of this process: the sandbox's socket, and for each of three interpreters a channel and
two pipes, and some for files on their way."""
_SPARE_DESCRIPTORS = 256
"""For the journal, the keeper, clients and libraries."""
_LOOK_SECONDS = 30.0
"""Between two looks for sandboxes that ended without anybody asking for them."""
_SOON_SECONDS, _SOON_LOOKS = 0.2, 25
"""So, when a keeper is lost: its sandboxes die of that one after the other."""


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session to be."""

    backend: str = "auto"
    resources: Resources = field(default_factory=Resources)
    packages: tuple[str, ...] = ()
    name: str | None = None
    guard: GuardMode = "block"


@dataclass(frozen=True, slots=True)
class SessionsStatistics:
    """How the sessions of this process stand."""

    live: int
    most: int
    running: int
    """Executions in flight."""
    created: int
    ended: int


class Sessions:
    """Keeps sessions. An async context manager: leaving it ends them all.

    Args:
        journal: opened and closed by the caller.
        seconds: how long a session lasts, and how much an extension adds.
        choose: gives a backend by its name; closed here.
        most: sessions at once; None = 1,000, or as many as there are descriptors for.
        pool: how many sandboxes are kept ready for sessions that ask for nothing special.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        clock: Clock = SYSTEM_CLOCK,
        seconds: float = SESSION_SECONDS,
        choose: Callable[[str], Awaitable[Backend]] = choose,
        most: int | None = None,
        pool: PoolConfig | None = None,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._seconds = seconds
        self._most = _room() if most is None else most
        self._live: dict[str, Live] = {}
        self._leaving: dict[str, Live] = {}
        """Those whose sandbox is being ended."""
        self._names: set[str] = set()
        """Of those that are being made."""
        self._starting = 0
        self._created = self._ended = 0
        self.supply = Supply(choose, pool, clock)
        self._deadlines = asyncio.Event()
        """Set when the earliest may be another one."""
        self._tree: Supervisor | None = None
        self._guard = make_guard()
        self._endings: set[asyncio.Task[None]] = set()
        self._closed = False

    async def create(self, wanted: NewSession) -> Session:
        """Makes a session; it is durable when this returns.

        Raises:
            InvalidArgument: the name is none, or taken, or the resources or packages cannot be.
            PackageNotFound: a package is not to be had.
            SessionLimit: there are as many as there may be.
            BackendError: no sandbox is to be had; the fix is named.
            StoreError: it could not be written down; there is no session then.
        """
        packages, guard = normalised(wanted.packages), check_mode(wanted.guard)
        with self._place(1, wanted.name):
            backend = await self.supply.backend(wanted.backend)
            box = await self.supply.box(backend, wanted.resources, packages)
            return (await self._admit([box], Made(backend.name, wanted.name, packages, guard=guard)))[0]

    async def extend(self, session: str) -> Session:
        """Lets it last 1,800 s longer, at most three times.

        Raises:
            SessionError: it does not live, or was extended as often as it may be.
        """
        live = await self.living(session)
        await live.extend()
        self._deadlines.set()
        return await self.show(live.id)

    async def destroy(self, session: str) -> Session:
        """Ends it; returns when its sandbox is gone.

        Raises:
            SessionError: it does not live.
        """
        live = await self.living(session)
        await self._end(live, "session.destroyed")
        return await self.show(live.id)

    def _check_open(self) -> None:
        if self._closed:
            raise DaemonUnavailable("The daemon is about to end.", fix="Try again soon.", retry_after=1)

    async def execute(
        self,
        session: str,
        execution: Execution,
        *,
        on_output: OnOutput | None = None,
        on_start: Callable[[str], None] = lambda _: None,
    ) -> ExecutionResult:
        """Runs code in it. See `Executions.execute`.

        Raises:
            SessionError: it does not live.
        """
        self._check_open()
        async with self.using(session) as live:
            return await live.executions.execute(execution, on_output=on_output, on_start=on_start)

    @asynccontextmanager
    async def using(self, session: str) -> AsyncIterator[Live]:
        """A living session, for its files and snapshots.

        Raises:
            SessionError: it does not live, or its sandbox ended meanwhile.
        """
        live = await self.living(session)
        try:
            yield live
        finally:
            await self._look_after(live)

    async def branch(self, session: str, count: int = 1, snapshot: str | None = None) -> list[Session]:
        """Further sessions that begin as `snapshot` of this one, or (None) as it is now. See `Sandbox.branch`.

        Raises:
            SessionError: it does not live, or there are too many.
            SnapshotError: as `Sandbox.branch`.
        """
        async with self.using(session) as live:
            with self._place(max(1, count), None):
                boxes = await live.box.branch(count, snapshot)
                made = replace(live.made, name=None, origin=live.id, snapshot=snapshot)
                return await self._admit(boxes, made)

    def stop(self, execution: str) -> None:
        """Stops an execution in flight; whoever waits for it gets its result.

        Raises:
            SessionNotFound: none of this id is in flight.
        """
        if not any(live.executions.stop(execution) for live in self._live.values()):
            raise SessionNotFound(
                f"No execution {execution[:80]!r} is in flight.",
                fix="It may have ended: `trlm history` shows it.",
                execution=execution[:80],
            )

    async def show(self, session: str) -> Session:
        """One session, living or not. Raises as `session_records.find_session`."""
        return await asyncio.to_thread(find_session, session)

    async def living(self, session: str) -> Live:
        """The living session that is meant; see `session_records.find_session`.

        Raises:
            SessionNotFound: there is none, or it was destroyed.
            SessionExpired, SessionLost: its time was over, or its sandbox ended.
            InvalidArgument: several are meant.
        """
        live = self._live.get(session)
        if live is None:
            found = await self.show(session)
            live = self._live.get(found.id)
            if found.id in self._leaving:
                await self._leaving[found.id].ended.wait()
                found = await self.show(found.id)
            if live is None:
                raise gone(found) if found.status != "live" else _elsewhere(found)
        if live.is_due:
            await self._end(live, "session.expired")
            raise gone(await self.show(live.id))
        await self._look_after(live)
        if live.id not in self._live:
            raise gone(await self.show(live.id))
        return live

    async def expire_due(self) -> None:
        """Ends those whose time is over."""
        due = [live for live in (*self._live.values(), *self._leaving.values()) if live.is_due]
        await asyncio.gather(*(self._end(live, "session.expired") for live in due))

    async def _admit(self, boxes: list[Sandbox], made: Made) -> list[Session]:
        """Sessions of started sandboxes, durable; all or none."""
        guard = self._guard.in_mode(made.guard)
        lives = [Live(box, made, self._journal, self._clock, guard, self._seconds) for box in boxes]
        try:
            await self._journal.commit()
        except BaseException:
            for live in lives:  # what a full disk holds back is written later
                live.tell("session.lost", why="It could not be written down.")
            await asyncio.gather(*(live.box.close() for live in lives))
            raise
        self._live.update({live.id: live for live in lives})
        self._created += len(lives)
        self._deadlines.set()
        return [await self.show(live.id) for live in lives]

    async def _end(self, live: Live, kind: EventType, **data: object) -> None:
        """Ends a session once; whoever comes later waits until that is done."""
        if self._live.pop(live.id, None) is None:
            await live.ended.wait()
            return
        self._ended += 1
        self._leaving[live.id] = live
        task = asyncio.ensure_future(live.close(kind, **data))
        self._endings.add(task)
        task.add_done_callback(lambda done: self._left(live, done))
        await asyncio.shield(task)

    def _left(self, live: Live, done: asyncio.Task[None]) -> None:
        self._endings.discard(done)
        del self._leaving[live.id]
        if not done.cancelled():
            done.exception()  # seen: that the journal failed, its next caller is told

    async def _look_after(self, live: Live) -> None:
        """Notices that a sandbox ended by itself."""
        if not live.box.is_open and live.id in self._live:
            await self._end(live, "session.lost", why="Its sandbox ended.")

    def tree(self, on_report: OnReport = lambda report: None) -> Supervisor:
        """What keeps sessions going, as a supervisor: each part may die, and the others and the sessions live on."""
        supply = self.supply
        parts = {
            "keeper": supply.watch,
            "pool": supply.keep_pools,
            "reaper": self._reap,
            "expiry": self._expire,
        }
        specs = [ChildSpec(name, linked(work)) for name, work in parts.items()]
        return Supervisor(specs, DEFAULT, name="sandboxes", on_report=on_report)

    async def _reap(self, link: Link) -> None:
        """A child that notices sandboxes that ended by themselves, in sessions and in pools."""
        link.ready()
        soon = 0
        while True:
            await asyncio.gather(*(self._look_after(live) for live in list(self._live.values())))
            self.supply.look()
            try:
                async with asyncio.timeout(_SOON_SECONDS if soon else _LOOK_SECONDS):
                    await self.supply.lost_one()
                    soon = _SOON_LOOKS
            except TimeoutError:
                soon = max(0, soon - 1)

    async def _expire(self, link: Link) -> None:
        """A child that ends each session when its time is over."""
        link.ready()
        while True:
            self._deadlines.clear()
            await self.expire_due()
            left = min((live.deadline for live in self._live.values()), default=math.inf) - self._clock.now()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if left == math.inf else max(0.0, left)):
                    await self._deadlines.wait()

    @contextmanager
    def _place(self, count: int, name: str | None) -> Iterator[None]:
        """Keeps room, and the name, for sessions that are being made."""
        self._check_open()
        if name is not None:
            check_name(name)
            if name in self._names or any(
                name == live.made.name for live in (*self._live.values(), *self._leaving.values())
            ):
                raise InvalidArgument(
                    f"There is a session called {name!r}.", fix="Choose another name.", name=name
                )
        if len(self._live) + self._starting + count > self._most:
            raise SessionLimit(
                f"{count:,} more sessions were asked for; there are {len(self._live) + self._starting:,},"
                f" and {self._most:,} may live at once."
            )
        self._starting += count
        if name is not None:
            self._names.add(name)
        try:
            yield
        finally:
            self._names.discard(name or "")
            self._starting -= count

    def refuse(self) -> None:
        """Takes no new sessions and executions; what is in flight goes on."""
        self._closed = True

    async def idle(self) -> None:
        """Returns when no execution is in flight."""
        for live in list(self._live.values()):
            await live.executions.settled()

    def statistics(self) -> SessionsStatistics:
        running = sum(len(live.executions.running) for live in self._live.values())
        return SessionsStatistics(
            len(self._live) + self._starting, self._most, running, self._created, self._ended
        )

    async def close(self) -> None:
        """Ends every session, then the backends. Idempotent."""
        self._closed = True
        await asyncio.gather(
            *(self._end(live, "session.lost", why="Its daemon ended.") for live in list(self._live.values())),
            return_exceptions=True,
        )
        if self._endings:
            await asyncio.wait(set(self._endings))
        await self._guard.close()
        if self._tree is not None:
            await self._tree.stop()
        await self.supply.close()

    async def __aenter__(self) -> Self:
        self._tree = self.tree()
        await self._tree.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _room() -> int:
    """As many sessions as this process has descriptors for."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, min(MOST_SESSIONS, (soft - _SPARE_DESCRIPTORS) // _DESCRIPTORS))


def _elsewhere(session: Session) -> SessionNotFound:
    return SessionNotFound(
        f"The session {session.name or session.id} belongs to another process.",
        fix="Use it there; only sessions made by `trlm session new` are shared.",
        session=session.id,
    )
