"""The system calls with which the keeper's children enter a sandbox's namespaces, and change what is mounted there."""

from __future__ import annotations

import ctypes
import fcntl
import os
from contextlib import ExitStack, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND = 1, 2, 4, 32, 4096
MS_REC, MS_PRIVATE = 16384, 1 << 18
MNT_DETACH = 2
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000
_PDEATHSIG = 1
_NS_GET_USERNS = 0xB701
_OPEN_TREE, _MOVE_MOUNT = 428, 429  # the same numbers on every architecture
_CLONE_TREE, _CLOEXEC = 1, 0o2000000
_AT_FDCWD, _EMPTY_PATH = -100, 4

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def die_with_parent() -> None:
    """The kernel kills this process when its parent dies. A change of user undoes it, so it comes after that."""
    _check(_libc.prctl(_PDEATHSIG, 9, 0, 0, 0), "prctl")


def enter(pid: int) -> int:
    """Becomes the owner of the sandbox whose pid 1 is `pid`: its user and its mount namespace.

    The mount namespace belongs to the outer of the two user namespaces that bubblewrap makes; there this process, of
    the user who made them, has every capability.

    Returns:
        A descriptor of the sandbox's mount namespace.
    """
    return _entered(pid, "mnt", CLONE_NEWNS)


def enter_network(pid: int) -> None:
    """As `enter`, its network namespace in place of that of its mounts."""
    os.close(_entered(pid, "net", CLONE_NEWNET))


def _entered(pid: int, name: str, kind: int) -> int:
    space = os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
    user = fcntl.ioctl(space, _NS_GET_USERNS)
    join(user, CLONE_NEWUSER)
    os.close(user)
    join(space, kind)
    return space


def join(fd: int, kind: int) -> None:
    _check(_libc.setns(fd, kind), "setns")


def own_mounts() -> None:
    """A mount namespace of our own, a copy of the one we are in, that sends nothing back to it."""
    _check(_libc.unshare(CLONE_NEWNS), "unshare")
    mount("none", "/", None, MS_REC | MS_PRIVATE)


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    result = _libc.mount(
        source.encode(),
        target.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        options.encode(),
    )
    _check(result, f"mount {kind or ''} on {target}")


def bound(place: str, most: int) -> None:
    """Lets the tmpfs at `place` hold no more than `most` files."""
    mount("none", place, None, MS_REMOUNT | MS_NOSUID | MS_NODEV, f"nr_inodes={most}")


def unmount(target: str) -> None:
    """Takes away what is mounted there; who still uses it keeps it until then."""
    _check(_libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


class LetGo:
    """For a block that unmounts `places`: the kernel frees what they had cached in a process of its own, meanwhile.

    Whoever lets go of a file system last drops its cached names, at 3 ms for each 1,000 files. A child holds on to it
    until the block is over, and ends; `wait` for that. Where there is no room for a child, it is done here.
    """

    def __init__(self, places: Iterable[str]) -> None:
        self._places = tuple(places)
        self._child = 0

    def __enter__(self) -> LetGo:
        with ExitStack() as held:
            waits, go = os.pipe()
            for fd in (go, waits):  # closed in the reverse order: the child is let go of last
                held.callback(os.close, fd)
            for place in self._places:
                held.callback(os.close, os.open(place, os.O_PATH | os.O_CLOEXEC))
            with suppress(OSError):
                self._child = os.fork()
                if self._child == 0:
                    os.close(go)
                    os.read(waits, 1)  # ends when ours is closed, or we are gone
                    os._exit(0)
            self._held = held.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._held.close()

    def wait(self) -> None:
        """Returns when all is freed."""
        child, self._child = self._child, 0
        if child:
            os.waitpid(child, 0)


def cloned(path: str) -> int:
    """A descriptor of a mount like the one at `path`, mounted nowhere yet."""
    return _check(
        _libc.syscall(_OPEN_TREE, _AT_FDCWD, path.encode(), _CLONE_TREE | _CLOEXEC), f"open_tree {path}"
    )


def attach(fd: int, target: str) -> None:
    """Mounts what `cloned` gave."""
    _check(
        _libc.syscall(_MOVE_MOUNT, fd, b"", _AT_FDCWD, target.encode(), _EMPTY_PATH),
        f"move_mount to {target}",
    )
