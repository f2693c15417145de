"""A sandbox's warden: a child of the keeper that lives in the sandbox's mount namespace and keeps its file states.

It is made with the first snapshot and ends with the sandbox, with its keeper, or when it is killed; then the states
are lost, and the sandbox goes on. It is in none of the sandbox's process namespaces: nobody in there can see it.
Requests are `marshal` datagrams `(number, name, arguments)`. An answer is `marshal` of `(number, True, result)` or
`(number, False, errno, what)`, cut into datagrams that begin with 1, the last with 0. The keeper hands both through and
reads neither.
"""

from __future__ import annotations

import _socket
import marshal
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Mapping, Sequence
    from typing import Any

    Where = Mapping[str, Any]  # what a request says of the sandbox: roots, size, uid, layered
else:
    import _signal

MESSAGE = 1 << 17
_PIECE = 1 << 15
_OWN_PLACE = "/work"  # a tmpfs of every sandbox
_CALLS = frozenset({"freeze", "branch", "show", "drop_view", "drop", "empty", "diff", "copy"})


def start(inner: int, procs: Sequence[str], where: Where) -> tuple[int, int]:
    """Forks the warden of the sandbox whose pid 1 is `inner`: its pid, and our end of its socket."""
    from . import layers, mounts, plain  # noqa: F401 -- once, here: each warden would spend 10 ms on it

    ours, its = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    try:
        pid = os.fork()
    except OSError:
        ours.close()
        its.close()
        raise
    if pid == 0:
        _become(its, inner, procs, where)
    its.close()
    ours.setblocking(False)
    return pid, ours.detach()


def _become(own: Any, inner: int, procs: Sequence[str], where: Where) -> None:
    """In the child; never returns."""
    status = 1
    try:
        _signal.set_wakeup_fd(-1)
        for number in (_signal.SIGCHLD, _signal.SIGTERM):
            _signal.signal(number, _signal.SIG_DFL)
        fd = os.dup2(own.fileno(), 3, inheritable=False) if own.fileno() != 3 else 3
        os.closerange(4, 1 << 16)
        for path in procs:  # what it copies counts as the sandbox's
            with open(path, "wb", buffering=0) as file:
                file.write(b"0")
        _serve(_socket.socket(fileno=fd), inner, where)
        status = 0
    finally:
        os._exit(status)


def _serve(line: Any, inner: int, where: Where) -> None:
    try:
        views = _entered(inner, where)
    except Exception as error:
        _answer_all(line, error)
        return
    while data := line.recv(MESSAGE):
        number, name, arguments = marshal.loads(data)  # noqa: S302 - from the owner
        try:
            result = getattr(views, name)(*arguments) if name in _CALLS else None
        except Exception as error:  # a bug of ours must not cost the states there are
            _answer(line, number, False, *_told(error))
        else:
            _answer(line, number, True, result)


def _entered(inner: int, where: Where) -> Any:
    from . import mounts
    from .layers import Layers
    from .plain import Copies

    sys.meta_path.clear()  # once we have entered, a module is whatever code in there put at its path
    processes = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    uid = where["uid"]
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    parent = os.getppid()
    space = mounts.enter(inner)
    mounts.die_with_parent()
    if os.getppid() != parent:
        raise OSError(3, "the keeper is gone")
    os.umask(0)
    made = Layers if where["layered"] and _can_layer() else Copies
    return made(space, where["roots"], where["size"], processes)


def _can_layer() -> bool:
    """Whether this kernel's tmpfs carries what layers need, and an overlay counts who writes by a mapping alone.

    Before Linux 6.7 a file's mapping outlived its count of writers there, and so could change what is frozen.
    """
    major, minor = os.uname().release.split(".")[:2]
    if (int(major), int("".join(filter(str.isdigit, minor.partition("-")[0])))) < (6, 7):
        return False
    try:
        os.setxattr(_OWN_PLACE, "user.trlm", b"1")
        os.removexattr(_OWN_PLACE, "user.trlm")
    except OSError:
        return False
    return True


def _answer_all(line: Any, error: Exception) -> None:
    """It could not begin: whoever asks is told why, for as long as anybody asks."""
    while data := line.recv(MESSAGE):
        _answer(line, marshal.loads(data)[0], False, *_told(error))  # noqa: S302 - from the owner


def _told(error: Exception) -> tuple[int, str]:
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename else ""
        return error.errno or 5, f"{error.strerror}{where}"
    return 5, f"{type(error).__name__}: {error}"


def _answer(line: Any, *parts: Any) -> None:
    data = marshal.dumps(parts)
    for start in range(0, len(data), _PIECE):
        last = start + _PIECE >= len(data)
        line.send((b"\0" if last else b"\1") + data[start : start + _PIECE])
