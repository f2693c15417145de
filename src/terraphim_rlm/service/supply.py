"""Where the sandboxes of sessions come from: backends by their names, and the pools that are kept ready."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from terraphim_rlm.core.clock import Clock
from terraphim_rlm.core.errors import SandboxLost
from terraphim_rlm.core.values import Resources
from terraphim_rlm.sandbox.contract import Backend, SandboxSpec
from terraphim_rlm.sandbox.pool.config import PoolConfig
from terraphim_rlm.sandbox.pool.pool import Pool
from terraphim_rlm.sandbox.pool.pools import PoolKey, Pools, started
from terraphim_rlm.sandbox.pool.statistics import PoolStatistics
from terraphim_rlm.sandbox.sandbox import Sandbox
from terraphim_rlm.supervision.children import Link

_STARTS = 4
"""Sandboxes that start at once; more on two cores only make each of them late."""
_ORDINARY = Resources()
_FETCHES = 2
"""Sessions with packages that start at once. Apart from the others, which must not wait for a package index."""


class Supply:
    """Close it after all that came from it.

    Args:
        choose: gives a backend by its name; closed here.
        pool: how many sandboxes are kept ready for those who ask for nothing special.
    """

    def __init__(
        self, choose: Callable[[str], Awaitable[Backend]], pool: PoolConfig | None, clock: Clock
    ) -> None:
        self._choose = choose
        self._config = pool
        self._clock = clock
        self._starts = asyncio.Semaphore(_STARTS)
        self._fetches = asyncio.Semaphore(_FETCHES)
        self._choosing = asyncio.Lock()
        self._backends: dict[str, Backend] = {}
        self._changed = asyncio.Event()
        """There is a backend more."""
        self._loss = asyncio.Event()
        self._pools = Pools(pool, clock=clock)

    async def backend(self, name: str) -> Backend:
        """Raises as `selection.choose`."""
        async with self._choosing:
            if name not in self._backends:
                found = await self._choose(name)
                known = next((each for each in self._backends.values() if each.name == found.name), None)
                if known is not None:  # `auto` and its name mean one backend, with one keeper and one pool
                    await found.close()
                self._backends[name] = known or found
                self._changed.set()
            return self._backends[name]

    async def box(self, backend: Backend, resources: Resources, packages: tuple[str, ...]) -> Sandbox:
        """From the pool where nothing special is asked for; else it is made now."""
        if resources == _ORDINARY and not packages:
            return await self._pools.of(backend, resources).take()
        async with self._fetches if packages else self._starts:
            return await started(backend, SandboxSpec(resources, packages=packages))

    async def pool(self, backend: str) -> Pool:
        """The one that ordinary sessions of `backend` come from. Raises as `backend`."""
        return self._pools.of(await self.backend(backend), _ORDINARY)

    def pools(self) -> Mapping[PoolKey, PoolStatistics]:
        """How they stand; one is there once it was wanted."""
        return self._pools.statistics()

    async def drain(self) -> None:
        """Ends the sandboxes that nobody has."""
        await self._pools.drain()

    def look(self) -> None:
        """Lets every pool do what is due."""
        self._pools.look()

    async def watch(self, link: Link) -> None:
        """A child that lives as long as the keepers of all backends. The next sandbox has a keeper of its own started.

        Raises:
            SandboxLost: one is gone, with all its sandboxes.
        """
        link.ready()
        while True:
            self._changed.clear()
            backends = {id(backend): backend for backend in self._backends.values()}.values()
            losses = [asyncio.ensure_future(_lost(backend)) for backend in backends]
            more = asyncio.ensure_future(self._changed.wait())
            try:
                await asyncio.wait([*losses, more], return_when=asyncio.FIRST_COMPLETED)
                for loss in losses:
                    if loss.done():
                        self._loss.set()
                        raise SandboxLost(f"The keeper of the sandboxes ended: {loss.result()}.")
            finally:
                for each in (*losses, more):
                    each.cancel()

    async def lost_one(self) -> None:
        """Returns when a keeper is lost."""
        await self._loss.wait()
        self._loss.clear()

    async def keep_pools(self, link: Link) -> None:
        """A child that holds the pools; begun again, it has new ones, and the old ones are gone."""
        if not self._pools.is_open:
            self._pools = Pools(self._config, clock=self._clock)
        link.ready()
        try:
            await link.stop()
        finally:
            await self._pools.close()

    async def close(self) -> None:
        """Ends the pools, then the backends. Idempotent."""
        await self._pools.close()
        backends, self._backends = self._backends, {}
        for backend in {backend.name: backend for backend in backends.values()}.values():
            await backend.close()


async def _lost(backend: Backend) -> str:
    """As `Backend.lost` of one that has it; else it never returns: nothing of it could be lost."""
    told: Callable[[], Awaitable[str]] | None = getattr(backend, "lost", None)
    if told is None:
        nothing: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        return await nothing
    return await told()
