"""Measures what a container holds on this machine, by running into each of its limits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from terraphim_rlm.core.errors import SandboxLost
from terraphim_rlm.core.values import Enforcement, ExecutorCapabilities, Resources
from terraphim_rlm.sandbox.backends.bubblewrap import trip
from terraphim_rlm.sandbox.backends.bubblewrap.limits import most_files
from terraphim_rlm.sandbox.backends.docker import limits
from terraphim_rlm.sandbox.contract import Request, SandboxSpec
from terraphim_rlm.sandbox.machine import GuestMachine

if TYPE_CHECKING:
    from terraphim_rlm.sandbox.backends.docker.backend import Docker

_SMALL = Resources(memory_mb=64, cpus=0.1, pids=24, disk_mb=1, output_bytes=1000)
_SECONDS = 60.0
_BURN = 0.1
_MOST_FILES = 65_536


async def measure(backend: Docker) -> ExecutorCapabilities:
    """A small sandbox that hits every limit it has. Raises as `Docker.create`, and SandboxLost."""
    spec = SandboxSpec(_SMALL)
    link = await backend.boot(spec)
    seconds = link.capabilities.cold_start_estimate
    machine = await GuestMachine.started(link, spec, backend.toolchain)
    try:
        said = await machine.execute(Request("print('x' * 9000)", "python", _SECONDS))
        late = await machine.execute(Request("while True: pass", "python", 0.05))
        files = await _count(machine, "open_files()")
        disk = await _count(machine, f"disk({_SMALL.disk_mb << 20})")
        inodes = await _count(machine, f"inodes({most_files(_SMALL) + 8})")
        before = link.throttled()
        await _count(machine, f"burn({_BURN})")
        pids = await _count(machine, f"processes({_SMALL.pids + 8})")  # gVisor may end over it
        held: dict[str, Enforcement] = {
            "output": "watched" if said.truncated and len(said.stdout) <= _SMALL.output_bytes else "none",
            "time": "watched" if late.cause.startswith("timeout") else "none",
            "open_files": "per-process" if 0 < files < _MOST_FILES else "none",
            "disk": "kernel-group" if 0 < disk <= _SMALL.disk_mb << 20 else "none",
            "inodes": "kernel-group" if 0 < inodes <= most_files(_SMALL) else "none",
            "pids": "kernel-group" if 0 < pids <= _SMALL.pids else "none",
            "cpu": "kernel-group" if link.throttled() > before else "none",
            "memory": await _memory(machine, backend.runtime),
        }
        if not link.oom_kills():
            held["memory"] = "none"
    finally:
        await machine.destroy()
    return replace(
        link.capabilities, limits=held, not_enforced=limits.not_enforced(held), cold_start_estimate=seconds
    )


async def _count(machine: GuestMachine, call: str) -> int:
    """What a trip came to; 0 when it did not come to its end."""
    try:
        end = await machine.execute(_tripped(call))
    except SandboxLost:
        return 0
    text = end.stdout.decode("utf-8", "replace").strip().rpartition("\n")[2]
    return int(float(text)) if text.replace(".", "", 1).isdigit() else 0


async def _memory(machine: GuestMachine, runtime: str) -> Enforcement:
    """Who holds several processes together without ending the sandbox; that somebody was ended, the caller sees to."""
    try:
        end = await machine.execute(_tripped(f"memory({_SMALL.memory_mb << 20})"))
    except SandboxLost:
        return "none"
    if not machine.is_open or (end.stdout.strip() != b"group" and not end.oom):
        return "none"
    return limits.expected(runtime)["memory"]


def _tripped(call: str) -> Request:
    source = Path(trip.__file__).read_text(encoding="utf-8").partition('\nif __name__ == "__main__":')[0]
    return Request(f"{source}\nprint({call})", "python", _SECONDS)
