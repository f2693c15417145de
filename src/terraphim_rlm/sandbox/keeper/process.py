"""The keeper's loop: requests in, sandboxes out, reports back; everything ends when the owner does.

Requests and reports are `marshal` datagrams between an owner and the keeper that it started, same interpreter.
Owner to keeper: `{"op": "spawn", "id", "argv", "env", "fds", "info_fd", "line", "rlimits", "limits", "watch", "uid"}` and
`{"op": "fork", "id", "zygote", "order", "limits", "watch"}` (see `forks`) with descriptors,
`{"op": "kill", "id"}`, `{"op": "limit", "id", "limits"}`, `{"op": "bound", "id", "uid", "places", "most"}`,
`{"op": "file_states", "id", "data", "roots", "size", "uid", "layered"}`, `{"op": "doors", "id", "sockets", "uid"}` with a descriptor
on which the answer comes (see `doors`).
Keeper to owner: `("ready", modes)`, `("spawned", id, pid, enforced, counts)`, `("failed", id, reason)`, `("bounded", id, whether)`, `("oom", id, kills)`,
`("file_states", id, data)` with what the sandbox's warden said (nothing when it is gone), `("ended", id, code, signal, oom_kills)`.

A sandbox is killed by its pid 1, whose end the kernel delays until the whole pid namespace is dead. Killing
bubblewrap instead, while it sets up, would leave its child running; should bubblewrap die all the same, the
child becomes ours (subreaper) and is killed and reaped before the end is told.
"""

from __future__ import annotations

import _socket
import marshal
import os
import select
from time import monotonic

from . import inodes, orphans, own
from .box import Box
from .forks import Line, Zygotes
from .groups import Group, Groups, count, hierarchies
from .leftovers import Leftovers
from .spawn import spawn
from .wardens import Wardens
from .watch import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import Any
else:
    import _signal

_MESSAGE = 1 << 18
_FDS = 128
_SETUP_SECONDS = 0.5  # bubblewrap tells its child's pid within milliseconds; then it is killed itself
_IDLE_MS = 500
_LAST_SECONDS = 10.0  # at the owner's end: then what is still dying is left to the kernel


class Keeper:
    """All sandboxes of one owner. Single-threaded: a parent-death signal means the keeper's death and no less."""

    def __init__(self, fd: int) -> None:
        self._socket = _socket.socket(fileno=fd)
        os.set_inheritable(fd, False)
        self._socket.setblocking(False)
        self._outbox: list[bytes] = []
        self._boxes: dict[int, Box] = {}
        self._by_info: dict[int, Box] = {}
        self._bounding: dict[int, int] = {}
        """Process that bounds a sandbox's files -> number of the sandbox."""
        owner = os.getppid()
        self._owner = os.pidfd_open(owner)
        self._owner_gone = os.getppid() != owner
        self._name = orphans.name(owner)
        self._wake = own.wakeup_pipe()
        self._groups = Groups(hierarchies(_text("/proc/self/mountinfo"), _text("/proc/self/cgroup")), owner)
        self._leftovers = Leftovers(self._groups)
        self._poller = select.poll()
        for watched in (fd, self._owner, self._wake):
            self._poller.register(watched, select.POLLIN)
        self._wardens = Wardens(self._poller, self._tell)
        self._watch = Watch(self._tell)
        self._zygotes = Zygotes(self._poller)
        self._doors: set[int] = set()
        """Children that make a sandbox's doors; each lives for milliseconds."""

    def serve(self) -> None:
        """Until the owner closes its end, or is dead."""
        self._tell("ready", self._groups.modes)
        while not self._owner_gone:
            self._step()
        self._end_all()

    def stop(self, *_signal_and_frame: object) -> None:
        self._owner_gone = True

    def _step(self) -> None:
        events = self._poller.poll(self._timeout())
        if not events and not self._zygotes.others(self._boxes):
            self._leftovers.sweep()
        for fd, event in events:
            if fd == self._wake:
                own.drain(fd)
            elif fd == self._owner:
                self._owner_gone = True
            elif fd in self._by_info:
                self._learn(self._by_info[fd])
            elif self._wardens.hears(fd) or self._hear_zygote(fd):
                continue
            elif event & select.POLLOUT:
                self._flush()
            elif not self._receive():
                self._owner_gone = True
        for number in self._watch.look(self._boxes.values()):
            self._doom(self._boxes[number])
        self._settle()

    def _timeout(self) -> int:
        """Milliseconds: short while something is dying, for what the kernel does not announce."""
        if any(box.doomed or box.status is not None for box in self._boxes.values()):
            return 5
        idle = _IDLE_MS if self._leftovers.due and not self._zygotes.others(self._boxes) else 60_000
        return self._watch.wait(self._boxes.values(), idle)

    def _receive(self) -> bool:
        try:
            data, ancillary, _flags, _address = self._socket.recvmsg(_MESSAGE, _socket.CMSG_SPACE(_FDS * 4))
        except BlockingIOError:
            return True
        except OSError:
            return False
        fds = [
            int.from_bytes(raw[i : i + 4], "little")
            for level, kind, raw in ancillary
            if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS)
            for i in range(0, len(raw) - len(raw) % 4, 4)
        ]
        try:
            if not data:
                return False
            request = marshal.loads(data)  # noqa: S302 - from the process that started this one
            if request["op"] == "spawn":
                self._spawn(request, fds)
            elif request["op"] == "fork":
                self._fork(request, fds)
            elif request["id"] in self._boxes:
                self._change(self._boxes[request["id"]], request, fds)
            return True
        finally:
            for fd in fds:
                os.close(fd)

    def _change(self, box: Box, request: dict[str, Any], fds: list[int]) -> None:
        if request["op"] == "kill":
            self._doom(box)
        elif request["op"] == "doors":
            self._make_doors(box, fds[0], request)
        elif request["op"] == "file_states":
            self._wardens.ask(box.number, box.inner_pid, box.group.entrances(), request)
        elif request["op"] == "bound":
            self._bound(box, request)
        else:
            self._groups.limit(box.group, str(box.number), request["limits"])

    def _bound(self, box: Box, request: dict[str, Any]) -> None:
        if not box.inner_pid:
            self._learn(box)  # it is told before bubblewrap lets its child go on
        try:
            pid = inodes.bound(box.inner_pid, request["uid"], request["places"], request["most"])
        except OSError:
            self._tell("bounded", box.number, False)
        else:
            self._bounding[pid] = box.number

    def _spawn(self, request: dict[str, Any], fds: list[int]) -> None:
        """Starts a program; one with a `line` forks sandboxes, and gets its end of that as its last descriptor."""
        number = request["id"]
        group, line = Group(), Line() if request["line"] else None
        try:
            group = self._groups.make(str(number), request["limits"])
            more = [line.its_end()] if line else []
            pid, info = spawn(self._name, request, [*fds, *more], group.entrances())
        except OSError as error:
            self._give_up(number, group, error)
            if line:
                line.close()
            return
        self._boxes[number] = self._by_info[info] = box = Box(number, pid, info, group)
        box.memory = request["watch"]
        self._poller.register(info, select.POLLIN)
        if line:
            self._zygotes.add(number, line)
        self._tell("spawned", number, pid, group.enforced, group.counts)

    def _fork(self, request: dict[str, Any], fds: list[int]) -> None:
        """Has a sandbox forked; it is spawned once it has said that it is there, in its control groups."""
        number = request["id"]
        group = Group()
        try:
            group = self._groups.make(str(number), request["limits"])
            self._zygotes.order(request, fds, group.entrances())
        except OSError as error:
            self._give_up(number, group, error)
        else:
            self._boxes[number] = box = Box(number, 0, -1, group, request["zygote"])
            box.memory = request["watch"]

    def _give_up(self, number: int, group: Group, error: OSError) -> None:
        group.remove()
        self._tell("failed", number, f"{error.strerror}: {error.filename or 'fork'}")

    def _hear_zygote(self, fd: int) -> bool:
        """What a zygote and its children say; False when `fd` is no zygote's."""
        reports = self._zygotes.hears(fd)
        for zygote, report, sender in reports or ():
            if not report:
                self._doom(self._boxes[zygote])
                continue
            kind, number, *more = report
            box = self._boxes[number]
            if kind == "here":
                self._hold(box, sender)
                self._tell("spawned", number, sender, box.group.enforced, box.group.counts)
            elif kind == "gone":
                box.status = more[0]
            else:
                del self._boxes[number]
                self._give_up(number, box.group, OSError(more[0], os.strerror(more[0])))
        return reports is not None

    def _make_doors(self, box: Box, line: int, request: dict[str, Any]) -> None:
        """What cannot be begun is answered by closing `line`."""
        from . import doors  # most sandboxes have none

        if box.inner < 0 and box.info >= 0:
            self._learn(box)
        if box.inner < 0:
            return
        try:
            self._doors.add(doors.start(box.inner_pid, line, request))
        except OSError:  # no process could be made
            return

    def _learn(self, box: Box) -> None:
        """Reads on in bubblewrap's information, to its end: a closed reader would kill bubblewrap by SIGPIPE."""
        try:
            text = os.read(box.info, 4096)
        except BlockingIOError:
            return
        if not text:
            self._forget_info(box)
            return
        box.told += text[:4096]
        digits, comma, _rest = box.told.partition(b'"child-pid":')[2].partition(b",")
        if box.inner < 0 and comma and digits.strip().isdigit():
            self._hold(box, int(digits))

    def _hold(self, box: Box, inner: int) -> None:
        try:
            pidfd = os.pidfd_open(inner)
        except OSError:
            return
        parents = (self._boxes[box.zygote].inner_pid,) if box.zygote else (box.pid, os.getpid())
        if orphans.parent(inner) not in parents:  # already another process of that number
            os.close(pidfd)
            return
        box.inner, box.inner_pid = pidfd, inner
        if box.doomed:
            self._doom(box)

    def _forget_info(self, box: Box) -> None:
        if box.info >= 0:
            self._poller.unregister(box.info)
            del self._by_info[box.info]
            os.close(box.info)
            box.info = -1

    def _doom(self, box: Box) -> None:
        box.doomed = True
        box.deadline = box.deadline or monotonic() + _SETUP_SECONDS
        if box.inner >= 0:
            own.pidfd_kill(box.inner)

    def _settle(self) -> None:
        """Reaps, kills what lost its bubblewrap, and reports each sandbox of which nothing is left."""
        self._reap()
        for box in self._boxes.values():
            if box.pid and box.doomed and box.status is None and monotonic() > box.deadline:
                os.kill(box.pid, _signal.SIGKILL)
        over = [box for box in self._boxes.values() if box.status is not None]
        for box in over:
            self._wardens.end(box.number)
            self._zygotes.end(box.number)
        if not over or self._kill_strays():
            return
        for box in over:
            box.oom = box.oom or count(box.group.counts, "oom_kill")
            if box.group.remove():
                self._report(box)

    def _reap(self) -> None:
        owned = {box.pid: box for box in self._boxes.values()}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._wardens.reaped(pid)
            if pid in self._bounding:
                self._tell("bounded", self._bounding.pop(pid), status == 0)
            self._doors.discard(pid)
            if pid in owned:
                owned[pid].status = status
                for box in self._boxes.values():
                    if box.zygote == owned[pid].number and box.status is None:
                        box.status = _signal.SIGKILL  # its pid namespace ended with the one it lay in

    def _kill_strays(self) -> bool:
        """Whether there were children that are no bubblewrap of ours: a dead one's child."""
        known = {box.pid for box in self._boxes.values() if box.status is None}
        known |= self._wardens.pids() | set(self._bounding) | self._doors
        strays = [pid for pid in orphans.children() if pid not in known]
        for pid in strays:
            os.kill(pid, _signal.SIGKILL)
        return bool(strays)

    def _report(self, box: Box) -> None:
        del self._boxes[box.number]
        self._forget_info(box)
        if box.inner >= 0:
            os.close(box.inner)
        self._tell("ended", box.number, *_meaning(box.status or 0), box.oom)

    def _tell(self, *report: Any) -> None:
        self._outbox.append(marshal.dumps(report))
        self._flush()

    def _flush(self) -> None:
        while self._outbox:
            try:
                self._socket.send(self._outbox[0])
            except BlockingIOError:
                if not self._owner_gone:
                    self._poller.register(self._socket.fileno(), select.POLLIN | select.POLLOUT)
                return
            except OSError:
                self._owner_gone = True
                self._outbox.clear()
                return
            del self._outbox[0]
        if not self._owner_gone:
            self._poller.register(self._socket.fileno(), select.POLLIN)

    def _end_all(self) -> None:
        for fd in (self._socket.fileno(), self._owner):
            self._poller.unregister(fd)
        for box in self._boxes.values():
            self._doom(box)
        give_up = monotonic() + _LAST_SECONDS
        while self._boxes and monotonic() < give_up:
            for fd, _event in self._poller.poll(5):
                if fd == self._wake:
                    own.drain(fd)
                elif fd in self._by_info:
                    self._learn(self._by_info[fd])
                elif not self._wardens.hears(fd):
                    self._hear_zygote(fd)
            self._settle()
        self._groups.close()
        self._leftovers.finish(give_up)


def _meaning(status: int) -> tuple[int | None, int | None]:
    """Exit code or signal of the sandbox's pid 1; bubblewrap hands a signal on as 128 + its number."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0 or 128 < code <= 192:
        return None, -code if code < 0 else code - 128
    return code, None


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def main(fd: int) -> None:
    own.become_subreaper()
    own.raise_own_limit()
    for number in (_signal.SIGINT, _signal.SIGHUP, _signal.SIGPIPE):
        _signal.signal(number, _signal.SIG_IGN)
    keeper = Keeper(fd)
    _signal.signal(_signal.SIGTERM, keeper.stop)
    keeper.serve()
