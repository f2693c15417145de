"""Makes sandboxes with bubblewrap through the keeper."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal, Self

from terraphim_rlm.core.errors import (
    BackendUnavailable,
    InvalidArgument,
    SandboxStartFailed,
)
from terraphim_rlm.core.values import Enforcement, ExecutorCapabilities
from terraphim_rlm.sandbox.backends.bubblewrap import (
    argv,
    diagnosis,
    host,
    limits,
    seccomp,
    starting,
    toolchains,
)
from terraphim_rlm.sandbox.backends.bubblewrap.bundle import INSIDE
from terraphim_rlm.sandbox.backends.bubblewrap.layered import Layers
from terraphim_rlm.sandbox.backends.bubblewrap.zygote import Zygote
from terraphim_rlm.sandbox.contract import (
    ROOTS,
    SHARED_MEMORY,
    Consumption,
    GuestEnd,
    SandboxSpec,
    Toolchain,
)
from terraphim_rlm.sandbox.egress.inside import files as egress_files
from terraphim_rlm.sandbox.keeper.client import Fork, Keeper, KeeperStatistics, Kept
from terraphim_rlm.sandbox.keeper.doorways import Door
from terraphim_rlm.sandbox.keeper.file_states import Place
from terraphim_rlm.sandbox.keeper.waiting import settle
from terraphim_rlm.sandbox.link.room import asked
from terraphim_rlm.sandbox.machine import GuestMachine
from terraphim_rlm.sandbox.packages.build import INSIDE as PACKAGES

NAME = "bubblewrap"
_WITH_STATE = ("python", "bash")
"""Whose interpreters come back as they were. JavaScript's comes back by running its cells again."""


class Link:
    """A started guest; see `contract.GuestLink`."""

    def __init__(
        self, kept: Kept, sock: socket.socket, capabilities: ExecutorCapabilities, place: Place
    ) -> None:
        self._kept = kept
        self._place = place
        self.socket = sock
        self._capabilities = capabilities

    @property
    def capabilities(self) -> ExecutorCapabilities:
        found, bounded = self._capabilities, self._kept.bounded
        if not bounded.done() or bounded.result() or found.limits["inodes"] == "none":
            return found
        held: dict[str, Enforcement] = {**found.limits, "inodes": "none"}
        return replace(found, limits=held, not_enforced=limits.not_enforced(held))

    @property
    def kept(self) -> Kept:
        return self._kept

    async def ended(self) -> GuestEnd:
        return await self._kept.ended()

    async def destroy(self) -> None:
        try:
            await self._kept.kill()
        finally:
            self.socket.close()

    def oom_kills(self) -> int:
        return self._kept.oom_kills()

    def consumption(self) -> Consumption:
        return self._kept.consumption()

    async def file_states(self, name: str, *arguments: Any) -> Any:
        return await self._kept.file_states(self._place, name, *arguments)

    async def doors(self, sockets: Sequence[Door]) -> list[socket.socket]:
        return await self._kept.doors(self._place.uid, sockets)


class Bubblewrap:
    """An async context manager; leaving it ends every sandbox it made. One event loop."""

    name = NAME

    def __init__(self, *, forks: bool = True) -> None:
        """`forks`: whether sandboxes after the first may be forked from one process that stands."""
        self._keeper = Keeper()
        self._forks = forks
        self._zygote = Zygote(lambda: self._keeper)
        self.bwrap: str | None = None
        """The program that made the first sandbox; the others are not tried any more."""
        self._machine: starting.Machine | None = None
        self._measured: ExecutorCapabilities | None = None
        self._probing = asyncio.Lock()
        self._layers = Layers()

    async def create(self, spec: SandboxSpec) -> GuestMachine:
        """See `contract.Backend.create`."""
        with asked(SandboxStartFailed):  # on the way modules are loaded and files are read
            return await GuestMachine.started(await self.boot(spec), spec, self.toolchain)

    def toolchain(self, language: str) -> Toolchain:
        """See `contract.Backend.toolchain`."""
        with asked():
            return toolchains.found(language, host.drop_uid())

    async def boot(self, spec: SandboxSpec) -> Link:
        """A sandbox whose guest has greeted; the greeting is still in the socket. Raises as `create`."""
        _check(spec)
        if not self._keeper.is_alive:
            await self._keeper.start()
        if (
            self._machine is None
        ):  # the first time this reads files and may run another Python: not in the loop
            self._machine = await asyncio.to_thread(starting.machine)
        if spec.packages:
            at = self._machine
            path = await self._layers.path(spec.packages, at.python, at.uid, spec.on_step)
            spec = replace(spec, binds={**spec.binds, path: PACKAGES})
        if self.bwrap and self._forks and _is_ordinary(spec):
            self._zygote.want(self.bwrap, self._machine)
            forked = await self._forked(spec)
            if forked is not None:
                return forked
        tried: list[tuple[str, str]] = []
        for bwrap in [self.bwrap] if self.bwrap else self._machine.bwraps:
            try:
                link = await self._start(bwrap, spec, self._machine)
            except diagnosis.Refused as refused:
                tried.append((bwrap, refused.said))
            else:
                self.bwrap = bwrap
                return link
        raise diagnosis.unavailable(tried, diagnosis.facts())

    async def _start(self, bwrap: str, spec: SandboxSpec, machine: starting.Machine) -> Link:
        began = time.monotonic()
        guest = machine.guest if spec.guest is None else spec.guest
        files = {
            **argv.ETC,
            **host.huge_pages(),
            **{f"{INSIDE}/{name}": data for name, data in guest.items()},
            **(egress_files() if spec.resources.network else {}),
        }
        script = "start.pyc" if "start.pyc" in guest else "start.py"
        root, hidden = host.root_folders(), host.hidden_files()
        plan = argv.Plan(
            bwrap, machine.python, spec.resources, spec.binds, root, hidden, tuple(files), script
        )
        modes = await self._keeper.ready()
        with ExitStack() as theirs, ExitStack() as own:
            ends = starting.ends(theirs, own)
            launch = starting.launch(theirs, ends, argv.command(plan), files.values())
            rlimits, group, watch = starting.held(spec.resources, modes)
            launch = replace(launch, rlimits=rlimits, limits=group, watch=watch, uid=machine.uid)
            kept = await self._keeper.launch(launch)
            own.pop_all()
        await starting.greeted(ends, kept, spec.resources)
        try:
            await kept.bound((*ROOTS, SHARED_MEMORY), limits.most_files(spec.resources), machine.uid)
        except BaseException:
            ends.ours.close()
            await kept.kill()
            raise
        return self._link(kept, ends.ours, spec, began)

    async def _forked(self, spec: SandboxSpec) -> Link | None:
        """A sandbox as `_start` makes it, from the zygote; None when there is none, or it can make none.

        What is in its way, be it a lack of room, bubblewrap is about to meet and to say.
        """
        began = time.monotonic()
        zygote = self._zygote.standing
        if zygote is None:
            return None
        rlimits, group, watch = starting.held(spec.resources, await self._keeper.ready())
        order = {
            "rlimits": rlimits,
            "bounds": f"size={spec.resources.disk_mb << 20},nr_inodes={limits.most_files(spec.resources)}",
            "limits": argv.limits(spec.resources),
        }
        with ExitStack() as theirs, ExitStack() as own:
            ends = starting.ends(theirs, own)
            fds = [ends.fds[number] for number in (argv.GUEST_FD, 0, 1)]
            try:
                kept = await self._keeper.launch(Fork(zygote.number, fds, order, group, watch))
            except SandboxStartFailed:
                return None
            own.pop_all()
        settle(kept.bounded, True)
        try:
            await starting.greeted(ends, kept, spec.resources)
        except diagnosis.Refused:
            return None
        except SandboxStartFailed:
            if zygote.is_over:
                return None
            raise
        return self._link(kept, ends.ours, spec, began)

    def _link(self, kept: Kept, ours: socket.socket, spec: SandboxSpec, began: float) -> Link:
        assert self._machine is not None
        seconds = time.monotonic() - began
        capabilities = self._measured or self._expected(self._machine, kept.enforced, seconds)
        place = Place(ROOTS, spec.resources.disk_mb << 20, self._machine.uid)
        return Link(kept, ours, capabilities, place)

    def _expected(
        self, machine: starting.Machine, enforced: Iterable[str], seconds: float
    ) -> ExecutorCapabilities:
        held = limits.expected(set(enforced))
        kept: dict[str, Literal["files", "files+interpreter"]] = {
            name: "files+interpreter" if name in _WITH_STATE else "files" for name in machine.languages
        }
        return ExecutorCapabilities(
            backend=NAME,
            isolation_level="namespaces",
            supports_snapshots=kept,
            supports_network=True,
            languages=machine.languages,
            limits=held,
            not_enforced=limits.not_enforced(held),
            max_session_duration=None,
            cold_start_estimate=seconds,
            versions={"python": ".".join(map(str, machine.python.version)), "kernel": os.uname().release},
        )

    async def probe(self) -> ExecutorCapabilities:
        from terraphim_rlm.sandbox.backends.bubblewrap import probe

        async with self._probing:
            if self._measured is None:
                self._measured = await probe.measure(self)
        return self._measured

    async def zygote(self) -> str:
        """Makes what ordinary sandboxes are forked from, once a first one stood; why there is none, or nothing."""
        if not self._forks or not self.bwrap or self._machine is None:
            return "not asked for"
        self._zygote.want(self.bwrap, self._machine)
        return await self._zygote.settled()

    def statistics(self) -> KeeperStatistics:
        return self._keeper.statistics()

    async def lost(self) -> str:
        """See `contract.Backend`: its keeper is gone. The next sandbox has another one started."""
        return await self._keeper.lost()

    async def close(self) -> None:
        try:
            await self._zygote.close()
            await self._keeper.close()
        finally:
            self._layers.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _is_ordinary(spec: SandboxSpec) -> bool:
    """Whether nothing but its limits sets it apart from others."""
    return not (spec.binds or spec.packages or spec.resources.network or spec.guest)


def _check(spec: SandboxSpec) -> None:
    if spec.resources.network:
        from terraphim_rlm.sandbox.egress.rules import allowlist

        allowlist(spec.resources.network)
    for source, inside in spec.binds.items():
        if not os.path.isabs(source) or not os.path.exists(source):
            raise InvalidArgument(
                f"{source} cannot be bound into a sandbox: no such absolute path.", path=source
            )
        if not os.path.isabs(inside) or os.path.normpath(inside) != inside or inside == "/":
            raise InvalidArgument(f"{inside} is not a place in a sandbox.", path=inside)


async def open_backend() -> Bubblewrap:
    """The backend, once it is clear that this machine could run it.

    Raises:
        BackendUnavailable: it cannot; the fix is named.
    """
    seccomp.program()
    facts = diagnosis.facts()
    if not host.bwraps(host.drop_uid()) or diagnosis.forbidden(facts):
        raise diagnosis.unavailable([], facts)
    return Bubblewrap()


__all__ = ["Bubblewrap", "BackendUnavailable", "Link", "open_backend"]
