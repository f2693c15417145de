"""What stopped a program that only says it in words: memory or disk that there was none left of.

Where each process has its own limit of memory, a program is refused more and ends as it likes. A shell lives on
when the kernel kills its command. The words are the C library's, and those of the runtimes that have their own.
"""

from __future__ import annotations

from terraphim_rlm.core.values import Status

_TAIL = 2000
"""Bytes at the end of what it said in which the cause stands; what it coped with before is none."""
_CRASH = b"fatal error: runtime: "
"""How Go begins; a trace of all that ran comes behind it."""
_WORDS: tuple[tuple[bytes, Status], ...] = (
    (b"memoryerror", "oom"),
    (b"cannot allocate ", "oom"),
    (b"out of memory", "oom"),
    (b"memory allocation of", "oom"),
    (b"bad_alloc", "oom"),
    (b"no space left on device", "disk_full"),
    (b"file size limit exceeded", "disk_full"),
    (b"file too large", "disk_full"),
    (b"disk quota exceeded", "disk_full"),
)
_KILLED, _TOO_LARGE = 9, 25  # SIGKILL, and SIGXFSZ: a file can be as large as its disk


def cause(stderr: bytes, code: int | None, signal: int | None, *, oom: bool) -> Status | None:
    """`oom` or `disk_full`, when that is why a program failed; None when nothing says so.

    Args:
        code: of its exit; None when a signal killed it.
        oom: the kernel killed something in the sandbox for memory meanwhile; what then fails without saying why, fails
            for that.
    """
    if signal == _TOO_LARGE:
        return "disk_full"
    said = stderr[-_TAIL:].lower()
    if _CRASH in stderr:
        said = stderr[stderr.rindex(_CRASH) :][:_TAIL].lower()
    last = max(_WORDS, key=lambda each: said.rfind(each[0]))
    if last[0] in said and signal != _KILLED:
        return last[1]
    return "oom" if oom and code is not None else None
