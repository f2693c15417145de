"""Who owns a run that is not finished: the process that keeps its byte of `journal.owners` locked.

The kernel drops the lock when the process dies, however it dies. Process ids were rejected: they are
reused, and mean something else in another container that shares the folder.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import struct
from pathlib import Path

_FLOCK = struct.Struct("hhqqi4x")  # struct flock of Linux on 64 bits: type, whence, start, length, pid
_CREATION_BYTE = 0


class Owners:
    """An open `journal.owners`. Close it, and what this process owned is up for recovery.

    The locks belong to the open file (`F_OFD_*`), so two journals in one process are two owners. A
    forked child shares them until it closes the file or executes another program.

    Raises:
        OSError: the file cannot be opened or locked.
    """

    def __init__(self, folder: Path) -> None:
        self._fd = os.open(folder / "journal.owners", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.id = 1 + secrets.randbits(60)
        """The byte that this process holds; the file itself stays empty."""
        try:
            self._lock(fcntl.F_OFD_SETLK, fcntl.F_WRLCK, self.id)
        except OSError:
            self.close()
            raise

    def alive(self, owner: int) -> bool:
        """Whether some process still holds `owner`'s byte."""
        return owner == self.id or owner_lives(self._fd, owner)

    def lock_creation(self) -> None:
        """Waits until no other process is making the journal; held until `unlock_creation`."""
        self._lock(fcntl.F_OFD_SETLKW, fcntl.F_WRLCK, _CREATION_BYTE)

    def unlock_creation(self) -> None:
        self._lock(fcntl.F_OFD_SETLK, fcntl.F_UNLCK, _CREATION_BYTE)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _lock(self, command: int, kind: int, byte: int) -> None:
        fcntl.fcntl(self._fd, command, _FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0))


def owner_lives(fd: int, owner: int) -> bool:
    """Whether a process holds the byte `owner` of the open file `fd`."""
    probe = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, owner, 1, 0)
    kind = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, probe))[0]
    return bool(kind != fcntl.F_UNLCK)


def living_owners(folder: Path, owners: set[int]) -> set[int]:
    """Those of `owners` whose process lives, found without becoming an owner."""
    if not owners:
        return set()
    try:
        fd = os.open(folder / "journal.owners", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return set()
        return owners  # not ours to judge: somebody else's folder
    try:
        return {owner for owner in owners if owner_lives(fd, owner)}
    finally:
        os.close(fd)
