"""What a pool is told."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from terraphim_rlm.core.errors import InvalidArgument

Policy = Literal["wait", "create", "fail"]


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """How many sandboxes a pool keeps ahead, and how it goes about it."""

    min: int = 2
    """Kept ready also after a long time without callers, once there was one."""
    target: int = 4
    """Kept ready from the first caller on; 0 = none, each is made when it is asked for."""
    max: int = 10
    """Most sandboxes in the pool's hands, those that start or end included, and most that `warm` makes ready.

    What is handed out has left the pool: how many of those there may be is for their owner to say.
    """
    overflow: int = 3
    """Starts beyond `starts` and `max` that callers may cause under the policy `create`."""
    starts: int = 4
    """Most sandboxes that start at once; more on two processors only make each of them late."""
    policy: Policy = "wait"
    """When none is ready: `wait` for the next in the order of coming; `create` the same, with more starts at once;
    `fail` at once."""
    wait_seconds: float | None = 60.0
    """Most that a caller waits; None = as long as it takes."""
    scale_up_at: int | None = 5
    """With so many callers waiting, `max` are kept ready from then on; None = never."""
    idle_seconds: float = 300.0
    """Without callers for so long, fewer are kept ready: first `target`, and after as long again `min`."""
    max_age_seconds: float = 3600.0
    """One that has stood ready for so long is ended and not handed out."""
    refill_seconds: float | None = 0.01
    """After a hand-out it takes so long until others are started, so that the one that was handed out goes first.

    None = they are not started before `warm` is called again.
    """
    ping_seconds: float = 1.0
    """One that does not answer in this time, when it is about to be handed out, is ended instead."""
    backoff_seconds: float = 0.1
    """Until the next start after one that failed; twice as long after each further failure in a row."""
    backoff_most_seconds: float = 5.0
    """The longest that this grows to."""
    breaker_failures: int = 5
    """After so many failures in a row nothing is started any more, and callers are refused at once."""
    breaker_seconds: float = 30.0
    """Until a single start then tries whether it goes again."""

    def __post_init__(self) -> None:
        """Raises:
        InvalidArgument: the figures contradict each other, or one cannot be.
        """
        if not 0 <= self.min <= self.target <= self.max:
            raise InvalidArgument(
                f"A pool needs 0 <= min <= target <= max, not {self.min}, {self.target}, {self.max}."
            )
        least = {"max": 1, "overflow": 0, "starts": 1, "scale_up_at": 1, "breaker_failures": 1}
        spans = [name for name in self.__dataclass_fields__ if name.endswith("_seconds")]
        for name, bottom in {**least, **dict.fromkeys(spans, 0.0)}.items():
            value = getattr(self, name)
            if value is not None and not bottom <= value < math.inf:
                raise InvalidArgument(f"A pool's {name} must be {bottom:g} or more, not {value}.", name=name)
