"""Descriptors for what is started in a sandbox, and what is said when this process may have no more of them."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from terraphim_rlm.core.errors import BackendError, SandboxBusy
from terraphim_rlm.sandbox.link import memory

_FULL = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.ETOOMANYREFS})
_FIX = "Raise the limit of open files (`ulimit -n 4096`), or keep fewer sandboxes at once."
Error = TypeVar("Error", bound=BackendError)


def no_room(error: OSError, kind: type[Error]) -> Error:
    """What is raised when the system refused one more descriptor, or the memory for it."""
    return kind(f"The host has no room for what this needs: {error.strerror}.", fix=_FIX)


def is_full(error: OSError) -> bool:
    """Whether it says nothing of what was asked for, but that there is no room now."""
    return error.errno in _FULL


@contextmanager
def asked(kind: type[BackendError] = SandboxBusy) -> Iterator[None]:
    """Raises `kind` for the system's errors that mean no room; nothing has run, and it may be tried again."""
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        raise no_room(error, kind) from error


class Room(ExitStack):
    """Descriptors that are closed when the block ends, unless `pop_all` takes them out; none is inherited by a program.

    Every way to make one raises `SandboxBusy` where there is no room for it.
    """

    def _kept(self, fd: int) -> int:
        self.callback(os.close, fd)
        return fd

    def null(self, flags: int = os.O_RDONLY) -> int:
        """The null device."""
        with asked():
            return self._kept(os.open(os.devnull, flags | os.O_CLOEXEC))

    def pipe(
        self, flags: int = 0, *, reader: Room | None = None, writer: Room | None = None
    ) -> tuple[int, int]:
        """Its end to read and its end to write; `reader`, `writer`: who closes that one instead."""
        with asked():
            to_read, to_write = os.pipe2(flags | os.O_CLOEXEC)
        return (reader or self)._kept(to_read), (writer or self)._kept(to_write)

    def pair(self, kind: socket.SocketKind) -> tuple[socket.socket, socket.socket]:
        """Two sockets that are each other's peer."""
        with asked():
            one, other = socket.socketpair(socket.AF_UNIX, kind)
        return self.enter_context(one), self.enter_context(other)

    def sealed(self, name: str, pieces: Iterable[bytes | memoryview], *, executable: bool = False) -> int:
        """See `memory.sealed`."""
        with asked():
            return self._kept(memory.sealed(name, pieces, executable=executable))


def copied(fd: int) -> int:
    """Another descriptor of the same; who calls closes it, or hands it on. Raises as `Room`."""
    with asked():
        return os.dup(fd)


__all__ = ["Room", "asked", "copied", "is_full", "no_room"]
