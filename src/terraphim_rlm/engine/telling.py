"""Events of one node."""

from __future__ import annotations

from typing import Any

from terraphim_rlm.core.events import EventLog, EventType


class Teller:
    """Emits events under one node's name."""

    __slots__ = ("_log", "node", "parent")

    def __init__(self, log: EventLog, node: str, parent: str | None) -> None:
        self._log = log
        self.node = node
        self.parent = parent

    def __call__(self, type: EventType, **data: Any) -> None:
        self._log.emit(type, self.node, self.parent, **data)
