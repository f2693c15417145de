"""The one place of the host where a process is started.

Every child gets an explicit environment, closed descriptors and its own session. Sandboxes are
started by the keeper (`sandbox/keeper`), which is itself started here.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

BASE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MINIMAL_ENV: Mapping[str, str] = {"PATH": BASE_PATH, "LANG": "C.UTF-8"}


class Finished(NamedTuple):
    """A command that ended by itself."""

    returncode: int
    stdout: bytes
    stderr: bytes


def inherited_env(*names: str) -> dict[str, str]:
    """The minimal environment, and those variables of ours that a child is known to need."""
    return {**MINIMAL_ENV, **{name: os.environ[name] for name in names if name in os.environ}}


def start(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] = MINIMAL_ENV,
    pass_fds: Sequence[int] = (),
    **streams: Any,
) -> subprocess.Popen[bytes]:
    """Starts `argv` in a session of its own; `streams` are Popen's stdin, stdout, stderr, cwd, user, group."""
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, **streams}
    return subprocess.Popen[bytes](
        list(argv), env=dict(env), pass_fds=tuple(pass_fds), close_fds=True, start_new_session=True, **options
    )


def run(
    argv: Sequence[str], *, timeout: float, env: Mapping[str, str] = MINIMAL_ENV, **options: Any
) -> Finished:
    """Runs a short command to its end. Blocking.

    Raises:
        OSError: it could not be started.
        subprocess.TimeoutExpired: it was still running after `timeout` seconds and was killed.
    """
    with start(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as child:
        try:
            out, err = child.communicate(timeout=timeout)
        except BaseException:
            child.kill()
            raise
    return Finished(child.returncode, out, err)


def detach(log: int) -> int:
    """Goes on in a child that outlives this process: a session of its own, no terminal, `/` as its folder.

    Args:
        log: a descriptor that becomes the child's standard output and error.

    Returns:
        0 in the child, which has all descriptors and locks of the caller; its pid in the caller, which must leave.
    """
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(null)
    return 0
