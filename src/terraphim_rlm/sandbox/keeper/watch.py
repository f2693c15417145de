"""Watches the memory of sandboxes that no control group holds, and ends the largest processes of one that has too much.

What is counted is what its processes hold, anonymous and shared; what several of them share counts once. What lies in no
process does not count: files, memory files that nobody has mapped, pipes and sockets. A look is due when what is left
could be used up; so much may be taken meanwhile.
"""

from __future__ import annotations

import os
from time import monotonic

from . import orphans

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable, Iterable
    from typing import Protocol

    class Watched(Protocol):
        """A sandbox, as the keeper has it."""

        number: int
        inner_pid: int
        doomed: bool
        memory: int
        look_at: float
        oom: int
else:
    import _signal

SLACK = 16 << 20
"""Bytes above the limit at which somebody is ended: one process alone meets its own limit first, and may go on."""
_PER_SECOND = 2 << 30
"""Bytes that a sandbox may take in a second, at most, as is supposed; two processors fill about as much."""
_SOONEST, _LATEST = 0.02, 0.5
_SHARE = 20
"""A look that took long is followed by a pause of so many times its time."""
_MOST_DEPTH = 5000
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Watch:
    """Over all sandboxes of one keeper."""

    def __init__(self, tell: Callable[..., None]) -> None:
        self._tell = tell

    def wait(self, boxes: Iterable[Watched], most: int) -> int:
        """Milliseconds until the next look is due, `most` at most."""
        due = [box.look_at for box in boxes if box.memory and not box.doomed]
        return min(most, max(0, round((min(due) - monotonic()) * 1000))) if due else most

    def look(self, boxes: Iterable[Watched]) -> list[int]:
        """Looks at those that are due; the numbers of those of which only pid 1 is left, and that is too much."""
        began = monotonic()
        return [
            box.number
            for box in boxes
            if box.memory and box.inner_pid and not box.doomed and box.look_at <= began and self._look(box)
        ]

    def _look(self, box: Watched) -> bool:
        began = monotonic()
        pids = _tree(box.inner_pid)
        held = sum(_resident(pid) for pid in pids)
        hopeless = False
        if held > box.memory + SLACK:  # more than there is: what is shared was counted more than once
            sizes = {pid: _size(pid) for pid in pids}
            held = sum(sizes.values())
            if held > box.memory + SLACK:
                hopeless = not self._end_largest(box, sizes, held - box.memory - SLACK)
                began = monotonic()
        left = max(0, box.memory + SLACK - held)
        pause = max(_SOONEST, min(_LATEST, left / _PER_SECOND), _SHARE * (monotonic() - began))
        box.look_at = monotonic() + pause
        return hopeless

    def _end_largest(self, box: Watched, sizes: dict[int, int], excess: int) -> bool:
        """Tells, then kills, so that whoever learns of an end knows why; False when there was none but pid 1.

        The largest first, until what they had is more than `excess`.
        """
        box.oom += 1
        self._tell("oom", box.number, box.oom)
        ended = 0
        for pid in sorted(sizes, key=sizes.__getitem__, reverse=True):
            if ended <= excess and pid != box.inner_pid and _killed(pid, box.inner_pid):
                ended += sizes[pid]
        return ended > 0


def _tree(top: int) -> list[int]:
    """A process and all that came of it and still have it as an ancestor."""
    found = [top]
    for pid in found:
        try:
            threads = os.listdir(f"/proc/{pid}/task")
            for thread in threads:
                found += map(int, _read(f"/proc/{pid}/task/{thread}/children").split())
        except OSError:  # it has ended
            continue
    return list(dict.fromkeys(found))


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 1 << 16)
    finally:
        os.close(fd)


def _resident(pid: int) -> int:
    try:
        return int(_read(f"/proc/{pid}/statm").split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def _size(pid: int) -> int:
    """Bytes that are its own, and its share of what it has with others; files of the disk excepted."""
    try:
        parts = _read(f"/proc/{pid}/smaps_rollup").split()
    except OSError:  # it has ended, or a security module keeps this from us
        return _resident(pid)
    names = (b"Pss_Anon:", b"Pss_Shmem:")
    return sum(int(parts[parts.index(name) + 1]) for name in names if name in parts) << 10


def _killed(pid: int, top: int) -> bool:
    """Kills a process, once it is certain that it is one of the sandbox whose pid 1 is `top`."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        ancestor: int | None = pid
        for _ in range(_MOST_DEPTH):
            ancestor = orphans.parent(ancestor) if ancestor else None
            if ancestor in (None, 0, 1, top):
                break
        if ancestor != top:
            return False
        _signal.pidfd_send_signal(pidfd, _signal.SIGKILL)
    except OSError:
        return False
    finally:
        os.close(pidfd)
    return True
