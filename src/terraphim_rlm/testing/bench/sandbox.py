"""`trlm bench sandbox`: what a sandbox costs to start, to use, to keep and to go back to.

The same work is done beside it by other ways to run code, in the same run: see `peers`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from terraphim_rlm.core.errors import BackendUnavailable
from terraphim_rlm.sandbox.selection import choose
from terraphim_rlm.testing.bench import endurance, speed, states
from terraphim_rlm.testing.bench.boxes import Row
from terraphim_rlm.testing.bench.handouts import handout
from terraphim_rlm.testing.bench.peers import NO_PEERS, Peers, all_peers
from terraphim_rlm.testing.bench.rows import row


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured. The defaults are what the goals are about."""

    starts: int = 30
    handouts: int = 50
    """From the pool, ten a second; with the rows that take minutes, `handouts_long`."""
    handouts_long: int = 600
    commands: int = 100
    round_trips: int = 2_000
    seconds: float = 5.0
    """For each rate."""
    idle: int = 8
    """Sandboxes that stand idle."""
    heap_mb: int = 200
    files: Sequence[int] = (1_000, 10_000)
    objects: int = 700_000
    states: int = 15
    """Snapshots and rollbacks of each kind."""
    branches: int = 16
    rollbacks: int = 50
    sessions: int = 500


async def sandbox(
    emit: Callable[[Row], None],
    *,
    backend: str = "auto",
    long: bool = False,
    with_peers: bool = False,
    sizes: Sizes | None = None,
) -> bool:
    """Emits every row as soon as it is measured; True when no goal is missed.

    Args:
        emit: takes each row.
        backend: whose sandboxes.
        long: also the rows that take minutes.
        with_peers: also other ways to run code; they are installed the first time.
        sizes: how much is measured.

    Raises:
        AssertionError: a sandbox gave something wrong. No figure of it is worth anything.
    """
    met = True
    amount = sizes or Sizes()
    peers = await all_peers(amount.seconds) if with_peers else NO_PEERS
    async for one in rows(backend, amount, long=long, peers=peers):
        emit(one)
        met = met and one["met"] is not False
    return met


async def rows(backend: str, sizes: Sizes, *, long: bool, peers: Peers) -> AsyncIterator[Row]:
    """Each row as soon as it is measured."""
    async with AsyncExitStack() as stack:
        try:
            standing = await stack.enter_async_context(await choose(backend))
            able = await standing.probe()
        except BackendUnavailable as error:
            yield row("sandbox", "", [], None, why=f"cannot run here: {error.message}")
            return
        async for one in speed.rows(standing, sizes, peers):
            yield one
        yield await handout(standing, sizes.handouts_long if long else sizes.handouts)
        if able.supports_snapshots.get("python", "none") == "none":
            yield row("snapshots", "", [], None, why=f"{standing.name} has none")
            return
        async for one in states.rows(standing, sizes):
            yield one
    if long:
        async for one in endurance.rows(backend, sizes):
            yield one
