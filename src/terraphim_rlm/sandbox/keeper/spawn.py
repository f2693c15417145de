"""From a request to a running program: own session, groups joined, limits set, privileges gone, then exec."""

from __future__ import annotations

import fcntl
import os
import resource

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Mapping, Sequence
    from typing import Any
else:
    import _signal


def spawn(
    name: str, request: Mapping[str, Any], fds: Sequence[int], groups: Sequence[str]
) -> tuple[int, int]:
    """Forks and executes `request`, called `name`; its `fds`, then `line`, say which number each descriptor gets in the child.

    Returns:
        The child's pid, and a descriptor on which bubblewrap tells the pid of the sandbox's pid 1.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(reader, False)
    try:
        pid = os.fork()
    except OSError:
        os.close(reader)
        os.close(writer)
        raise
    if pid == 0:
        targets = [*request["fds"], *([request["line"]] if request["line"] else [])]
        _become(name, request, [*fds, writer], [*targets, request["info_fd"]], groups)
    os.close(writer)
    return pid, reader


def _become(
    name: str, request: Mapping[str, Any], fds: Sequence[int], targets: Sequence[int], groups: Sequence[str]
) -> None:
    """In the child; never returns. Errors go to what is to be descriptor 2, which is the owner's."""
    complain = fds[targets.index(2)]
    try:
        _lay_out(fds, targets)
        complain = 2
        os.setsid()
        for ignored in (
            _signal.SIGHUP,
            _signal.SIGINT,
            _signal.SIGPIPE,
            _signal.SIGXFSZ,
        ):  # exec would hand that on
            _signal.signal(ignored, _signal.SIG_DFL)
        for procs in groups:  # before any byte is allocated on the program's behalf
            with open(procs, "wb", buffering=0) as file:
                file.write(b"0")
        for limit, value in request["rlimits"].items():
            _limit(getattr(resource, "RLIMIT_" + limit), value)
        if request["uid"] is not None:
            os.setgroups([])
            os.setresgid(request["uid"], request["uid"], request["uid"])
            os.setresuid(request["uid"], request["uid"], request["uid"])
        os.umask(0o022)
        os.chdir("/")
        os.execve(request["argv"][0], [name, *request["argv"][1:]], request["env"])  # noqa: S606 - no shell is wanted
    except BaseException as error:
        os.write(complain, f"keeper: {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(127)


def _lay_out(fds: Sequence[int], targets: Sequence[int]) -> None:
    """Gives each descriptor its number and closes all others.

    Only one that lies where another belongs is moved away first, above every number: with all of them there at once,
    a hard limit of 64 open files would not do.
    """
    above = max(targets) + 1
    places = dict(zip(targets, fds, strict=True))
    last = max(fds)
    for target in sorted(places):
        place = places.pop(target)
        for other in [other for other, taken in places.items() if taken == target]:
            places[other] = fcntl.fcntl(target, fcntl.F_DUPFD_CLOEXEC, above)
            last = max(last, places[other])
        if place != target:
            os.dup2(place, target)
        os.set_inheritable(target, True)
    for unused in sorted(set(range(above)) - set(targets)):
        os.closerange(unused, unused + 1)
    os.closerange(above, last + 1)


def _limit(which: int, value: int) -> None:
    hard = resource.getrlimit(which)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (value, value))
