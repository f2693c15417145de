"""The way of a sandbox from what it is made with to its guest's first word, whoever makes it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from terraphim_rlm.core.errors import SandboxStartFailed
from terraphim_rlm.core.values import Resources
from terraphim_rlm.sandbox.backends.bubblewrap import argv, diagnosis, host, seccomp, toolchains
from terraphim_rlm.sandbox.backends.bubblewrap.bundle import guest_files
from terraphim_rlm.sandbox.keeper.client import Kept, Launch
from terraphim_rlm.sandbox.keeper.waiting import settle
from terraphim_rlm.sandbox.link.memory import sealed
from terraphim_rlm.sandbox.link.room import no_room

_START_SECONDS = 20.0
PER_PROCESS: Mapping[str, int] = {"CORE": 0, "NOFILE": 512, "SIGPENDING": 1024, "MSGQUEUE": 0}
"""Limits of every process in a sandbox. The kernel counts descriptors in flight, timers and message queues of an
ordinary user's sandboxes and of his other programs together: with 512, what sandboxes have in flight stays below
the 1024 at which other programs could send none (one message carries 253 past the limit)."""
_LEAST = Resources(memory_mb=32, pids=8)  # below it, whatever goes wrong at the start is for want of room
_SAID = 4096  # bytes of what a sandbox that did not start had to say


class Machine(NamedTuple):
    """What every sandbox here is made with."""

    uid: int | None
    bwraps: list[str]
    python: host.GuestPython
    guest: Mapping[str, bytes]
    languages: tuple[str, ...]


def machine() -> Machine:
    """Reads files, and may run another Python.

    Raises:
        BackendUnavailable: something that every sandbox needs is not here.
    """
    seccomp.program()
    uid = host.drop_uid()
    python = host.guest_python(uid)
    return Machine(uid, host.bwraps(uid), python, guest_files(python), toolchains.languages(uid))


class Held(NamedTuple):
    """How a sandbox is held to its limits."""

    rlimits: dict[str, int]
    """Of each process."""
    group: dict[str, float]
    """Of its control group."""
    watch: int
    """As in `Launch`."""


def held(resources: Resources, modes: Mapping[str, int]) -> Held:
    """Where the keeper can limit what `modes` names."""
    memory = resources.memory_mb << 20
    rlimits = {**PER_PROCESS, "FSIZE": resources.disk_mb << 20}
    watch = 0 if "memory" in modes else memory
    if watch:
        rlimits["DATA"] = memory  # not AS: that would refuse Node and a mapped context
    return Held(rlimits, {"memory": memory, "pids": resources.pids, "cpu": resources.cpus}, watch)


class Ends(NamedTuple):
    """The ends of a sandbox's streams: ours, and those that it gets, by their numbers in it."""

    ours: socket.socket
    """Of its supervisor's socket."""
    said: int
    """Where its complaints can be read."""
    fds: dict[int, int]


def ends(theirs: ExitStack, own: ExitStack) -> Ends:
    """Makes them. `theirs` closes the sandbox's, `own` ours; each is in its stack from the moment it exists.

    No descriptor is of a host file: pipes, sockets and sealed memory only.

    Raises:
        SandboxStartFailed: there is no room for one more descriptor.
    """
    try:
        ours, guest = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        own.enter_context(ours).setblocking(False)
        its = guest.detach()
        theirs.callback(os.close, its)
        nothing, closed = os.pipe()
        theirs.callback(os.close, nothing)
        os.close(closed)
        said, complain = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        own.callback(os.close, said)
        theirs.callback(os.close, complain)
        os.set_blocking(complain, True)
    except OSError as error:
        raise no_room(error, SandboxStartFailed) from error
    return Ends(ours, said, {argv.GUEST_FD: its, 0: nothing, 1: complain, 2: complain})


def launch(theirs: ExitStack, ends: Ends, command: Sequence[str], contents: Iterable[bytes]) -> Launch:
    """What to start: bubblewrap, with the filter and the files of the sandbox in sealed memory.

    Raises:
        SandboxStartFailed: there is no room for one more descriptor, or no memory.
    """
    fds = dict(ends.fds)
    try:
        for number, data in ((argv.SECCOMP_FD, seccomp.program()), *enumerate(contents, argv.FIRST_FILE_FD)):
            fds[number] = sealed("trlm", [data])
            theirs.callback(os.close, fds[number])
    except OSError as error:
        raise no_room(error, SandboxStartFailed) from error
    return Launch(command, argv.ENV, fds, argv.INFO_FD)


async def greeted(ends: Ends, kept: Kept, resources: Resources) -> None:
    """Waits until the guest's first word lies in its socket; it is left there. Else nothing is left of the guest.

    Raises:
        diagnosis.Refused: bubblewrap or the zygote, or the keeper on the way to them, gave up.
        SandboxStartFailed: they did their part, and the guest then did not greet.
    """
    try:
        await _greeted(ends.ours, kept, ends.said, resources)
    except BaseException:
        ends.ours.close()
        await kept.kill()
        raise
    finally:
        os.close(ends.said)


async def _greeted(ours: socket.socket, kept: Kept, said: int, resources: Resources) -> None:
    loop = asyncio.get_running_loop()
    heard: asyncio.Future[object] = loop.create_future()
    loop.add_reader(ours.fileno(), settle, heard, None)
    kept.when_over(heard)  # who has lost its keeper half made may hold the socket open for ever
    try:
        async with asyncio.timeout(_START_SECONDS):
            await heard
    except TimeoutError:
        raise SandboxStartFailed(f"The sandbox said nothing for {_START_SECONDS:.0f} seconds.") from None
    finally:
        loop.remove_reader(ours.fileno())
    if not kept.is_over and ours.recv(1, socket.MSG_PEEK):
        return
    end = await kept.kill()
    text = _complaint(said)
    tiny = resources.memory_mb < _LEAST.memory_mb or resources.pids < _LEAST.pids
    if tiny or end.oom or "MemoryError" in text or "Resource temporarily unavailable" in text:
        raise SandboxStartFailed(
            f"The sandbox did not fit into {resources.memory_mb} MB of memory and {resources.pids} processes.",
            fix="Give it more with Resources(memory_mb=.., pids=..).",
        )
    if text.startswith(("bwrap:", "keeper:", "zygote:")):
        raise diagnosis.Refused(text)
    raise SandboxStartFailed(
        f"The sandbox ended while it started (exit code {end.exit_code}, signal {end.signal}): {text[-600:]}"
    )


def _complaint(said: int) -> str:
    try:
        return os.read(said, _SAID).decode("utf-8", "replace").strip()
    except BlockingIOError:
        return ""
