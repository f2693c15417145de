"""What holds a container to its limits, by its runtime, and what nobody holds it to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from terraphim_rlm.core.values import Enforcement, Resources
from terraphim_rlm.sandbox.backends.bubblewrap.limits import BEST

GVISOR_MEMORY_MB, GVISOR_MEMORY_A_PROCESS_MB = 192, 2
"""That gVisor's own kernel may take besides a sandbox's memory, and for each process that there may be. Measured: 40 to
60 MB for a small sandbox, and 2 to 3 MB for each fork of a Python."""
_GVISOR_THREADS, _THREADS_A_PROCESS = 1024, 4
"""Threads of the host that gVisor takes for itself and for a thread of a sandbox; a bound for the host's sake only."""
_GVISOR: Mapping[str, Enforcement] = {"memory": "watched", "pids": "none", "inodes": "none"}
_MEANS: Mapping[str, str] = {
    "memory": "watched inside by the sandbox's first process, which ends the largest; who outruns it ends the sandbox",
    "pids": "gVisor counts no processes; memory bounds how many there can be, and who goes past it ends the sandbox",
    "inodes": "gVisor counts no files; memory bounds how many there can be",
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the engine is told, so that a sandbox gets what its resources say."""

    memory_mb: int
    pids: int
    watched: int
    """Bytes to which pid 1 holds the sandbox; 0 where the host's kernel can do it without ending all."""


def bounds(resources: Resources, runtime: str) -> Bounds:
    """gVisor's own kernel runs in the sandbox's control group: it needs room there, and the host's kernel would end it."""
    if runtime != "runsc":
        return Bounds(resources.memory_mb, resources.pids, 0)
    threads = _GVISOR_THREADS + _THREADS_A_PROCESS * resources.pids
    own = GVISOR_MEMORY_MB + GVISOR_MEMORY_A_PROCESS_MB * resources.pids
    return Bounds(resources.memory_mb + own, threads, resources.memory_mb << 20)


def expected(runtime: str) -> dict[str, Enforcement]:
    """What `probe` checks by running into each."""
    return {**BEST, **(_GVISOR if runtime == "runsc" else {})}


def not_enforced(held: Mapping[str, Enforcement]) -> tuple[str, ...]:
    """What is held less than it could be, one phrase each: `NAME: what that means`."""
    return tuple(
        f"{name}: {_MEANS.get(name, 'held by nothing that this engine has')}"
        for name, best in BEST.items()
        if held[name] != best
    )
