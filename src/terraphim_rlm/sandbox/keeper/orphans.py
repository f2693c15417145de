"""Processes as the keeper sees them: its children, an owner's birth, who is dead."""

from __future__ import annotations

import os

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
