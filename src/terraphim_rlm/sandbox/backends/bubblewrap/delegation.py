"""How a user on this machine comes by a control group that he may divide."""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

from terraphim_rlm.core import process
from terraphim_rlm.sandbox.keeper.groups import hierarchies

SCOPE = ("systemd-run", "--user", "--scope", "--quiet", "-p", "Delegate=yes")
_SECONDS = 5.0
_OF_SESSION = ("PATH", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")
"""By which systemd-run finds the user's own systemd."""
_WHY = "A control group of its own lets the kernel hold all processes of a sandbox together."
_GIVE = {
    1: "for c in memory pids cpu; do g=/sys/fs/cgroup/$c/{user}; mkdir -p $g; chown -R {user} $g; "
    "echo {shell} > $g/cgroup.procs; done",
    2: "g=/sys/fs/cgroup/{user}; mkdir -p $g/shell; echo +memory +pids +cpu > $g/cgroup.subtree_control; "
    "chown {user} $g $g/shell $g/cgroup.procs $g/cgroup.subtree_control; echo {shell} > $g/shell/cgroup.procs",
}
"""By version: what root runs once, for a shell and all that is started from it."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What decides how it is done."""

    version: int | None
    """Of the control groups that hold memory here; None: there are none."""
    systemd: bool
    """Whether it runs this machine."""
    said: str | None = None
    """Why systemd gave this user no scope when it was asked for one; None: it gave one, or was not asked."""
    user: str = "USER"
    shell: int = 0
    """Process that is to be in the group."""


def advice(facts: Facts) -> str:
    """What to do, in one line."""
    if facts.version is None:
        return "Run it where the kernel has control groups for memory: none are mounted here."
    if facts.version == 2 and facts.systemd and facts.said is None:
        return f"Run it as `{' '.join(SCOPE)} trlm ..`, or as root. {_WHY}"
    give = _GIVE[facts.version].format(user=facts.user, shell=facts.shell)
    asked = f" (systemd-run gave no scope: {facts.said})" if facts.said else ""
    return f"Run it as root, or let root give this shell a group: `sudo sh -c '{give}'`{asked}. {_WHY}"


def facts() -> Facts:
    """Of this machine; where systemd runs it, it is asked for a scope."""
    version = _version()
    systemd = os.path.isdir("/run/systemd/system")
    said = _refusal() if systemd and version == 2 else None
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    return Facts(version, systemd, said, user, os.getppid())


def _version() -> int | None:
    mounted = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
    own = Path("/proc/self/cgroup").read_text("utf-8", "surrogateescape")
    found = hierarchies(mounted, own)
    if any("memory" in each.controllers for each in found):
        return 1
    return 2 if any(_has_memory(each.folder) for each in found if each.version == 2) else None


def _has_memory(folder: str) -> bool:
    """Whether the controller is to be had in a group of version 2 or in one above it."""
    here = Path(folder)
    return any(
        (each / "cgroup.controllers").is_file()
        and "memory" in (each / "cgroup.controllers").read_text().split()
        for each in (here, *here.parents)
    )


def _refusal() -> str | None:
    env = {name: os.environ[name] for name in _OF_SESSION if name in os.environ}
    try:
        done = process.run([*SCOPE, "true"], timeout=_SECONDS, env=env)
    except OSError as error:
        return f"{SCOPE[0]}: {error.strerror}"
    except subprocess.TimeoutExpired:
        return f"no answer in {_SECONDS:.0f} s"
    if done.returncode == 0:
        return None
    return done.stderr.decode("utf-8", "replace").strip()[:200] or f"exit code {done.returncode}"
