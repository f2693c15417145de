"""How a run's account stands, as values."""

from __future__ import annotations

from dataclasses import dataclass, field

from terraphim_rlm.core.values import Usage


@dataclass(frozen=True, slots=True)
class Remaining:
    """What is left to reserve; None = no limit of that kind. Never negative."""

    tokens: int | None
    microdollars: int | None
    calls: int | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class LedgerStatistics:
    """How an account stands."""

    settled: Usage
    reserved_tokens: int
    reserved_microdollars: int
    reserved_calls: int
    """Calls in flight."""
    leased_tokens: int
    leased_microdollars: int
    nodes: int
    """Accounts opened, the root included."""
    refused: int
    """Reservations, turns and children that a limit refused."""
    warnings: tuple[str, ...]
    """Limits that have reached `WARN_AT`, in order."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What a run had spent before it was taken up again."""

    usage: Usage = field(default_factory=Usage)
    """What was leased and not settled is in it."""
    seconds: float = 0.0
    """Of its time; how long it lay still does not count."""
