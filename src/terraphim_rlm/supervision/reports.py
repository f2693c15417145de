"""What a supervisor tells about itself: while it happens, and when it is asked."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from terraphim_rlm.supervision.spec import Child, ChildSpec, Exit, Kind, Restart

State = Literal["running", "restarting", "down"]
What = Literal[
    "started", "start_failed", "exited", "unhealthy", "restarting", "ended", "shutdown_error", "abandoned", "gives_up",
    "auto_shutdown",
]  # fmt: skip
"""`ended` = by its supervisor, as it should; `shutdown_error` = while it was ended, but otherwise than it should;
`abandoned` = it was killed and is still there."""


@dataclass(frozen=True, slots=True)
class Report:
    """One thing that happened to a child."""

    what: What
    supervisor: str
    child: str
    exit: Exit | None = None

    def __str__(self) -> str:
        return f"{self.supervisor}: {self.child} {self.what}" + (f" ({self.exit})" if self.exit else "")


OnReport = Callable[[Report], None]


@dataclass(frozen=True, slots=True)
class ChildInfo:
    """How one child stands."""

    id: str
    state: State
    type: Kind
    restart: Restart
    pid: int | None
    restarts: int
    last_exit: str | None


@dataclass(frozen=True, slots=True)
class Counts:
    """OTP's `count_children`."""

    specs: int
    active: int
    supervisors: int
    workers: int


@dataclass(frozen=True, slots=True)
class SupervisorStatistics:
    """What one supervisor has done so far."""

    name: str
    state: Literal["new", "running", "over"]
    strategy: str
    active: int
    starts: int
    restarts: int
    restarts_in_period: int
    intensity: int
    period: int
    exits: Mapping[str, int]
    """Kind of exit -> children that ended so by themselves."""
    abandoned: int
    """Killed, and still there; each is a leak of ours."""
    failed_reports: int
    children: tuple[ChildInfo, ...]
    """In start order."""


@dataclass(slots=True)
class Tally:
    """Counts that only grow."""

    starts: int = 0
    restarts: int = 0
    abandoned: int = 0
    failed_reports: int = 0
    exits: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True, eq=False)
class Slot:
    """A child's place: it stays while its child comes and goes."""

    id: str
    spec: ChildSpec
    arguments: tuple[object, ...] = ()
    child: Child | None = None
    is_restarting: bool = False
    restarts: int = 0
    last: Exit | None = None
    asking: asyncio.Task[None] | None = None
    """Asks after its health."""

    @property
    def state(self) -> State:
        if self.child is not None:
            return "running"
        return "restarting" if self.is_restarting else "down"

    def info(self) -> ChildInfo:
        return ChildInfo(
            self.id, self.state, self.spec.type, self.spec.restart, self.child.pid if self.child else None,
            self.restarts, None if self.last is None else str(self.last),
        )  # fmt: skip
