"""How a pool stands and what it has done; the command line and the HTTP routes read only this."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

PoolState = Literal["cold", "filling", "ready", "failing", "closed"]
Why = Literal["dead", "old", "surplus"]
_REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """Of one pool. Every sandbox that was made is handed out, discarded, or one of `ready` and `checking`."""

    state: PoolState
    """`cold`: none is kept ready. `filling`, `ready`: fewer than there should be, or all. `failing`: they do not start,
    and nothing is started until the time to try again."""
    goal: int
    """How many are kept ready at present."""
    ready: int
    starting: int
    checking: int
    """Asked whether they live, for a caller who waits for that."""
    ending: int
    waiting: int
    """Callers."""
    made: int
    failed: int
    """Starts that came to nothing."""
    handed_out: int
    hits: int
    """Those of them that stood ready when they were asked for."""
    refused: int
    """Callers who got none: their time was over, or sandboxes do not start."""
    discarded: Mapping[Why, int]
    """`dead`: it ended by itself, or did not answer; `old`: it stood too long; `surplus`: fewer are kept by now."""
    handout_ms: Mapping[str, float]
    """`p50`, `p95`, `p99` of the last 1,000 hand-outs, from asking to getting; empty before the first."""
    last_error: str | None
    """Why the latest start that failed did so."""
    retry_seconds: float | None
    """Until a start is tried again, while it is `failing`."""


class Tally:
    """Counts."""

    def __init__(self) -> None:
        self.made = self.failed = self.handed_out = self.hits = self.refused = 0
        self.discarded: Counter[Why] = Counter()
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED)

    def hand_out(self, seconds: float, *, hit: bool) -> None:
        self.handed_out += 1
        self.hits += hit
        self._seconds.append(seconds)

    def handout_ms(self) -> dict[str, float]:
        ordered = sorted(self._seconds)
        if not ordered:
            return {}
        return {f"p{share}": _rank(ordered, share) * 1000 for share in (50, 95, 99)}


def _rank(ordered: list[float], share: int) -> float:
    """The nearest-rank percentile."""
    return ordered[max(math.ceil(share / 100 * len(ordered)) - 1, 0)]
