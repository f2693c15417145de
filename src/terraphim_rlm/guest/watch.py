"""Memory of a sandbox whose kernel limits it as a whole only by ending it, as gVisor does: watched by its pid 1.

That kernel tells in `/proc/meminfo` what all processes and files of the sandbox take, what is shared counted once. Past
the bound the process that holds most is ended, as other kernels would do. Whoever outruns this ends the whole sandbox.
"""

import posix
import time

SELDOM, OFTEN = 100, 20
"""Milliseconds from one look to the next: while little is taken, and once a quarter of the bound is."""
PATIENCE = 0.25
"""Seconds until what was ended must have given its memory back; before that, nobody else is ended for it."""


class Watch:
    def __init__(self, most):
        self._most = most
        self._until = 0.0
        self._before = taken()  # what the kernel had taken when nothing had run yet

    def look(self):
        """Ends who holds most when there is too much; when to look again, and whether it had to."""
        now = taken() - self._before
        if now > self._most and time.monotonic() >= self._until:
            pid = largest()
            if pid:
                self._until = time.monotonic() + PATIENCE
                try:
                    posix.kill(pid, 9)
                except ProcessLookupError:
                    return OFTEN, False
                return OFTEN, True
        return (OFTEN if now > self._most // 4 else SELDOM), False


def taken():
    """Bytes."""
    found = {}
    for line in _read("/proc/meminfo").split(b"\n"):
        name, _, value = line.partition(b":")
        if name in (b"MemTotal", b"MemFree"):
            found[name] = int(value.split()[0])
    return (found[b"MemTotal"] - found[b"MemFree"]) << 10


def largest():
    """The process that holds most, this one apart; 0 when there is none."""
    held = []
    for name in posix.listdir("/proc"):
        if name.isdigit() and name != "1":
            try:
                held.append((int(_read(f"/proc/{name}/statm").split()[1]), int(name)))
            except (OSError, IndexError):
                continue
    return max(held)[1] if held else 0


def _read(path):
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return posix.read(fd, 8192)
    finally:
        posix.close(fd)
