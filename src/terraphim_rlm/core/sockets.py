"""Unix sockets that only their owner can reach."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from terraphim_rlm.core.errors import DaemonUnavailable

LONGEST_PATH = 107
"""Bytes of a Unix socket's path (`sun_path` of Linux, less its end)."""


@contextmanager
def reachable(path: Path) -> Iterator[str]:
    """An address for a socket's path, however long that is: past the system's limit its folder is opened first."""
    if len(os.fsencode(path)) <= LONGEST_PATH:
        yield str(path)
        return
    try:
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield "/proc/self/fd/none"  # which is not there either
        return
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def private_folder(path: Path) -> None:
    """Makes a folder that only we can enter.

    Raises:
        DaemonUnavailable: there is one that is not ours.
        OSError: it cannot be made.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise DaemonUnavailable(
            f"{path} belongs to another user, or is no folder.",
            fix="Remove it, or set XDG_RUNTIME_DIR to a folder of your own.",
            path=str(path),
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        path.chmod(0o700)
