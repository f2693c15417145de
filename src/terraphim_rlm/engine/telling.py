"""Events of one node."""

from __future__ import annotations

from typing import Any

from terraphim_rlm.core.events import EventLog, EventType
from terraphim_rlm.engine.record import KnownNode


class Teller:
    """Emits events under one node's name. `known` is what the node did in an earlier working of the run, if any."""

    __slots__ = ("_log", "known", "node", "parent")

    def __init__(
        self, log: EventLog | None, node: str, parent: str | None, known: KnownNode | None = None
    ) -> None:
        self._log = log
        self.node = node
        self.parent = parent
        self.known = known or KnownNode()

    @property
    def run(self) -> str:
        """The run's id."""
        return self._log.run if self._log is not None else ""

    def __call__(self, type: EventType, **data: Any) -> None:
        if self._log is not None:
            self._log.emit(type, self.node, self.parent, **data)

    def told(self, already: bool) -> Teller:
        """Itself; one that says nothing where the run goes on and has `already` told it."""
        return Teller(None, self.node, self.parent, self.known) if already and self.known.goes_on else self
