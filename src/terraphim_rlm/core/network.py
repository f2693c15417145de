"""What a sandbox reached, or was refused, outside of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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
