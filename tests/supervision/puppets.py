"""Children that a test holds by strings, and a record of what their supervisor did with them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from terraphim_rlm.core.clock import ManualClock
from terraphim_rlm.supervision.reports import Report
from terraphim_rlm.supervision.spec import Child, ChildSpec, Exit, Flags
from terraphim_rlm.supervision.supervisor import Supervisor

NORMAL, SHUTDOWN = Exit("normal"), Exit("shutdown")
CRASH, KILLED = Exit("error", "crashed"), Exit("killed")


class Puppet(Child):
    """Ends when it is told to: when asked, unless it is deaf; when killed, unless it is stone."""

    def __init__(self, id: str, log: list[str], *, deaf: bool = False, stone: bool = False) -> None:
        super().__init__()
        self.id = id
        self.log = log
        self.deaf = deaf
        self.dies_when_killed = not stone
        self.stone = stone
        self.last = SHUTDOWN

    def ask(self) -> None:
        self.log.append(f"ask {self.id}")
        if not self.deaf:
            self.over(self.last)

    def kill(self) -> None:
        self.log.append(f"kill {self.id}")
        if not self.stone:
            self.over(KILLED)

    def end(self, exit: Exit) -> None:
        self.over(exit)


class Stage:
    """Puppets by the id of their spec, and how their starts go."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.reports: list[Report] = []
        self.puppets: dict[str, Puppet] = {}
        self.failing: dict[str, int] = {}
        """Id -> starts that are still to fail."""
        self.ignoring: set[str] = set()
        self.deaf: set[str] = set()
        self.stone: set[str] = set()
        self.given: list[tuple[Any, ...]] = []
        self.clock = ManualClock()

    def spec(self, id: str, **options: Any) -> ChildSpec:
        async def start(*arguments: Any) -> Child | None:
            name = f"{id}{''.join(map(str, arguments))}"
            self.given.append(arguments)
            if self.failing.get(name, 0) > 0:
                self.failing[name] -= 1
                self.log.append(f"fail {name}")
                raise RuntimeError(f"{name} does not start")
            if name in self.ignoring:
                return None
            self.log.append(f"start {name}")
            puppet = Puppet(name, self.log, deaf=name in self.deaf, stone=name in self.stone)
            self.puppets[name] = puppet
            return puppet

        return ChildSpec(id, start, **options)

    def supervisor(self, *specs: ChildSpec, **flags: Any) -> Supervisor:
        later = flags.pop("later", asyncio.sleep)
        own = Flags(**{"intensity": 1, "period": 5, **flags})
        return Supervisor(specs, own, clock=self.clock, later=later, on_report=self.reports.append)

    def took(self) -> list[str]:
        """What was done since it was last asked."""
        taken, self.log[:] = list(self.log), []
        return taken

    def told(self, what: str) -> Iterator[Report]:
        return (each for each in self.reports if each.what == what)


def states(supervisor: Supervisor) -> dict[str, str]:
    return {info.id: info.state for info in reversed(supervisor.which_children())}
