"""What holds a bubblewrap sandbox to its limits, and what nobody holds it to."""

from __future__ import annotations

from collections.abc import Mapping

from terraphim_rlm.core.values import Enforcement, Resources

FILES_PER_MB = 256
"""A file for each page of the disk: who puts something into every file runs out of pages first."""
BEST: Mapping[str, Enforcement] = {
    "memory": "kernel-group",
    "cpu": "kernel-group",
    "pids": "kernel-group",
    "disk": "kernel-group",
    "inodes": "kernel-group",
    "open_files": "per-process",
    "output": "watched",
    "time": "watched",
}
"""Every limit there is, and how it is held where nothing is missing."""
WITHOUT_GROUP: Mapping[str, str] = {
    "cpu": "no share is held; a sandbox may keep every CPU busy until its time is up",
    "memory": "held by the kernel for each process by itself; all together are watched, and the largest is ended once "
    "they hold 16 MB more, by when they may have taken more still; what lies in files, pipes and sockets is not counted",
}
"""What an ordinary user without a control group of his own does not get: limit -> what that means."""


def expected(enforced: set[str], *, bounded: bool = True) -> dict[str, Enforcement]:
    """What holds a sandbox whose control group limits `enforced`; `probe` checks this by running into each.

    Processes are held by the control group or by RLIMIT_NPROC, which the kernel counts per user namespace.

    Args:
        bounded: its file systems have a bound of files.
    """
    found = dict(BEST)
    if "memory" not in enforced:
        found["memory"] = "watched"
    if "cpu" not in enforced:
        found["cpu"] = "none"
    if not bounded:
        found["inodes"] = "none"
    return found


def not_enforced(limits: Mapping[str, Enforcement]) -> tuple[str, ...]:
    """What of `limits` is held less than it could be, one phrase each: `NAME: what that means`."""
    return tuple(
        f"{name}: {WITHOUT_GROUP.get(name, 'held by nothing that this machine has')}"
        for name, best in BEST.items()
        if limits[name] != best
    )


def most_files(resources: Resources) -> int:
    """In each of a sandbox's writable file systems, folders and links included."""
    return resources.disk_mb * FILES_PER_MB
