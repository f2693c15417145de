"""Memory and time of processes as the kernel counts them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


class Unreadable(Exception):
    """The kernel does not tell this user."""


def descendants(pid: int | None = None) -> set[int]:
    """Every process that came of `pid` (None: of this one) and has a parent among them still."""
    parents: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (parent := _parent(int(name))) is not None:
            parents.setdefault(parent, []).append(int(name))
    found: set[int] = set()
    waiting = [pid or os.getpid()]
    while waiting:
        for child in parents.get(waiting.pop(), ()):
            found.add(child)
            waiting.append(child)
    return found


def _parent(pid: int) -> int | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:  # it has ended
        return None
    return int(text.rpartition(")")[2].split()[1])


def pss_mb(pids: Iterable[int]) -> float:
    """Proportional set size of some processes together, in MB; one that has ended counts nothing.

    Raises:
        Unreadable: one of them does not show it; those of another user, and what is not dumpable, need root.
    """
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        except OSError as error:
            raise Unreadable("only root may read the memory of a sandbox's processes") from error
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total / 1024


def processor_ms(pids: Iterable[int]) -> float:
    """Processor time of some processes together, in ms; one that has ended counts nothing.

    Raises:
        Unreadable: this kernel does not count it finely.
    """
    total = 0
    for pid in pids:
        try:
            total += int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])
        except ProcessLookupError:
            continue
        except FileNotFoundError as error:
            if os.path.exists("/proc/self/schedstat"):
                continue
            raise Unreadable("this kernel counts no processor time by the nanosecond") from error
    return total / 1e6
