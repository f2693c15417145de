"""One living session: its sandbox, its time, and what is written down of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from terraphim_rlm.core.clock import Clock
from terraphim_rlm.core.errors import SessionLimit
from terraphim_rlm.core.events import EventLog, EventType
from terraphim_rlm.core.ids import new_id
from terraphim_rlm.core.network import EVENTS, Access
from terraphim_rlm.core.sessions import MOST_EXTENSIONS
from terraphim_rlm.core.values import to_json
from terraphim_rlm.guard.judging import Guard, GuardMode
from terraphim_rlm.sandbox.sandbox import Sandbox
from terraphim_rlm.service.executions import Executions
from terraphim_rlm.service.live_snapshots import LiveSnapshots
from terraphim_rlm.store.journal import Journal


@dataclass(frozen=True, slots=True)
class Made:
    """How a session came to be."""

    backend: str
    name: str | None = None
    packages: tuple[str, ...] = ()
    origin: str | None = None
    """The session that it was branched from."""
    snapshot: str | None = None
    """The snapshot that it began with."""
    once: bool = False
    guard: GuardMode = "block"


class Live:
    """A living session. Whoever ends it calls `close` once; executions in flight are then written down as interrupted.

    Args:
        guard: asked about all code that is run in it; closed by its owner.
        seconds: how long it lasts; each extension adds as much.
    """

    def __init__(
        self, box: Sandbox, made: Made, journal: Journal, clock: Clock, guard: Guard, seconds: float
    ) -> None:
        self.id = new_id("sess")
        self.box = box
        self.made = made
        self._journal = journal
        self._clock = clock
        self._seconds = seconds
        self._extensions = 0
        self.deadline = clock.now() + seconds
        """On the clock that does not jump; the journal's `expires` is for people."""
        self.log = EventLog(self.id, [journal.sink], clock)
        guard.warm()
        self.executions = Executions(box, journal, self.log, guard)
        self.snapshots = LiveSnapshots(box, journal, self.log)
        box.on_access = self._accessed
        self.ended = asyncio.Event()
        """Set when its sandbox is gone and that is written down."""
        self.tell(
            "session.created",
            name=made.name,
            backend=made.backend,
            resources=to_json(box.resources),
            packages=list(made.packages),
            expires=clock.wall() + seconds,
            origin=made.origin,
            snapshot=made.snapshot,
            once=made.once,
            guard=made.guard,
        )

    def tell(self, kind: EventType, **data: object) -> None:
        self.log.emit(kind, self.id, None, **data)

    def _accessed(self, access: Access) -> None:
        running = self.executions.running
        self.tell(
            EVENTS[access.decision],
            **to_json(access),
            execution_id=running[0] if len(running) == 1 else None,
        )

    async def extend(self) -> None:
        """Adds its time once more.

        Raises:
            SessionLimit: that was done as often as it may be.
        """
        if self._extensions >= MOST_EXTENSIONS:
            raise SessionLimit(
                f"The session {self.made.name or self.id} was extended {MOST_EXTENSIONS} times already.",
                fix="Make another one and take its files along: `trlm files get`, `trlm files put`.",
                session=self.id,
            )
        self._extensions += 1
        self.deadline += self._seconds
        left = self.deadline - self._clock.now()
        self.tell("session.extended", expires=self._clock.wall() + left, extensions=self._extensions)
        await self._journal.commit()

    @property
    def is_due(self) -> bool:
        return self._clock.now() >= self.deadline

    async def close(self, kind: EventType, **data: object) -> None:
        """Ends the sandbox and writes down why; returns when both are done.

        Raises:
            StoreError: it could not be written down; the sandbox is gone all the same.
        """
        self.executions.end()
        try:
            await self.box.close()
            await self.executions.settled()
            self.tell(kind, **data)
            await self._journal.commit()
        finally:
            self.ended.set()
