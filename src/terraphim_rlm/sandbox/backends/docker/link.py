"""A started guest in a container; see `contract.GuestLink`."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from terraphim_rlm.core.errors import NotSupported
from terraphim_rlm.core.values import ExecutorCapabilities
from terraphim_rlm.sandbox.backends.docker import owners
from terraphim_rlm.sandbox.backends.docker.engine import Engine, EngineGone, Refused
from terraphim_rlm.sandbox.backends.docker.groups import Group
from terraphim_rlm.sandbox.backends.docker.watch import Watch
from terraphim_rlm.sandbox.contract import Consumption, GuestEnd
from terraphim_rlm.sandbox.link.tunnel import Tunnel


class Link:
    """One container's guest."""

    def __init__(
        self, engine: Engine, container: str, watch: Watch, tunnel: Tunnel, capabilities: ExecutorCapabilities
    ) -> None:
        self._engine = engine
        self.container = container
        self._watch = watch
        self._tunnel = tunnel
        self.capabilities = capabilities
        self.socket: socket.socket = tunnel.guest_end
        self._group: Group | None = None
        self._kills = 0

    async def know(self) -> None:
        """Finds where the kernel counts for it. Raises EngineGone."""
        with suppress(Refused, KeyError):
            state: dict[str, Any] = await self._engine.call("GET", f"/containers/{self.container}/json")
            self._group = Group(int(state["State"]["Pid"]))

    async def ended(self) -> GuestEnd:
        end = await self._watch.ended(self.container)
        return replace(end, oom=end.oom or self.oom_kills() > 0)

    async def destroy(self) -> None:
        self.oom_kills()
        try:
            self._tunnel.close()
            with suppress(EngineGone):  # whoever starts next on this engine removes what is left of us
                await owners.remove(self._engine, self.container)
                await self._watch.gone(self.container)
        finally:
            self.socket.close()

    def oom_kills(self) -> int:
        counted = 0 if self._group is None else self._group.oom_kills()
        return max(counted, int(self._watch.oom(self.container))) + self._tunnel.kills

    def throttled(self) -> int:
        """See `groups.Group`."""
        return 0 if self._group is None else self._group.throttled()

    def consumption(self) -> Consumption:
        return Consumption() if self._group is None else self._group.consumption()

    async def file_states(self, name: str, *arguments: Any) -> Any:
        raise NotSupported(
            "Containers keep no states of their files yet.", fix="Use the bubblewrap backend for snapshots."
        )

    async def doors(self, sockets: Sequence[tuple[str, str, int]]) -> list[socket.socket]:
        raise NotSupported("Containers have no network yet.", fix="Use the bubblewrap backend.")
