"""Starting the daemon where none serves: once, however many clients need it at this moment."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from terraphim_rlm.core import process
from terraphim_rlm.core.errors import DaemonRunning, DaemonUnavailable, RlmError, from_json
from terraphim_rlm.core.paths import data_dir, socket_path
from terraphim_rlm.faces.server.listening import LOG_NAME, answers, refuse_elsewhere

_STARTING_NAME = "daemon.starting"
_START_SECONDS = 60.0
_MAIN = "from terraphim_rlm.faces.cli import main; main()"
_INHERITED = (
    "HOME", "USER", "TMPDIR", "TZ", "TRLM_DATA", "TRLM_CONFIG",
    "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME",
)  # fmt: skip
"""Variables of ours that the daemon needs. Keys are not among them: it asks no model."""


def start() -> None:
    """Sees to it that a daemon serves. Blocking; of several callers one starts it, and the others wait for that.

    Raises:
        DaemonUnavailable: it could not be started; its own words are in the message.
        DaemonRunning: one serves on another socket than the one of this environment.
        RlmError: what it ended with.
    """
    with _alone():
        if answers(socket_path()):
            return
        refuse_elsewhere()
        argv = [sys.executable, "-P", "-c", _MAIN, "serve", "--detach", "--json"]
        # In the folder of its caller, to which a relative TRLM_DATA refers.
        try:
            done = process.run(argv, timeout=_START_SECONDS, env=process.inherited_env(*_INHERITED))
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DaemonUnavailable(f"The daemon could not be started: {error}.") from error
    if done.returncode:
        told = _told(done)
        if not isinstance(told, DaemonRunning):
            raise told


def starting() -> bool:
    """Whether somebody is starting a daemon at this moment; returns when he is done. Blocking."""
    try:
        fd = os.open(data_dir() / _STARTING_NAME, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fcntl.flock(fd, fcntl.LOCK_EX)
        return True
    else:
        return False
    finally:
        os.close(fd)


def last_words() -> str:
    """The end of the daemon's log, for an error; empty where there is none."""
    with suppress(OSError):
        lines = (data_dir() / LOG_NAME).read_bytes()[-4096:].decode("utf-8", "replace").strip().splitlines()
        said = [line.strip() for line in lines if line.strip()]
        if said:
            return f" Its log ends with: {' '.join(said[-2:])[:400]}"
    return ""


@contextmanager
def _alone() -> Iterator[None]:
    path = data_dir() / _STARTING_NAME
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise DaemonUnavailable(
            f"No daemon can be started: {error.strerror}: {path}.",
            fix="Make the folder writable, or set TRLM_DATA to another one.",
            path=str(path),
        ) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _told(done: process.Finished) -> RlmError:
    with suppress(ValueError, KeyError, IndexError, TypeError):
        return from_json(json.loads(done.stdout)["errors"][0])
    words = (done.stderr or done.stdout).decode("utf-8", "replace").strip()[-300:]
    return DaemonUnavailable(f"The daemon could not be started: {words or 'it said nothing'}.")
