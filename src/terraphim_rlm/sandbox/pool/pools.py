"""Pools by what their sandboxes are made of."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

from terraphim_rlm.core.clock import SYSTEM_CLOCK, Clock
from terraphim_rlm.core.values import Resources
from terraphim_rlm.sandbox.contract import Backend, SandboxSpec
from terraphim_rlm.sandbox.pool.config import PoolConfig
from terraphim_rlm.sandbox.pool.pool import Pool
from terraphim_rlm.sandbox.pool.statistics import PoolStatistics
from terraphim_rlm.sandbox.sandbox import Sandbox


class PoolKey(NamedTuple):
    """Whoever asks for the same gets from the same pool. What a sandbox reaches of the network is in `resources`."""

    backend: str
    resources: Resources
    packages: tuple[str, ...]


class Pools:
    """Makes a pool when its first sandbox is wanted. Close it before the backends."""

    def __init__(self, config: PoolConfig | None = None, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._config = config or PoolConfig()
        self._clock = clock
        self._pools: dict[PoolKey, Pool] = {}
        self.is_open = True

    def of(self, backend: Backend, resources: Resources, packages: tuple[str, ...] = ()) -> Pool:
        """The pool of such sandboxes; there is one backend of a name."""
        key = PoolKey(backend.name, resources, packages)
        if key not in self._pools:
            make = partial(started, backend, SandboxSpec(resources, packages=packages))
            self._pools[key] = Pool(make, self._config, clock=self._clock)
        return self._pools[key]

    def statistics(self) -> Mapping[PoolKey, PoolStatistics]:
        return {key: pool.statistics() for key, pool in self._pools.items()}

    async def drain(self) -> None:
        """See `Pool.drain`; all of them."""
        await asyncio.gather(*(pool.drain() for pool in self._pools.values()))

    def look(self) -> None:
        """See `Pool.look`; all of them."""
        for pool in self._pools.values():
            pool.look()

    async def close(self) -> None:
        """See `Pool.close`; all of them."""
        self.is_open = False
        await asyncio.gather(*(pool.close() for pool in self._pools.values()))


async def started(backend: Backend, spec: SandboxSpec) -> Sandbox:
    """A sandbox that is open. Raises as `Backend.create`."""
    box = Sandbox(backend, spec)
    await box.start()
    return box
