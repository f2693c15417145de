"""A backend whose guest speaks over one stream, as a container's does, on a machine with nothing but bubblewrap."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from terraphim_rlm.core import process
from terraphim_rlm.core.errors import NotSupported
from terraphim_rlm.core.values import ExecutorCapabilities
from terraphim_rlm.sandbox.backends.bubblewrap import host, limits
from terraphim_rlm.sandbox.backends.docker import boot
from terraphim_rlm.sandbox.backends.docker.wire import Wire
from terraphim_rlm.sandbox.contract import Consumption, GuestEnd, SandboxSpec, Toolchain
from terraphim_rlm.sandbox.link.tunnel import Tunnel
from terraphim_rlm.sandbox.machine import GuestMachine

CAPABILITIES = ExecutorCapabilities(
    backend="piped",
    isolation_level="namespaces",
    supports_snapshots={"python": "none", "bash": "none"},
    supports_network=False,
    languages=("python", "bash"),
    limits={name: "none" for name in limits.BEST} | {"output": "watched", "time": "watched"},
    max_session_duration=None,
    cold_start_estimate=0.1,
)


class _Plain(Wire):
    """Without the engine's headers."""

    def data_received(self, data: bytes) -> None:
        if self._hear is None:
            self._early += data
        else:
            self._hear(data)
        self._news.set()


class PipedLink:
    capabilities = CAPABILITIES

    def __init__(self, child: Any, tunnel: Tunnel) -> None:
        self.child = child
        self.tunnel = tunnel
        self.socket = tunnel.guest_end

    async def ended(self) -> GuestEnd:
        code = await asyncio.to_thread(self.child.wait)
        return GuestEnd(code, None)

    async def destroy(self) -> None:
        self.tunnel.close()
        self.socket.close()
        await self.ended()

    def oom_kills(self) -> int:
        return 0

    def consumption(self) -> Consumption:
        return Consumption()

    async def file_states(self, name: str, *arguments: Any) -> Any:
        raise NotSupported("none", fix="none")

    async def doors(self, sockets: Sequence[tuple[str, str, int]]) -> list[socket.socket]:
        raise NotSupported("none", fix="none")


def _command() -> list[str]:
    parts = [
        host.bwraps(host.drop_uid())[0],
        "--unshare-all",
        "--unshare-user",
        "--uid",
        "65534",
        "--gid",
        "65534",
    ]
    parts += ["--as-pid-1", "--new-session", "--die-with-parent", "--ro-bind", "/usr", "/usr"]
    for path, target in host.root_folders():
        parts += ["--symlink", target, path] if target is not None else ["--ro-bind", path, path]
    parts += [
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--tmpfs",
        "/work",
        "--tmpfs",
        "/tmp",
        "--chdir",
        "/work",
        "--clearenv",
    ]
    return [*parts, "--setenv", "PATH", "/usr/bin:/bin", "--", *boot.COMMAND]


class Piped:
    """See the module."""

    name = "piped"

    def __init__(self) -> None:
        self.links: list[PipedLink] = []

    async def boot(self, spec: SandboxSpec) -> PipedLink:
        ours, theirs = socket.socketpair()
        child = process.start(_command(), stdin=theirs, stdout=theirs)
        theirs.close()
        ours.setblocking(False)
        wire = await _Plain.over(ours, b"")
        greeting = await wire.first(boot.GREETING_BYTES)
        await wire.first(greeting[-1])
        wire.write(boot.parcel(greeting[: boot.MAGIC_BYTES], guest=spec.guest))
        tunnel = Tunnel(wire)
        wire.begin(tunnel.hear, tunnel.lost, tunnel.pump)
        self.links.append(PipedLink(child, tunnel))
        return self.links[-1]

    async def create(self, spec: SandboxSpec) -> GuestMachine:
        return await GuestMachine.started(await self.boot(spec), spec, self.toolchain)

    async def probe(self) -> ExecutorCapabilities:
        return CAPABILITIES

    def toolchain(self, language: str) -> Toolchain:
        raise NotSupported(f"no {language}", fix="none")

    async def close(self) -> None:
        for link in self.links:
            await link.destroy()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
