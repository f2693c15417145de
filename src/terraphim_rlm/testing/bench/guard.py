"""`trlm bench guard`: what judging code costs, beside others in the same run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from terraphim_rlm.testing.bench import knowledge, safety

Row = dict[str, Any]


async def guard(
    emit: Callable[[Row], None],
    *,
    with_peers: bool = False,
    sizes: knowledge.Sizes | None = None,
    safety_sizes: safety.Sizes | None = None,
) -> bool:
    """Emits every row; True when no goal is missed.

    Raises:
        AssertionError: something came out wrong. No figure of it is worth anything.
    """
    met = True
    async for one in safety.rows(safety_sizes or safety.Sizes()):
        emit(one)
        met = met and one["met"] is not False
    async for one in knowledge.rows(sizes or knowledge.Sizes(), with_peers=with_peers):
        emit(one)
        met = met and one["met"] is not False
    return met
