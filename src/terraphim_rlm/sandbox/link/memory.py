"""Sealed memory files: how the host hands data to a sandbox that neither side can change afterwards.

A descriptor of a host file is never handed over: where host and sandbox share a kernel uid, the sandbox could
open it again for writing through /proc/self/fd. A memory file with all its seals is safe from that.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from dataclasses import dataclass

_EXEC_SETTING = "/proc/sys/vm/memfd_noexec"  # kernels since 6.3 can refuse to run what did not ask for it
_MFD_EXEC = 0x10
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


@dataclass(frozen=True, slots=True)
class Handover:
    """A context on its way into a cell."""

    fd: int
    """A sealed memory file; stays open with the host for as long as interpreters may need it."""
    about: bytes
    """JSON that describes it, see `guest/views.py`."""


def sealed(name: str, pieces: Iterable[bytes | memoryview], *, executable: bool = False) -> int:
    """A descriptor of a memory file that holds `pieces`, one after another, and never changes again.

    Raises:
        OSError: there is not enough memory.
    """
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    if executable and os.path.exists(_EXEC_SETTING):
        flags |= _MFD_EXEC
    fd = os.memfd_create(name, flags)
    try:
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[os.write(fd, view) :]
        seal(fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def seal(fd: int) -> None:
    """Makes a filled memory file final, and puts its offset back to the start."""
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    os.lseek(fd, 0, os.SEEK_SET)
