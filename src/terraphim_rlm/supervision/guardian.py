"""Holds one process and all that comes of it. Started as a script: `guardian.py LINE PROGRAM WORDS..`.

It is the reaper of all descendants of the program, so none can get away by losing its parent. When the line is hung up,
by whatever death, or `k` comes over it, everything is killed; `t` is a SIGTERM for the program. It ends as the program
ended, after the last descendant is gone. Only the standard library, and of that little: it starts with each child.
"""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import socket
import sys

_PDEATHSIG, _SUBREAPER = 1, 36


def main(line: socket.socket, argv: list[str]) -> int:
    """Returns the wait status of the program."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_SUBREAPER, 1, 0, 0, 0)
    wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    pid = _started(argv, libc)
    line.send(b"pid %d" % pid)
    ended: int | None = None
    while ended is None:
        ready, _, _ = select.select([line.fileno(), wake], [], [])
        if wake in ready:
            os.read(wake, 4096)
        if line.fileno() in ready:
            order = line.recv(16)
            if order == b"t":
                _signal(pid, signal.SIGTERM)
            else:
                _signal(pid, signal.SIGKILL)
        ended = _reaped(pid)
    _end_the_rest()
    return ended


def _started(argv: list[str], libc: ctypes.CDLL) -> int:
    """The program's pid; raises OSError when it cannot be executed."""
    said, saying = os.pipe2(os.O_CLOEXEC)
    guardian = os.getpid()
    pid = os.fork()
    if not pid:
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            libc.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != guardian:
                os._exit(1)
            os.execvp(argv[0], argv)  # noqa: S606 - the one place where a supervised program starts
        except OSError as error:
            os.write(saying, (error.strerror or "unknown").encode())
        os._exit(127)
    os.close(saying)
    why = os.read(said, 200)
    os.close(said)
    if why:
        os.waitpid(pid, 0)
        raise OSError(why.decode())
    return pid


def _reaped(pid: int) -> int | None:
    """Reaps whatever ended; the status of `pid` if it did."""
    found: int | None = None
    while True:
        try:
            which, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if which == 0:
            return found
        if which == pid:
            found = status


def _end_the_rest() -> None:
    """Kills descendants until none is left; each round brings those up whose parents it killed."""
    while True:
        for pid in _children():
            _signal(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> list[int]:
    """Of this process; those of the kernel's own list, else by everybody's parent."""
    own = os.getpid()
    try:
        with open(f"/proc/{own}/task/{own}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _parent(pid) == own]


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def _signal(pid: int, number: int) -> None:
    try:  # noqa: SIM105 - contextlib would be one import more at each start
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _end_like(status: int) -> None:
    """Ends as the program did, so that whoever waits for us sees its end."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.pause()
    os._exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as own_line:
        os.set_inheritable(own_line.fileno(), False)
        try:
            outcome = main(own_line, sys.argv[2:])
        except OSError as failure:
            own_line.send(str(failure).encode()[:1000])
            os._exit(1)
        _end_like(outcome)
