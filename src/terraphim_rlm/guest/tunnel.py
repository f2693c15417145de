"""Pid 1 of a sandbox that shares no descriptors with the host: all that it and its cells say goes over one stream.

Host and guest name *ends* by number. To the guest's supervisor, cells and programs an end is what it would be anyway:
a pipe, a socket, a memory file; this process holds the other side of each, and carries bytes. Who in the sandbox
holds which end is settled by the kernel, so nobody can speak for another: the stream itself is this process's alone.

- Each end has a window both ways: bytes under way that the other side has not taken yet.
- What a cell printed reaches the host before what it says on its channel after that, and before its end.
- A frame is `<IBI` (length of its body, type, number of an end) and the body. Bodies downward are bytes or `marshal`.

Imports only builtin modules, as the supervisor does.
"""

import fcntl
import marshal
import posix
import select
import sys
from struct import Struct

from . import supervisor
from .ends import (
    CHUNK,
    CLOSE,
    COUNT,
    CREDIT,
    DATA,
    FILL,
    FORGET,
    GONE,
    HEADER,
    KILLED,
    MEMORY,
    NULL,
    PACKET,
    PACKETS,
    READS,
    REPORT,
    REQUEST,
    SEAL,
    WRITES,
    close_all,
    hung_up,
    ordered,
    pair,
)
from .watch import Watch

_MOST_UNSENT = 1 << 20
_FIONREAD = 0x541B
_SEALS = 1 | 2 | 4 | 8  # against further seals, shrinking, growing, writing
_ADD_SEALS = 1033
_NO_NEW_PRIVS, _SECCOMP, _FILTER = 38, 22, 2


class Tunnel:
    """Carries bytes between the ends and the host. To the supervisor it is the host."""

    def __init__(self, reader, writer):
        self._in, self._out = reader, writer
        posix.set_blocking(writer, False)
        self._received = bytearray()
        self._unsent = bytearray()
        self._full = False
        self._ends = {}  # number -> End
        self._by_fd = {}
        self._memories = {}
        self._pipes = {}  # number of a request -> the pipes that its process writes
        self._held = []  # (pipes, what to do once they are empty)
        self._poller = select.poll()
        self._poller.register(reader, select.POLLIN)
        self.children, self.paused = {}, {}

    def serve(self, wake, watch):
        """Until the host is gone."""
        self._poller.register(wake, select.POLLIN)
        again = None
        while True:
            if watch is not None:
                again, killed = watch.look()
                if killed:
                    self._say(KILLED, 0)
            for fd, event in self._poller.poll(again):
                if fd == wake:
                    supervisor.drain(wake)
                    supervisor.reap(self, self.children)
                elif fd == self._in:
                    self._receive()
                elif fd == self._out:
                    self._flush()
                elif fd in self._by_fd:
                    self._ready(self._by_fd[fd], event)

    # What the supervisor asks of a host.

    def send(self, report):
        """One report; that a process has ended comes after what it said."""
        op, number = supervisor.REPORT.unpack(report)[:2]
        if op != supervisor.EXITED:
            self._say(REPORT, 0, report)
            return
        pipes = self._pipes.pop(number, None)
        if pipes is None:  # it forked away from another one: which pipes are its own only it knows
            pipes = [pipe for group in self._pipes.values() for pipe in group]
        self._after(pipes, lambda: self._say(REPORT, 0, report))

    def close(self):
        """In a child, which closes all descriptors that are not its own."""

    # Upward.

    def _say(self, kind, number, body=b""):
        self._unsent += HEADER.pack(len(body), kind, number)
        self._unsent += body
        self._flush()

    def _flush(self):
        try:
            while self._unsent:
                del self._unsent[: posix.write(self._out, memoryview(self._unsent)[:CHUNK].tobytes())]
        except BlockingIOError:
            self._poller.register(self._out, select.POLLOUT)
        except OSError:
            posix._exit(0)
        else:
            self._poller.register(self._out, 0)
        full = len(self._unsent) > _MOST_UNSENT
        if full != self._full:
            self._full = full
            for end in list(self._by_fd.values()):
                self._watch(end)

    def _ready(self, end, event):
        if end.kind == READS and event & GONE:
            self._write(end, hung_up(end.fd))
        elif event & select.POLLOUT:
            self._write(end, False)
        if end.live and event & (select.POLLIN | GONE) and end.kind != READS and self._may_read(end):
            self._read(end)

    def _may_read(self, end):
        return end.credit > 0 and not self._full and not end.held

    def _read(self, end):
        """Takes what is there, a piece; how many bytes that were."""
        try:
            data = end.read()
        except BlockingIOError:
            return 0
        except OSError:
            data = b""
        end.credit -= len(data)
        if end.kind == WRITES:
            self._tell(end, data)
            end.owed = max(0, end.owed - len(data)) if data else 0
            self._release()
        else:
            self._after([pipe for pipe in end.before if pipe.live], lambda: self._tell(end, data), end)
        if end.live and data:
            self._watch(end)
        return len(data)

    def _tell(self, end, data):
        if not end.live:
            return
        if data:
            self._say(PACKET if end.kind == PACKETS else DATA, end.number, data)
        else:
            self._drop(end)

    def _after(self, pipes, act, end=None):
        """Does it once what is in the pipes now is on its way."""
        for pipe in pipes:
            if pipe.live:
                self._settle(pipe)
        if any(pipe.live and pipe.owed for pipe in pipes) or (end is not None and end.held):
            self._held.append((pipes, act, end))
            if end is not None:
                end.held = True
                self._watch(end)
        else:
            act()

    def _settle(self, pipe):
        """Sends what is in a pipe, as far as its window goes, and notes what is left of it."""
        size = bytearray(4)
        fcntl.ioctl(pipe.fd, _FIONREAD, size)
        pipe.owed = max(pipe.owed, int.from_bytes(size, sys.byteorder))
        while pipe.live and pipe.owed and pipe.credit > 0 and not self._full:
            if not self._read(pipe):
                pipe.owed = 0

    def _release(self):
        """What was held and need not be any more."""
        held, self._held = self._held, []
        for pipes, act, end in held:
            if any(pipe.live and pipe.owed for pipe in pipes):
                self._held.append((pipes, act, end))
                continue
            if end is not None and end.live:
                end.held = False
            act()
            if end is not None and end.live:
                self._watch(end)

    def _watch(self, end):
        if not end.live:
            return
        wanted = select.POLLOUT if end.waiting else 0
        if end.kind != READS and self._may_read(end):
            wanted |= select.POLLIN
        if not wanted and end.kind != READS:  # else one that hung up would be told of again and again
            if end.fd in self._by_fd:
                del self._by_fd[end.fd]
                self._poller.unregister(end.fd)
            return
        self._by_fd[end.fd] = end
        self._poller.register(end.fd, wanted)

    def _drop(self, end, tell=True):
        if not end.live:
            return
        if self._by_fd.pop(end.fd, None) is not None:
            self._poller.unregister(end.fd)
        del self._ends[end.number]
        end.close()
        if tell:
            self._say(CLOSE, end.number)
        if end.kind == WRITES:
            self._release()

    # Downward.

    def _receive(self):
        data = posix.read(self._in, 1 << 18)
        if not data:
            posix._exit(0)
        self._received += data
        at, size = 0, len(self._received)
        while size - at >= HEADER.size:
            length, kind, number = HEADER.unpack_from(self._received, at)
            if size - at - HEADER.size < length:
                break
            body = bytes(memoryview(self._received)[at + HEADER.size : at + HEADER.size + length])
            at += HEADER.size + length
            self._hear(kind, number, body)
        del self._received[:at]

    def _hear(self, kind, number, body):
        if kind == REQUEST:
            self._request(*marshal.loads(body))
        elif kind == FILL:
            self._fill(number, body)
        elif kind == SEAL:
            self._seal(number)
        elif kind == FORGET:
            posix.close(self._memories.pop(number))
        elif kind == PACKET:
            self._packet(number, *marshal.loads(body))
        elif number in self._ends:
            end = self._ends[number]
            if kind == DATA:
                self._put(end, body, ())
            elif kind == CREDIT:
                end.credit += COUNT.unpack(body)[0]
                if end.owed:
                    self._settle(end)
                    self._release()
                self._watch(end)
            elif kind == CLOSE:
                end.finishing = True
                if not end.waiting or end.kind == WRITES:
                    self._drop(end, tell=False)

    def _fill(self, number, data):
        if number not in self._memories:
            self._memories[number] = posix.memfd_create("trlm", 1 | 2)
        while data:
            data = data[posix.write(self._memories[number], data) :]

    def _seal(self, number):
        if number not in self._memories:  # it is empty
            self._fill(number, b"")
        fd = self._memories[number]
        fcntl.fcntl(fd, _ADD_SEALS, _SEALS)
        posix.lseek(fd, 0, 0)

    def _request(self, data, described):
        request = marshal.loads(data)
        try:
            fds, ends = self._made(described)
        except OSError as error:
            self._say(
                REPORT, 0, supervisor.REPORT.pack(supervisor.FAILED, request["id"], error.errno or 0, 0, 0)
            )
            return
        pipes = ordered(ends)
        if pipes:
            self._pipes[request["id"]] = pipes
        supervisor.carry_out(self, self.children, self.paused, request, fds)

    def _packet(self, number, data, described):
        end = self._ends.get(number)
        fds = ()
        try:
            if end is None:
                raise OSError(32, "closed")
            fds, ends = self._made(described)
        except OSError:
            for kind, other in described:
                if kind not in (NULL, MEMORY):
                    self._say(CLOSE, other)
            return
        ordered(ends)
        self._put(end, data, fds)

    def _made(self, described):
        """What was described, for a process in the sandbox, and our ends of it."""
        fds, ends = [], []
        try:
            for kind, number in described:
                fd, end = self._one(kind, number)
                fds.append(fd)
                if end is not None:
                    ends.append(end)
        except OSError:
            close_all(fds)
            for end in ends:
                self._drop(end)
            raise
        return fds, ends

    def _one(self, kind, number):
        if kind == NULL:
            return posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC), None
        if kind == MEMORY:
            return fcntl.fcntl(self._memories[number], fcntl.F_DUPFD_CLOEXEC, 3), None
        theirs, end = pair(number, kind)
        self._ends[number] = end
        self._watch(end)
        return theirs, end

    def _put(self, end, data, fds):
        end.waiting.append((data, fds))
        self._write(end, False)

    def _write(self, end, gone):
        try:
            while end.waiting and not gone:
                data, fds = end.waiting[0]
                sent = end.write(data, fds)
                close_all(fds)
                if sent < len(data):
                    end.waiting[0] = (data[sent:], ())
                else:
                    del end.waiting[0]
                self._say(CREDIT, end.number, COUNT.pack(sent))
        except BlockingIOError:
            pass
        except OSError:
            gone = True
        if gone or (end.finishing and not end.waiting):
            self._drop(end, tell=not end.finishing)
        else:
            self._watch(end)


def _install(program):
    """The seccomp filter, for this process and all that come of it."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    kept = ctypes.create_string_buffer(program, len(program))
    pointer = Struct("HP").pack(len(program) // 8, ctypes.addressof(kept))
    for arguments in ((_NO_NEW_PRIVS, 1, 0, 0, 0), (_SECCOMP, _FILTER, pointer, 0, 0)):
        if libc.prctl(*arguments) != 0:
            number = ctypes.get_errno()
            raise OSError(number, posix.strerror(number), f"prctl({arguments[0]})")


def main(limits, most, program):
    """Serves the host on the standard streams until it closes them; then the sandbox ends with this process."""
    _install(program)
    wake = supervisor.prepare(limits)
    tunnel = Tunnel(0, 1)
    tunnel.send(supervisor.REPORT.pack(supervisor.HELLO, 0, *sys.version_info[:3]))
    tunnel.serve(wake, Watch(most) if most else None)
