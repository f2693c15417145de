"""The row about the pool: callers who keep coming, each timed until his sandbox has said something."""

from __future__ import annotations

import asyncio
import time

from terraphim_rlm.core.values import Resources
from terraphim_rlm.sandbox.contract import Backend
from terraphim_rlm.sandbox.pool.config import PoolConfig
from terraphim_rlm.sandbox.pool.pool import Pool
from terraphim_rlm.sandbox.pool.pools import Pools
from terraphim_rlm.testing.bench.boxes import Row
from terraphim_rlm.testing.bench.rows import row

_A_SECOND = 10
"""Callers: 600 a minute, each of whom takes a sandbox and ends it."""
_GOAL = 5.0


async def handout(backend: Backend, count: int) -> Row:
    """`count` callers at a steady rate, whatever became of those before; each ends his sandbox when it has answered."""
    pools = Pools(PoolConfig())
    try:
        pool = pools.of(backend, Resources())
        pool.warm()
        await pool.wait_ready()
        begun = time.perf_counter() + 0.1
        callers = [asyncio.create_task(_caller(pool, begun + number / _A_SECOND)) for number in range(count)]
        samples = await asyncio.gather(*callers)
        found = pool.statistics()
    finally:
        await pools.close()
    took = ", ".join(f"{name} {value:.2f}" for name, value in found.handout_ms.items())
    return row(
        "hand-out from the pool",
        "ms",
        samples,
        _GOAL,
        why=f"from asking to the first byte of print(1), {_A_SECOND} callers a second for {count / _A_SECOND:g} s, from "
        f"a pool of {found.goal}; {found.hits / found.handed_out:.1%} stood ready; asking alone: {took} ms",
    )


async def _caller(pool: Pool, at: float) -> float:
    """Milliseconds from asking to the first byte.

    Raises:
        AssertionError: the sandbox answered something else.
    """
    await asyncio.sleep(at - time.perf_counter())
    first: list[float] = []
    asked = time.perf_counter()
    box = await pool.take()
    try:
        result = await box.run("print(1)", on_output=lambda *_: first.append(time.perf_counter()))
    finally:
        await box.close()
    if result.stdout != "1\n":
        raise AssertionError(f"a sandbox of the pool answered {result!r}")
    return (first[0] - asked) * 1000
