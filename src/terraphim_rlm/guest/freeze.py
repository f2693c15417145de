"""An interpreter that can be put aside and taken up again: a frozen fork.

A frozen interpreter is a fork of the live one that waits on a socket of its own. Each time the host sends it a fresh
channel it forks again; the fork goes on as the live one, and the frozen one stays. Between cells only: the host first
has the interpreter *parked*, which leaves the sandbox's files and says what a fork cannot take along.

A frozen one is not dumpable: code that runs later can end it, and neither read its memory nor change it.
"""

import _socket
import os
import sys

from . import inventory
from .channel import descriptors
from .supervisor import set_dumpable

_SPACE = _socket.CMSG_SPACE(8 * 4)


class Parked:
    """What an interpreter holds of the sandbox's files, to be taken up again by path."""

    def __init__(self):
        self._cwd = "/"
        self._files = []

    def leave(self, roots):
        """Goes out of the roots and closes their files; what cannot be closed, one phrase each."""
        try:
            self._cwd = os.getcwd()
        except OSError:
            self._cwd = roots[0]
        os.chdir("/")
        self._files, stuck = inventory.own_files(roots)
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for file in self._files:
            os.dup2(null, file.fd, inheritable=file.inheritable)
        os.close(null)
        return stuck

    def enter(self):
        """Opens the files again where they were read or written last, and goes back."""
        for file in self._files:
            file.reopen()
        self._files = []
        try:
            os.chdir(self._cwd)
        except OSError:
            os.chdir(os.environ.get("HOME", "/"))


def freeze(cell, control):
    """Forks the frozen one; its process id here, None in each interpreter that is later made from it."""
    randomness = _randomness()
    pid = _fork_away()
    if pid is not None:
        return pid
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(4):  # a cell's streams and channel
        os.dup2(null, fd)
    os.close(null)
    _wait(cell, _socket.socket(fileno=control), randomness)
    return None


def _fork_away():
    """Forks a child of pid 1: neither `os.wait` of user code nor the end of this process touches it.

    Returns:
        Here its process id, 0 when it could not be made, once it is pid 1's; None in the child.
    """
    reader, writer = os.pipe()
    try:
        middle = os.fork()
    except OSError:
        os.close(reader)
        os.close(writer)
        return 0
    if middle:
        os.close(writer)
        pid = int(os.read(reader, 32) or b"0")
        os.close(reader)
        os.waitpid(middle, 0)
        return pid
    try:
        if os.fork():
            os._exit(0)
    except OSError:
        os._exit(1)
    set_dumpable(0)  # before anybody else goes on
    os.setsid()
    os.write(writer, b"%d" % os.getpid())
    os.close(reader)
    os.close(writer)
    return None


def _wait(cell, control, randomness):
    """The frozen one's life. Returns only in an interpreter that was made from it."""
    import _signal
    import json

    heard = _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
    while True:
        data, ancillary, _flags, _address = control.recvmsg(4096, _SPACE)
        if not data:
            os._exit(0)
        fds = descriptors(ancillary)
        request = json.loads(data)
        pid = os.getpid() if request["op"] == "check" else _fork_away()
        if pid is None:
            _signal.signal(_signal.SIGINT, heard)
            control.close()
            _begin(cell, fds, randomness, request["branch"])
            return
        for fd in fds:
            os.close(fd)
        control.send(b"%d" % pid)


def _begin(cell, fds, randomness, branch):
    """In a new interpreter: its own streams and channel, and the random numbers that would have come next."""
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
        os.close(fd)
    if not branch:
        _set_randomness(randomness)
    elif "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    cell.reconnect(3)
    set_dumpable(1)


def _randomness():
    """The state of `random`, which every fork seeds anew. Others (numpy's) are memory like any other."""
    module = sys.modules.get("random")
    return None if module is None else module.getstate()


def _set_randomness(state):
    module = sys.modules.get("random")
    if module is not None and state is not None:
        module.setstate(state)
