"""The keeper's lines to zygotes: sandboxes that are forked from a process that stands, see `guest/zygote.py`."""

from __future__ import annotations

import _socket
import errno
import marshal
import os
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

_MESSAGE = 1 << 12
_CREDENTIALS = _socket.CMSG_SPACE(12)


class Line:
    """The keeper's end of the line to one zygote, which has the other end as its only descriptor of ours."""

    def __init__(self) -> None:
        self._socket, self._its = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        self._socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_PASSCRED, 1)
        self._socket.setblocking(False)
        self._waiting: list[tuple[bytes, list[int]]] = []

    def fileno(self) -> int:
        return self._socket.fileno()

    def its_end(self) -> int:
        return self._its.fileno()

    def give(self) -> None:
        """The other end has been handed over."""
        self._its.close()

    def close(self) -> None:
        self._its.close()
        self._socket.close()
        for _order, fds in self._waiting:
            _close(fds)
        self._waiting.clear()

    @property
    def is_full(self) -> bool:
        """Whether `flush` is wanted when it can be written to."""
        return bool(self._waiting)

    def order(self, request: Mapping[str, Any], fds: Sequence[int], entrances: Sequence[str]) -> None:
        """Has a sandbox forked, with `fds`, that joins the control groups of these files.

        Raises:
            OSError: there is no room for a descriptor, or a group cannot be joined.
        """
        own: list[int] = []
        try:
            own += [os.dup(fd) for fd in fds]
            own += [os.open(path, os.O_WRONLY | os.O_CLOEXEC) for path in entrances]
        except OSError:
            _close(own)
            raise
        self._waiting.append((marshal.dumps({**request["order"], "id": request["id"]}), own))
        self.flush()

    def flush(self) -> None:
        """Sends what waits, as far as it goes. A zygote that is gone shows in `reports`."""
        while self._waiting:
            order, fds = self._waiting[0]
            rights = b"".join(fd.to_bytes(4, "little") for fd in fds)
            try:
                self._socket.sendmsg([order], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
            except BlockingIOError:
                return
            except OSError:
                pass
            _close(fds)
            del self._waiting[0]

    def reports(self) -> Iterator[tuple[tuple[Any, ...], int]]:
        """What the zygote and its children say, each with the sender's pid as we see it; empty at the end."""
        while True:
            try:
                data, ancillary, _flags, _address = self._socket.recvmsg(_MESSAGE, _CREDENTIALS)
            except BlockingIOError:
                return
            except OSError:
                data, ancillary = b"", []
            if not data:
                yield (), 0
                return
            yield marshal.loads(data), _sender(ancillary)  # noqa: S302 - no code of a sandbox has this line


class Zygotes:
    """All lines of one keeper, by the number of the zygote."""

    def __init__(self, poller: select.poll) -> None:
        self._poller = poller
        self._lines: dict[int, Line] = {}

    def add(self, number: int, line: Line) -> None:
        line.give()
        self._lines[number] = line
        self._poller.register(line.fileno(), select.POLLIN)

    def others(self, numbers: Iterable[int]) -> bool:
        """Whether there are sandboxes among these, and not zygotes alone."""
        return any(number not in self._lines for number in numbers)

    def order(self, request: Mapping[str, Any], fds: Sequence[int], entrances: Sequence[str]) -> None:
        """See `Line.order`; OSError as well when there is no such zygote."""
        line = self._lines.get(request["zygote"])
        if line is None:
            raise OSError(errno.ESRCH, "there is nothing to fork it from any more")
        line.order(request, fds, entrances)
        self._watch(line)

    def hears(self, fd: int) -> Iterator[tuple[int, tuple[Any, ...], int]] | None:
        """What came, as (zygote, report, sender); an empty report is its end. None when `fd` is no zygote's."""
        for number, line in self._lines.items():
            if line.fileno() == fd:
                return self._heard(number, line)
        return None

    def _heard(self, number: int, line: Line) -> Iterator[tuple[int, tuple[Any, ...], int]]:
        line.flush()
        self._watch(line)
        for report, sender in line.reports():
            if not report:
                self.end(number)
            yield number, report, sender

    def _watch(self, line: Line) -> None:
        self._poller.register(line.fileno(), select.POLLIN | (select.POLLOUT if line.is_full else 0))

    def end(self, number: int) -> None:
        line = self._lines.pop(number, None)
        if line is not None:
            self._poller.unregister(line.fileno())
            line.close()


def _sender(ancillary: Sequence[tuple[int, int, bytes]]) -> int:
    for level, kind, data in ancillary:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_CREDENTIALS):
            return int.from_bytes(data[:4], "little")
    return 0


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
