"""Processes as the keeper sees them: its children, an owner's birth, who is dead, and what dead keepers left.

Whatever a keeper makes carries its name: `trlm-` and four numbers with dots between, the pid namespace, the owner's
pid and birth, the keeper's pid. Control groups are called so, and so is each `bwrap`, in its `argv[0]`.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal

_STATE, _PARENT, _START = 0, 1, 19  # fields of /proc/PID/stat, counted after the command's name


def stat(pid: int) -> list[bytes] | None:
    """The fields of `/proc/PID/stat` from the state on; None when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            return file.read(4096).rpartition(b")")[2].split()
    except OSError:
        return None


def start_time(pid: int) -> int | None:
    """Clock ticks after boot at which `pid` began: with the pid, a name no other process ever has."""
    fields = stat(pid)
    return None if fields is None or fields[_STATE] in (b"Z", b"X") else int(fields[_START])


def parent(pid: int) -> int | None:
    fields = stat(pid)
    return None if fields is None else int(fields[_PARENT])


def children() -> list[int]:
    """Pids of this process's children, dead ones not yet reaped included."""
    own = os.getpid()
    try:
        with open(f"/proc/self/task/{own}/children", "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and parent(int(name)) == own]


def name(owner: int) -> str:
    """Of this process as the keeper of `owner`."""
    return f"trlm-{_namespace()}.{owner}.{start_time(owner) or 0}.{os.getpid()}"


def is_left_behind(text: str) -> bool:
    """Whether `text` is the name of a keeper of this pid namespace that is dead, or whose owner is."""
    parts = text.removeprefix("trlm-").split(".")
    if not text.startswith("trlm-") or len(parts) != 4 or not all(part.isdecimal() for part in parts):
        return False
    namespace, owner, born, keeper = map(int, parts)
    living = start_time(owner) == born and start_time(keeper) is not None
    return namespace == _namespace() and not living


def sweep() -> list[int]:
    """Kills every `bwrap` of a dead keeper; their pids.

    A keeper's death kills its sandboxes, but not a `bwrap` that waits at that moment for its own parent's word.
    """
    killed: list[int] = []
    for pid in [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]:
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            continue
        try:
            with open(f"/proc/{pid}/cmdline", "rb", buffering=0) as file:
                called = file.read(200).partition(b"\0")[0].decode("ascii", "replace")
            if is_left_behind(called):
                _signal.pidfd_send_signal(pidfd, _signal.SIGKILL)
                killed.append(pid)
        except OSError:
            continue
        finally:
            os.close(pidfd)
    return killed


def _namespace() -> int:
    return os.stat("/proc/self/ns/pid").st_ino
