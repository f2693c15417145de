"""Bounds how many files a sandbox may make: bubblewrap gives its file systems a size, and no number of files.

Without a bound, files without content would fill the sandbox's memory, which ends it; or the host's, where no control
group counts them: the kernel's own bound is one for every two pages of the machine's memory, each about 1 KB.
"""

from __future__ import annotations

import os

PAGE = 4096
"""There may be a file for each page of the disk: who puts something into every file runs out of pages first."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def bound(inner: int, uid: int | None, places: Sequence[str], most: int) -> int:
    """Forks a process that lets each file system at `places` hold `most` files; its pid.

    It ends with 0 once all are bounded. The sandbox, whose pid 1 is `inner`, goes on meanwhile.
    """
    from . import mounts

    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        if uid is not None:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        mounts.enter(inner)
        for place in places:
            mounts.bound(place, most)
        status = 0
    finally:
        os._exit(status)
