"""Bubblewrap's command line: everything a sandbox sees, top to bottom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from terraphim_rlm.core.values import Resources
from terraphim_rlm.sandbox.backends.bubblewrap.bundle import INSIDE
from terraphim_rlm.sandbox.backends.bubblewrap.host import GuestPython

INNER_ID = "65534"
GUEST_FD, INFO_FD, SECCOMP_FD, LINE_FD, FIRST_FILE_FD = 3, 4, 5, 6, 7
ENV: Mapping[str, str] = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/work",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
"""Bubblewrap's own and so pid 1's: user code can read it in `/proc/1/environ`.

The tunable asks for large pages for large objects. A fork copies one entry a page, so that it makes a snapshot of
200 MB three times as fast (measured: a fork and its end 1.5 ms instead of 19); an idle sandbox takes 0.3 MB more.
"""

ETC: Mapping[str, bytes] = {
    "/etc/passwd": b"root:x:0:0:root:/:/usr/sbin/nologin\nsandbox:x:65534:65534:sandbox:/work:/bin/sh\n",
    "/etc/group": b"root:x:0:\nsandbox:x:65534:\n",
    "/etc/hosts": b"127.0.0.1 localhost sandbox\n::1 localhost\n",
    "/etc/nsswitch.conf": b"passwd: files\ngroup: files\nhosts: files dns\n",
}
_TRIED_BINDS = ("/etc/alternatives", "/etc/ld.so.cache")  # names of programs and libraries, nothing else


@dataclass(frozen=True, slots=True)
class Plan:
    """What a command line is made from."""

    bwrap: str
    python: GuestPython
    resources: Resources
    binds: Mapping[str, str]
    root: Sequence[tuple[str, str | None]]
    """`host.root_folders()`."""
    hidden: Sequence[str]
    """`host.hidden_files()`: covered by a null device that cannot be opened."""
    files: Sequence[str]
    """Paths inside, each copied from a descriptor: the first from FIRST_FILE_FD, and so on."""
    script: str


def command(plan: Plan) -> list[str]:
    """The whole command line. Nothing secret may stand in it: every user of the machine can read it."""
    return [
        plan.bwrap,
        *_isolation(),
        *_system(plan),
        *_writable(plan.resources),
        *_files(plan),
        *_program(plan),
    ]


def zygote(plan: Plan) -> list[str]:
    """The command line of what sandboxes are forked from, see `guest/zygote.py`.

    It has all capabilities in a user namespace of its own: it makes namespaces and mounts in there. What is writable in
    a sandbox, its terminals and its `/proc` it mounts for each anew. Not `--dev`: that makes a second user namespace,
    from which those of the first cannot be entered again.
    """
    return [
        plan.bwrap, *_NAMESPACES, "--cap-add", "ALL", "--info-fd", str(INFO_FD),
        *_system(plan, _devices()),
        "--dir", "/work", "--dir", "/tmp",  # noqa: S108 - inside
        *_files(plan),
        "--", plan.python.path, "-I", "-S", f"{INSIDE}/{plan.script}",
        "zygote", str(GUEST_FD), str(LINE_FD), str(SECCOMP_FD),
    ]  # fmt: skip


_NAMESPACES = (
    "--unshare-all", "--unshare-user", "--uid", INNER_ID, "--gid", INNER_ID, "--hostname", "sandbox",
    "--new-session", "--die-with-parent", "--as-pid-1",
)  # fmt: skip


def _isolation() -> list[str]:
    own = ["--disable-userns", "--cap-drop", "ALL", "--seccomp", str(SECCOMP_FD), "--info-fd", str(INFO_FD)]
    return [*_NAMESPACES, *own]


_DEVICE_LINKS = {
    "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2", "fd": "/proc/self/fd",
    "core": "/proc/kcore", "ptmx": "pts/ptmx",
}  # fmt: skip


def _devices() -> list[str]:
    """As `--dev` makes it, but for terminals."""
    parts = ["--perms", "0755", "--tmpfs", "/dev", "--dir", "/dev/pts", "--dir", "/dev/shm"]  # noqa: S108 - inside
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        parts += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    for name, target in _DEVICE_LINKS.items():
        parts += ["--symlink", target, f"/dev/{name}"]
    return parts


def _system(plan: Plan, devices: Sequence[str] = ("--dev", "/dev")) -> list[str]:
    parts = ["--ro-bind", "/usr", "/usr"]
    for path, target in plan.root:
        parts += ["--symlink", target, path] if target is not None else ["--ro-bind", path, path]
    prefix = plan.python.prefix
    if prefix != "/usr" and not prefix.startswith("/usr/"):
        parts += ["--ro-bind", prefix, prefix]
    for path in _TRIED_BINDS:
        parts += ["--ro-bind-try", path, path]
    parts += ["--proc", "/proc", *devices]
    for path in plan.hidden:
        parts += ["--ro-bind", "/dev/null", path]
    return parts


def _writable(resources: Resources) -> list[str]:
    size = str(resources.disk_mb << 20)
    parts: list[str] = []
    for path, mode in (("/work", "0700"), ("/tmp", "1777"), ("/dev/shm", "1777")):  # noqa: S108 - inside
        parts += ["--perms", mode, "--size", size, "--tmpfs", path]
    return parts


def _files(plan: Plan) -> list[str]:
    parts: list[str] = []
    for host, inside in plan.binds.items():
        parts += ["--ro-bind", host, inside]
    for number, path in enumerate(plan.files, FIRST_FILE_FD):
        parts += ["--perms", "0444", "--file", str(number), path]
    return [*parts, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/work"]


def _program(plan: Plan) -> list[str]:
    script = f"{INSIDE}/{plan.script}"
    return ["--", plan.python.path, "-I", "-S", script, str(GUEST_FD), limits(plan.resources)]


def limits(resources: Resources) -> str:
    """What the supervisor limits itself, once it is in its user namespace."""
    return f"NPROC={resources.pids}"
