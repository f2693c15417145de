"""Makes sandboxes with bubblewrap through the keeper."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

from terraphim_rlm.core.errors import (
    BackendUnavailable,
    InvalidArgument,
    SandboxStartFailed,
)
from terraphim_rlm.core.values import Enforcement, ExecutorCapabilities, Resources
from terraphim_rlm.sandbox.backends.bubblewrap import argv, diagnosis, host, limits, seccomp, toolchains
from terraphim_rlm.sandbox.backends.bubblewrap.bundle import INSIDE, guest_files
from terraphim_rlm.sandbox.backends.bubblewrap.layered import Layers
from terraphim_rlm.sandbox.contract import (
    ROOTS,
    SHARED_MEMORY,
    Consumption,
    GuestEnd,
    SandboxSpec,
    Toolchain,
)
from terraphim_rlm.sandbox.egress.inside import files as egress_files
from terraphim_rlm.sandbox.keeper.client import Keeper, KeeperStatistics, Kept, Launch
from terraphim_rlm.sandbox.keeper.doorways import Door
from terraphim_rlm.sandbox.keeper.file_states import Place
from terraphim_rlm.sandbox.link.memory import sealed
from terraphim_rlm.sandbox.machine import GuestMachine
from terraphim_rlm.sandbox.packages.build import INSIDE as PACKAGES

NAME = "bubblewrap"
_START_SECONDS = 20.0
_PER_PROCESS: Mapping[str, int] = {"CORE": 0, "NOFILE": 512, "SIGPENDING": 1024, "MSGQUEUE": 0}
"""Limits of every process in a sandbox. The kernel counts descriptors in flight, timers and message queues of an
ordinary user's sandboxes and of his other programs together: with 512, what sandboxes have in flight stays below
the 1024 at which other programs could send none (one message carries 253 past the limit)."""
_LEAST = Resources(memory_mb=32, pids=8)  # below it, whatever goes wrong at the start is for want of room
_WITH_STATE = ("python", "bash")
"""Whose interpreters come back as they were. JavaScript's comes back by running its cells again."""
_SAID = 4096  # bytes of what a sandbox that did not start had to say


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


class _Machine(NamedTuple):
    """What every sandbox here is made with."""

    uid: int | None
    bwraps: list[str]
    python: host.GuestPython
    guest: Mapping[str, bytes]


def _machine() -> _Machine:
    seccomp.program()
    uid = host.drop_uid()
    python = host.guest_python(uid)
    return _Machine(uid, host.bwraps(uid), python, guest_files(python))


class Bubblewrap:
    """An async context manager; leaving it ends every sandbox it made. One event loop."""

    name = NAME

    def __init__(self) -> None:
        self._keeper = Keeper()
        self.bwrap: str | None = None
        """The program that made the first sandbox; the others are not tried any more."""
        self._machine: _Machine | None = None
        self._measured: ExecutorCapabilities | None = None
        self._probing = asyncio.Lock()
        self._layers = Layers()

    async def create(self, spec: SandboxSpec) -> GuestMachine:
        """See `contract.Backend.create`."""
        return await GuestMachine.started(await self.boot(spec), spec, self.toolchain)

    def toolchain(self, language: str) -> Toolchain:
        """See `contract.Backend.toolchain`."""
        return toolchains.found(language, host.drop_uid())

    async def boot(self, spec: SandboxSpec) -> Link:
        """A sandbox whose guest has greeted; the greeting is still in the socket. Raises as `create`."""
        _check(spec)
        if not self._keeper.is_alive:
            await self._keeper.start()
        if (
            self._machine is None
        ):  # the first time this reads files and may run another Python: not in the loop
            self._machine = await asyncio.to_thread(_machine)
        if spec.packages:
            at = self._machine
            path = await self._layers.path(spec.packages, at.python, at.uid, spec.on_step)
            spec = replace(spec, binds={**spec.binds, path: PACKAGES})
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

    async def _start(self, bwrap: str, spec: SandboxSpec, machine: _Machine) -> Link:
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
            ours, launch, said = _prepare(theirs, own, plan, files.values())
            kept = await self._keeper.launch(_limited(launch, plan, modes, machine.uid))
            own.pop_all()
        try:
            await _greeted(ours, kept, said, spec)
            await kept.bound((*ROOTS, SHARED_MEMORY), limits.most_files(spec.resources), machine.uid)
        except BaseException:
            ours.close()
            await kept.kill()
            raise
        finally:
            os.close(said)
        capabilities = self._measured or self._expected(plan, kept.enforced, time.monotonic() - began)
        return Link(kept, ours, capabilities, Place(ROOTS, spec.resources.disk_mb << 20, machine.uid))

    def _expected(self, plan: argv.Plan, enforced: Iterable[str], seconds: float) -> ExecutorCapabilities:
        languages = toolchains.languages(host.drop_uid())
        held = limits.expected(set(enforced))
        kept: dict[str, Literal["files", "files+interpreter"]] = {
            name: "files+interpreter" if name in _WITH_STATE else "files" for name in languages
        }
        return ExecutorCapabilities(
            backend=NAME,
            isolation_level="namespaces",
            supports_snapshots=kept,
            supports_network=True,
            languages=languages,
            limits=held,
            not_enforced=limits.not_enforced(held),
            max_session_duration=None,
            cold_start_estimate=seconds,
            versions={"python": ".".join(map(str, plan.python.version)), "kernel": os.uname().release},
        )

    async def probe(self) -> ExecutorCapabilities:
        from terraphim_rlm.sandbox.backends.bubblewrap import probe

        async with self._probing:
            if self._measured is None:
                self._measured = await probe.measure(self)
        return self._measured

    def statistics(self) -> KeeperStatistics:
        return self._keeper.statistics()

    async def close(self) -> None:
        try:
            await self._keeper.close()
        finally:
            self._layers.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


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


def _limited(launch: Launch, plan: argv.Plan, modes: Mapping[str, int], uid: int | None) -> Launch:
    resources = plan.resources
    rlimits = {**_PER_PROCESS, "FSIZE": resources.disk_mb << 20}
    memory = resources.memory_mb << 20
    watch = 0 if "memory" in modes else memory
    if watch:
        rlimits["DATA"] = memory  # not AS: that would refuse Node and a mapped context
    group = {"memory": memory, "pids": resources.pids, "cpu": resources.cpus}
    return Launch(launch.argv, launch.env, launch.fds, launch.info_fd, rlimits, group, uid, watch)


def _prepare(
    theirs: ExitStack, own: ExitStack, plan: argv.Plan, contents: Iterable[bytes]
) -> tuple[socket.socket, Launch, int]:
    """Our end of the guest's socket, what to launch, and where its complaints can be read.

    No descriptor is of a host file: pipes, sockets and sealed memory only. `theirs` closes the sandbox's ends,
    `own` the two that are returned; each is in its stack from the moment it exists.

    Raises:
        SandboxStartFailed: there is no room for one more descriptor, or no memory.
    """
    fds: dict[int, int] = {}

    def keep(number: int, fd: int) -> None:
        fds[number] = fd
        theirs.callback(os.close, fd)

    try:
        ours, guest = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        own.enter_context(ours).setblocking(False)
        keep(argv.GUEST_FD, guest.detach())
        nothing, closed = os.pipe()
        keep(0, nothing)
        os.close(closed)
        said, complain = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        own.callback(os.close, said)
        keep(1, complain)
        fds[2] = complain
        os.set_blocking(complain, True)
        keep(argv.SECCOMP_FD, sealed("trlm", [seccomp.program()]))
        for number, data in enumerate(contents, argv.FIRST_FILE_FD):
            keep(number, sealed("trlm", [data]))
    except OSError as error:
        raise SandboxStartFailed(
            f"The sandbox could not be prepared: {error.strerror}.",
            fix="Raise the limit of open files (`ulimit -n 1024`), or keep fewer sandboxes at once.",
        ) from error
    return ours, Launch(argv.command(plan), argv.ENV, fds, argv.INFO_FD), said


async def _greeted(ours: socket.socket, kept: Kept, said: int, spec: SandboxSpec) -> None:
    """Waits until the guest's first word lies in the socket; it is left there.

    Raises:
        diagnosis.Refused: bubblewrap, or the keeper on the way to it, gave up.
        SandboxStartFailed: bubblewrap did its part, and the guest then did not greet.
    """
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()
    loop.add_reader(ours.fileno(), _wake, readable)
    try:
        async with asyncio.timeout(_START_SECONDS):
            await readable
    except TimeoutError:
        raise SandboxStartFailed(f"The sandbox said nothing for {_START_SECONDS:.0f} seconds.") from None
    finally:
        loop.remove_reader(ours.fileno())
    if ours.recv(1, socket.MSG_PEEK):
        return
    end = await kept.kill()
    text = _complaint(said)
    resources = spec.resources
    tiny = resources.memory_mb < _LEAST.memory_mb or resources.pids < _LEAST.pids
    if tiny or end.oom or "MemoryError" in text or "Resource temporarily unavailable" in text:
        raise SandboxStartFailed(
            f"The sandbox did not fit into {resources.memory_mb} MB of memory and {resources.pids} processes.",
            fix="Give it more with Resources(memory_mb=.., pids=..).",
        )
    if text.startswith(("bwrap:", "keeper:")):
        raise diagnosis.Refused(text)
    raise SandboxStartFailed(
        f"The sandbox ended while it started (exit code {end.exit_code}, signal {end.signal}): {text[-600:]}"
    )


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _complaint(said: int) -> str:
    try:
        return os.read(said, _SAID).decode("utf-8", "replace").strip()
    except BlockingIOError:
        return ""


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
