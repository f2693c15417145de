"""Measures what a bubblewrap sandbox holds on this machine, by running into each of its limits."""

from __future__ import annotations

import asyncio
import marshal
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from terraphim_rlm.core import process
from terraphim_rlm.core.errors import BackendUnavailable, SnapshotLost
from terraphim_rlm.core.values import Enforcement, ExecutorCapabilities, Resources
from terraphim_rlm.sandbox.backends.bubblewrap import limits
from terraphim_rlm.sandbox.contract import Request, SandboxSpec
from terraphim_rlm.sandbox.machine import GuestMachine

if TYPE_CHECKING:
    from terraphim_rlm.sandbox.backends.bubblewrap.backend import Bubblewrap, Link

_FEW_BYTES = 1000
_LITTLE_TIME = 0.05
_SMALL = Resources(memory_mb=32, cpus=1.0, pids=12, disk_mb=1)
_TINY_CPUS = 0.1
_CPU_SECONDS = 0.003
_ROUNDS = 10
_SECONDS = 20.0
_MOST_FILES = 65_536


async def measure(backend: Bubblewrap) -> ExecutorCapabilities:
    """One ordinary sandbox for the time it takes, then a small one that hits every limit it has.

    Raises:
        BackendUnavailable: no sandbox comes up, or the small one died without reaching its memory limit.
    """
    began = time.monotonic()
    ordinary = await backend.boot(SandboxSpec())
    seconds = time.monotonic() - began
    keeps_files, has_doors = await _keeps_files(ordinary), await _has_doors(ordinary)
    watched = await _watched(backend, ordinary)
    script = Path(__file__).with_name("trip.py").read_bytes()
    link = await backend.boot(SandboxSpec(resources=_SMALL, guest={"start.py": script}))
    try:
        async with asyncio.timeout(_SECONDS):
            held: dict[str, Enforcement] = {**await _trip(link), **watched}
    except TimeoutError:
        raise BackendUnavailable(f"The probe of the sandbox's limits took over {_SECONDS:.0f} s.") from None
    finally:
        await link.destroy()
    versions = {**ordinary.capabilities.versions, "bwrap": _version(backend.bwrap or "bwrap")}
    if lacking := await backend.zygote():
        versions["zygote"] = f"none: {lacking}"
    measured = replace(
        ordinary.capabilities,
        limits={name: held[name] for name in limits.BEST},
        not_enforced=limits.not_enforced(held),
        cold_start_estimate=seconds,
        versions=versions,
        supports_network=has_doors,
    )
    return (
        measured
        if keeps_files
        else replace(measured, supports_snapshots=dict.fromkeys(measured.languages, "none"))
    )


async def _watched(backend: Bubblewrap, link: Link) -> dict[str, Enforcement]:
    """What the host holds while it reads and waits, tried on code that would go on; the sandbox ends with it."""
    spec = SandboxSpec(Resources(output_bytes=_FEW_BYTES))
    machine = await GuestMachine.started(link, spec, backend.toolchain)
    try:
        said = await machine.execute(Request(f"print('x' * {9 * _FEW_BYTES})", "python", _SECONDS))
        late = await machine.execute(Request("while True: pass", "python", _LITTLE_TIME))
    finally:
        await machine.destroy()
    cut = said.truncated and len(said.stdout) <= _FEW_BYTES
    return {
        "output": "watched" if cut else "none",
        "time": "watched" if late.cause.startswith("timeout") else "none",
    }


async def _keeps_files(link: Link) -> bool:
    """Whether this kernel lets states of its files be taken."""
    try:
        await link.file_states("freeze", 0)
    except (OSError, SnapshotLost):
        return False
    return True


async def _has_doors(link: Link) -> bool:
    """Whether something of ours can listen inside, where code in there could not."""
    try:
        made = await link.doors([("tcp", "127.0.0.1", 443)])
    except OSError:
        return False
    for each in made:
        each.close()
    return True


def _version(bwrap: str) -> str:
    said = process.run([bwrap, "--version"], timeout=_SECONDS).stdout
    return said.decode("utf-8", "replace").strip().removeprefix("bubblewrap ")[:40]


async def _trip(link: Link) -> dict[str, Enforcement]:
    link.socket.recv(64)
    files = await _count(link, "open_files")
    disk = await _count(link, "disk", _SMALL.disk_mb << 20)
    pids = await _count(link, "pids", _SMALL.pids + 8)
    await link.kept.bounded
    most = limits.most_files(_SMALL)
    inodes = await _count(link, "inodes", most + 8)
    return {
        "cpu": await _cpu(link),
        "inodes": "kernel-group" if inodes <= most else "none",
        "pids": "kernel-group" if pids <= _SMALL.pids else "none",
        "disk": "kernel-group" if disk <= _SMALL.disk_mb << 20 else "none",
        "open_files": "per-process" if files < _MOST_FILES else "none",
        "memory": await _memory(link),
    }


async def _count(link: Link, trip: str, *arguments: float) -> int:
    found = await _ask(link, trip, *arguments)
    if not isinstance(found, int):
        raise BackendUnavailable("The probe of the sandbox's limits died.", fix="Run `trlm doctor` again.")
    return found


async def _cpu(link: Link) -> Enforcement:
    """Burns under a tiny quota until the kernel says that it stopped the sandbox for it."""
    if "cpu" not in link.kept.enforced:
        return "none"
    await link.kept.limit(cpu=_TINY_CPUS)
    for _ in range(_ROUNDS):
        await _ask(link, "cpu", _CPU_SECONDS)
        if link.kept.throttled():
            await link.kept.limit(cpu=_SMALL.cpus)
            return "kernel-group"
    return "none"


async def _memory(link: Link) -> Enforcement:
    together: Enforcement = "kernel-group" if "memory" in link.kept.enforced else "watched"
    stopped_by = await _ask(link, "memory", _SMALL.memory_mb << 20)
    if (
        stopped_by is None
    ):  # the whole sandbox ended: its pid 1 was killed for memory, or something else happened
        return together if (await link.ended()).oom else "none"
    if (
        stopped_by != "nobody" and link.oom_kills()
    ):  # also of one alone: on a loaded machine the first die late
        return together
    return "per-process" if stopped_by == "process" else "none"


async def _ask(link: Link, trip: str, *arguments: float) -> object:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(link.socket, marshal.dumps((trip, arguments), 2))
    data = await loop.sock_recv(link.socket, 4096)
    return marshal.loads(data) if data else None  # noqa: S302 - our own script; no other code has run in there
