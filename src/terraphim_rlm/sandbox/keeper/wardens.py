"""The keeper's wardens: started for the first request about a sandbox's file states, heard, ended with it."""

from __future__ import annotations

import os

from . import warden

TYPE_CHECKING = False
if TYPE_CHECKING:
    import select
    import signal as _signal
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any
else:
    import _signal


class Wardens:
    """All wardens of one keeper, by the number of their sandbox."""

    def __init__(self, poller: select.poll, tell: Callable[..., None]) -> None:
        self._poller = poller
        self._tell = tell
        self._lines: dict[int, int] = {}
        self._pids: dict[int, int] = {}
        self._boxes: dict[int, int] = {}

    def ask(self, box: int, inner: int, procs: Sequence[str], request: Mapping[str, Any]) -> None:
        """Hands a request on; the first one starts the warden. What cannot be handed on is answered as an end."""
        try:
            if box not in self._lines:
                pid, line = warden.start(inner, procs, request)
                self._pids[box], self._lines[box], self._boxes[line] = pid, line, box
                self._poller.register(line, 1)  # POLLIN
            os.write(self._lines[box], request["data"])
        except OSError:
            self.end(box)
            self._tell("file_states", box, b"")

    def hears(self, fd: int) -> bool:
        """Hands on what a warden said; False when `fd` is no warden's."""
        box = self._boxes.get(fd)
        if box is None:
            return False
        try:
            data = os.read(fd, warden.MESSAGE)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        if not data:
            self.end(box)
        self._tell("file_states", box, data)
        return True

    def pids(self) -> set[int]:
        """Of those that live."""
        return set(self._pids.values())

    def reaped(self, pid: int) -> None:
        """A child has been reaped: its number may be another process's from now on."""
        for box in [box for box, its in self._pids.items() if its == pid]:
            del self._pids[box]

    def end(self, box: int) -> None:
        """Kills a sandbox's warden, if it has one; the keeper reaps it as a stray."""
        line = self._lines.pop(box, None)
        if line is not None:
            self._poller.unregister(line)
            del self._boxes[line]
            os.close(line)
        pid = self._pids.pop(box, None)
        if pid is not None:  # else it is dead, and what it had still said has been heard since
            os.kill(pid, _signal.SIGKILL)
