"""What a sandbox reached, or was refused, outside of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from terraphim_rlm.core.events import EventType


@dataclass(frozen=True, slots=True)
class Access:
    """One decision about the network, or the end of what was allowed."""

    decision: Literal["allowed", "refused", "closed"]
    name: str
    """The host, as it was asked for; what cannot be printed is escaped."""
    port: int
    """0 where none was said."""
    how: Literal["tunnel", "http", "tls", "name"]
    """A CONNECT, a plain request, TLS to the gateway's own port, a question for a name."""
    reason: str = ""
    """Why it was refused; or why it ended, when that was not one of the two ends."""
    address: str = ""
    """What was dialled; empty through a further proxy."""
    count: int = 1
    """Same refusals so far: the 1st, 10th, 100th .. of a kind are told."""
    bytes_up: int = 0
    bytes_down: int = 0
    seconds: float = 0.0


EVENTS: Mapping[str, EventType] = {
    "allowed": "network.allowed",
    "refused": "network.refused",
    "closed": "network.closed",
}
"""The event of each decision."""


@dataclass(frozen=True, slots=True)
class NetworkStatistics:
    """Of one sandbox since it was opened."""

    open: int
    """Connections now."""
    allowed: int
    refused: int
    bytes_up: int
    bytes_down: int
    bytes_left: int
    """That it may still carry, both ways together."""


@dataclass(frozen=True, slots=True)
class AccessRecord:
    """A decision as the journal knows it."""

    session: str
    time: float
    """Seconds since the epoch."""
    execution: str | None
    """That caused it; None where none or several were running."""
    data: Mapping[str, Any]
    """By the names of `Access`."""
