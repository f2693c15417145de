"""What the keeper does to its own process: signals, limits, and whose parent it becomes."""

from __future__ import annotations

import os
import resource

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
_OPEN_FILES = 16_384


def pidfd_kill(pidfd: int) -> None:
    try:
        _signal.pidfd_send_signal(pidfd, _signal.SIGKILL)
    except ProcessLookupError:
        return


def wakeup_pipe() -> int:
    """A descriptor that turns readable when a child ends, or when we are asked to end."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    _signal.signal(_signal.SIGCHLD, lambda _number, _frame: None)
    _signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return reader


def drain(fd: int) -> None:
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        return


def become_subreaper() -> None:
    """prctl(PR_SET_CHILD_SUBREAPER, 1): who loses his parent below us becomes our child."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def raise_own_limit() -> None:
    """Room for one descriptor a sandbox and for laying out a child's, whatever the owner's soft limit is."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
