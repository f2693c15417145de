"""What a container is made with: everything that a sandbox sees and may, top to bottom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from terraphim_rlm.core.values import Resources
from terraphim_rlm.sandbox.backends.bubblewrap.limits import most_files
from terraphim_rlm.sandbox.backends.docker.limits import bounds

USER = "65534:65534"
"""Nobody's uid, on the host as in the container; what it may is what its container may."""
OPEN_FILES = 512
_HIDDEN = (
    "/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/key-users", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/proc/cmdline", "/proc/interrupts",
)  # fmt: skip
_IN_PLACE = ("/sys", "/sys/fs/cgroup", "/run", "/var/lib")
"""What lies there, or the engine would mount there, tells of the host's devices and control groups and of how the image was
made; nothing is there instead."""
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
"""As the engine's own lists, and what tells of the host besides: its command line, its devices, its control groups."""
WORK = ("/work", "0700")
_SHARED = (("/tmp", "1777"), ("/dev/shm", "1777"))  # noqa: S108 - the sandbox's own
ENV = (
    "PATH=/usr/local/bin:/usr/bin:/bin",
    "LANG=C.UTF-8",
    "HOME=/work",
    "GLIBC_TUNABLES=glibc.malloc.hugetlb=1",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """One container to be."""

    image: str
    runtime: str
    """`runc` or `runsc`, as the engine has it registered."""
    command: tuple[str, ...]
    resources: Resources
    labels: Mapping[str, str]
    binds: Mapping[str, str] = field(default_factory=dict)


def container(plan: Plan) -> dict[str, Any]:
    """The body of the engine's `create`.

    Standard input is closed in the container when whoever attached to it goes, so that pid 1 ends with its owner,
    and the engine removes what has ended. No output is logged.
    """
    return {
        "Image": plan.image,
        "Entrypoint": list(plan.command),
        "Cmd": [],
        "Env": list(ENV),
        "User": USER,
        "WorkingDir": "/work",
        "Hostname": "sandbox",
        "Labels": dict(plan.labels),
        "Tty": False,
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "NetworkDisabled": True,
        "HostConfig": _host(plan),
    }


def _host(plan: Plan) -> dict[str, Any]:
    resources, held = plan.resources, bounds(plan.resources, plan.runtime)
    memory = held.memory_mb << 20
    return {
        "Runtime": plan.runtime,
        "NetworkMode": "none",
        "IpcMode": "private",
        "ReadonlyRootfs": True,
        "AutoRemove": True,
        "Privileged": False,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],  # the engine's own seccomp profile stays; pid 1 adds ours
        "Binds": [f"{source}:{inside}:ro" for source, inside in plan.binds.items()],
        "Tmpfs": _writable(resources),
        "Memory": memory,
        "MemorySwap": memory,  # as much as memory alone: no swap
        "NanoCpus": int(resources.cpus * 1e9),
        "PidsLimit": held.pids,
        "Ulimits": [
            {"Name": "nofile", "Soft": OPEN_FILES, "Hard": OPEN_FILES},
            {"Name": "core", "Soft": 0, "Hard": 0},
            {"Name": "fsize", "Soft": resources.disk_mb << 20, "Hard": resources.disk_mb << 20},
        ],
        "LogConfig": {"Type": "none", "Config": {}},
        "OomKillDisable": False,
        "MaskedPaths": list(_HIDDEN),
        "ReadonlyPaths": list(_READ_ONLY),
    }


def _writable(resources: Resources) -> dict[str, str]:
    size = f"size={resources.disk_mb << 20},nr_inodes={most_files(resources)}"
    own = ",".join(("rw", "exec", "nosuid", "nodev", size, f"mode={WORK[1]}", "uid=65534", "gid=65534"))
    shared = {path: f"rw,exec,nosuid,nodev,{size},mode={mode}" for path, mode in _SHARED}
    return {WORK[0]: own, **shared, **dict.fromkeys(_IN_PLACE, "rw,noexec,nosuid,nodev,size=4k,mode=0555")}
