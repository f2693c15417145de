"""Sockets that listen inside a sandbox and are answered outside of it: made from outside, by the keeper's child.

It enters the user and the network namespace of a sandbox, where it may bind any port, sends what it bound to the owner
over a socket of his own, and ends. Nothing in the sandbox takes part: no process there holds the sockets, sees them
being made, or could take their places, because they are made before any code runs in there.
"""

from __future__ import annotations

import _socket
import marshal
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Mapping
    from typing import Any
else:
    import _signal

_BACKLOG = 64
_KINDS = {"tcp": _socket.SOCK_STREAM, "udp": _socket.SOCK_DGRAM}


def start(inner: int, line: int, request: Mapping[str, Any]) -> int:
    """Forks the one that makes the sockets of the sandbox whose pid 1 is `inner`; its pid.

    Args:
        line: the socket to the owner, SOCK_SEQPACKET; gets `marshal` of `[]` with the descriptors, in the order of
            `request["sockets"]`, or of `[errno, what]`.
        request: `sockets`, a list of `(tcp or udp, address, port)`, and `uid`, as for a sandbox.
    """
    from . import mounts  # noqa: F401 -- once, here: each child would spend 10 ms on it

    pid = os.fork()
    if pid == 0:
        _become(inner, line, request)
    return pid


def _become(inner: int, line: int, request: Mapping[str, Any]) -> None:
    """In the child; never returns."""
    status = 1
    try:
        _signal.set_wakeup_fd(-1)
        for number in (_signal.SIGCHLD, _signal.SIGTERM):
            _signal.signal(number, _signal.SIG_DFL)
        fd = os.dup2(line, 3, inheritable=False) if line != 3 else 3
        os.closerange(4, 1 << 16)
        owner = _socket.socket(fileno=fd)
        try:
            made = _made(inner, request)
        except OSError as error:
            owner.send(marshal.dumps([error.errno or 5, f"{error.strerror}: {error.filename or 'socket'}"]))
        else:
            rights = b"".join(each.fileno().to_bytes(4, "little") for each in made)
            owner.sendmsg([marshal.dumps([])], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
        status = 0
    finally:
        os._exit(status)


def _made(inner: int, request: Mapping[str, Any]) -> list[Any]:
    from . import mounts

    uid = request["uid"]
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    mounts.enter_network(inner)
    return [_bound(*each) for each in request["sockets"]]


def _bound(kind: str, address: str, port: int) -> Any:
    made = _socket.socket(_socket.AF_INET, _KINDS[kind] | _socket.SOCK_NONBLOCK)
    made.bind((address, port))
    if kind == "tcp":
        made.listen(_BACKLOG)
    return made
