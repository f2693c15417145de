"""Runs in a small sandbox in place of the guest and runs into its limits: `start.py FD NPROC=N`.

One trip a request; what stopped it is the answer. The trip into the memory limit may be its last.
"""

from __future__ import annotations

import _socket
import marshal
import posix
import resource
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

_CHUNK = 1 << 16
_KILL = 9
_HOLDERS = 4
_PATIENCE = 5.0
"""Seconds for somebody who watches from outside to act."""


def open_files() -> int:
    """How many descriptors there could be."""
    fds: list[int] = []
    try:
        while len(fds) < 100_000:
            fds.append(posix.dup(0))
    except OSError:
        pass
    for fd in fds:
        posix.close(fd)
    return len(fds)


def disk(bytes_allowed: int) -> int:
    """How many bytes went into /work, in files of half its size."""
    written = 0
    for number in range(4):
        fd = posix.open(f"/work/{number}", posix.O_WRONLY | posix.O_CREAT)
        try:
            for _ in range(bytes_allowed // 2 // _CHUNK):
                written += posix.write(fd, b"x" * _CHUNK)
        except OSError:
            break
        finally:
            posix.close(fd)
    for number in range(4):
        if posix.access(f"/work/{number}", posix.F_OK):
            posix.unlink(f"/work/{number}")
    return written


def inodes(most: int) -> int:
    """How many files without content there could be in /work."""
    made = 0
    try:
        while made < most:
            posix.close(posix.open(f"/work/{made}", posix.O_WRONLY | posix.O_CREAT))
            made += 1
    except OSError:
        pass
    for number in range(made):
        posix.unlink(f"/work/{number}")
    return made


def processes(most: int) -> int:
    """How many children could live at once, counted by trying."""
    living: list[int] = []
    told, tell = posix.pipe()
    try:
        while len(living) < most:
            pid = posix.fork()
            if pid == 0:
                _sleep(tell)
            posix.read(told, 1)
            living.append(pid)
    except OSError:
        pass
    for pid in living:
        posix.kill(pid, _KILL)
        posix.waitpid(pid, 0)
    return len(living)


def _sleep(tell: int) -> NoReturn:
    posix.write(tell, b".")
    while True:
        time.sleep(60)


def burn(seconds: float) -> float:
    """Uses so much CPU time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return seconds


def memory(bytes_allowed: int) -> str:
    """Who stopped it: `group` when several processes together, `process` when one alone, else `nobody`."""
    holders: list[int] = []
    missing = 0
    for _ in range(_HOLDERS):
        holder = None if missing else _holder(bytes_allowed * 6 // 10)
        holders += [] if holder is None else [holder]
        missing += (holder is None) + _ended(holders)
    late = time.monotonic() + _PATIENCE
    while not missing and time.monotonic() < late:
        time.sleep(0.01)
        missing = _ended(holders)
    for holder in holders:
        posix.kill(holder, _KILL)
        posix.waitpid(holder, 0)
    if missing:
        return "group"
    alone = _holder(bytes_allowed * 13 // 10)
    if alone is None:
        return "process"
    posix.kill(alone, _KILL)
    return "nobody"


def _holder(size: int) -> int | None:
    """The pid of a child that holds `size` bytes; None when it could not get them or was killed."""
    told, tell = posix.pipe()
    pid = posix.fork()
    if pid == 0:
        try:
            held = bytearray(size)
            held[::4096] = b"\1" * len(held[::4096])
        except MemoryError:
            posix._exit(1)
        _sleep(tell)
    posix.close(tell)
    ready = posix.read(told, 1)
    posix.close(told)
    if ready:
        return pid
    posix.waitpid(pid, 0)
    return None


def _ended(pids: list[int]) -> int:
    """How many have ended; they are taken from the list."""
    gone = [pid for pid in pids if posix.waitpid(pid, posix.WNOHANG) != (0, 0)]
    for pid in gone:
        pids.remove(pid)
    return len(gone)


_TRIPS: dict[str, Callable[..., Any]] = {
    "open_files": open_files,
    "disk": disk,
    "inodes": inodes,
    "pids": processes,
    "cpu": burn,
    "memory": memory,
}


def main(fd: int, limits: str) -> None:
    host = _socket.socket(fileno=fd)
    most = int(limits.partition("=")[2])
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
    host.send(b"hello")
    while True:
        request = host.recv(4096)
        if not request:
            return
        name, arguments = marshal.loads(request)  # noqa: S302 - from the host
        host.send(marshal.dumps(_TRIPS[name](*arguments), 2))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
