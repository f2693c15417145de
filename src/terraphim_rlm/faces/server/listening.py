"""What makes a daemon the only one of its data folder: a locked file, and a socket that nobody else can reach."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from terraphim_rlm import __version__
from terraphim_rlm.core.errors import DaemonRunning, DaemonUnavailable
from terraphim_rlm.core.paths import data_dir, socket_path
from terraphim_rlm.core.sockets import private_folder, reachable

LOCK_NAME = "daemon.lock"
LOG_NAME = "daemon.log"
_BACKLOG = 512
_ENDING_SECONDS = 20.0
_LOOK_SECONDS = 0.02
_MOST_LOG = 1 << 20


class Listening:
    """The lock and the listening socket of the one daemon. Close it in the process that serves.

    A fork has both as well; the lock goes when the last of them is gone, by whatever death.

    Raises:
        DaemonRunning: another one serves this data folder.
        DaemonUnavailable: the folder or the socket cannot be made, or is somebody else's.
    """

    def __init__(self) -> None:
        data = data_dir().absolute()
        self.path = socket_path()
        try:
            data.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _locked(data / LOCK_NAME, self.path)
        except OSError as error:
            raise _unavailable(error, data) from error
        try:
            self.socket = _bound(self.path)
        except BaseException as error:
            os.close(self._lock)
            if isinstance(error, OSError):
                raise _unavailable(error, self.path) from error
            raise
        self.tcp: socket.socket | None = None
        self.describe()

    def open_tcp(self, port: int) -> int:
        """Listens on loopback as well; `port` 0 = one that is free, which is given.

        Raises:
            DaemonUnavailable: the port is taken, or not ours.
        """
        self.tcp = socket.socket(socket.AF_INET)
        try:
            self.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.tcp.bind(("127.0.0.1", port))
            self.tcp.listen(_BACKLOG)
        except OSError as error:
            raise DaemonUnavailable(
                f"Port {port} of 127.0.0.1 cannot be served: {error.strerror}.",
                fix="Name another one with --port.",
            ) from error
        return int(self.tcp.getsockname()[1])

    def describe(self) -> None:
        """Writes down who serves; for people and for errors, and for no other decision."""
        text = json.dumps({"pid": os.getpid(), "version": __version__, "socket": str(self.path)})
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, text.encode(), 0)

    def leave(self) -> None:
        """Closes this process's copies, after another one has taken over."""
        self._close_sockets()
        os.close(self._lock)
        self._lock = -1

    def _close_sockets(self) -> None:
        self.socket.close()
        if self.tcp is not None:
            self.tcp.close()

    def close(self) -> None:
        """Gives up the socket, then the lock. Idempotent."""
        self.hide()
        self._close_sockets()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def hide(self) -> None:
        """Lets no new client find the socket; whoever needs a daemon then waits for the lock and serves anew."""
        if self._lock >= 0:
            with suppress(FileNotFoundError):
                self.path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def answers(path: Path) -> bool:
    """Whether somebody listens on the socket there."""
    with socket.socket(socket.AF_UNIX) as probe, reachable(path) as address:
        try:
            probe.connect(address)
        except OSError:
            return False
    return True


def refuse_elsewhere() -> None:
    """Raises:
    DaemonRunning: a daemon serves this data folder, but on another socket: XDG_RUNTIME_DIR was another one there.
    """
    lock, here = data_dir().absolute() / LOCK_NAME, socket_path()
    known = _known(lock)
    where = Path(str(known.get("socket")))
    if where.is_absolute() and where != here and answers(where):
        raise DaemonRunning(
            f"The daemon{_who(known)} of {lock.parent} serves on {where}, not on {here}.",
            fix=f"Set XDG_RUNTIME_DIR as it was where that one began, or end that one: kill {known.get('pid')}.",
            socket=str(where),
        )


def log_file() -> int:
    """A descriptor to write the daemon's log to; what a long one held goes to `daemon.log.1`.

    Raises:
        DaemonUnavailable: it cannot be opened.
    """
    path = data_dir().absolute() / LOG_NAME
    try:
        with suppress(FileNotFoundError):
            if path.stat().st_size > _MOST_LOG:
                path.replace(path.with_name(f"{LOG_NAME}.1"))
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise _unavailable(error, path) from error


def _locked(path: Path, served: Path) -> int:
    """The open lock file, locked. One that holds it without a socket is about to end, or has just begun: it is waited for.

    Raises:
        DaemonRunning: its holder serves, or does not end.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    deadline = time.monotonic() + _ENDING_SECONDS
    try:
        while not _try_lock(fd):
            refuse_elsewhere()
            if answers(served) or time.monotonic() > deadline:
                raise _running(path)
            time.sleep(_LOOK_SECONDS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _running(path: Path) -> DaemonRunning:
    who = _who(_known(path))
    return DaemonRunning(f"Another daemon{who} serves {path.parent} already.", data=str(path.parent))


def _known(path: Path) -> dict[str, Any]:
    """What the lock file says; empty where that is nothing of use."""
    with suppress(OSError, ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    return {}


def _who(known: dict[str, Any]) -> str:
    try:
        return f" (process {int(known['pid'])}, version {str(known['version'])[:40]})"
    except (ValueError, KeyError, TypeError):
        return ""


def _bound(path: Path) -> socket.socket:
    """A listening socket that only its owner may open. What a daemon that died left there is taken away."""
    private_folder(path.parent)
    with suppress(FileNotFoundError):
        path.unlink()
    sock = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        with reachable(path) as address:
            sock.bind(address)
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(before)
    return sock


def _unavailable(error: OSError, path: Path) -> DaemonUnavailable:
    return DaemonUnavailable(
        f"No daemon can serve here: {error.strerror or error}: {error.filename or path}.",
        fix="Make the folder writable, or set TRLM_DATA or XDG_RUNTIME_DIR to another one.",
        path=str(path),
    )
