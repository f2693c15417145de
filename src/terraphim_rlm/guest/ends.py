"""What goes through a tunnel, and this side's ends of it: see `tunnel.py`."""

import _socket
import posix
import select
import sys
from struct import Struct

HEADER = Struct("<IBI")
COUNT = Struct("<I")
WINDOW = 1 << 18
"""Bytes of one end under way in one direction; a datagram may go past it by its own length."""
REQUEST, DATA, PACKET, CLOSE, CREDIT, FILL, SEAL, FORGET, REPORT, KILLED = range(1, 11)
"""REQUEST and PACKET downward: `marshal` of (bytes, [(kind, number)]); the rest is bytes. Upward nothing is `marshal`.
KILLED: somebody was ended for memory."""
NULL, READS, WRITES, STREAM, PACKETS, MEMORY = range(6)
"""What a process in the sandbox gets: nothing, a pipe that it reads or writes, a socket, a sealed memory file."""
CHUNK = 1 << 16
GONE = select.POLLERR | select.POLLHUP | select.POLLNVAL


class End:
    """Our side of something that a process in the sandbox holds."""

    def __init__(self, number, kind, fd, socket=None):
        self.number = number
        self.kind = kind
        self.fd = fd
        self.socket = socket
        self.credit = WINDOW  # bytes that may go to the host
        self.waiting = []  # (bytes, descriptors) on their way into the sandbox
        self.finishing = False  # no more comes from the host
        self.owed = 0  # bytes in the pipe that somebody's next word waits for
        self.held = False  # its next word waits for pipes
        self.before = ()  # those pipes
        self.live = True

    def close(self):
        self.live = False
        for _data, fds in self.waiting:
            close_all(fds)
        self.waiting = []
        if self.socket is not None:
            self.socket.close()
        else:
            posix.close(self.fd)

    def read(self):
        """A piece of what is there; descriptors that come along are dropped by the kernel. Empty: its end."""
        if self.kind == WRITES:
            return posix.read(self.fd, min(CHUNK, self.credit))
        return self.socket.recv(CHUNK if self.kind == PACKETS else min(CHUNK, self.credit))

    def write(self, data, fds):
        """How much of it was taken; the descriptors go with the first byte."""
        if self.socket is None:
            return posix.write(self.fd, data)
        if not fds:
            return self.socket.send(data)
        packed = b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds)
        return self.socket.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)])


def pair(number, kind):
    """What a process gets, and our end of it."""
    if kind in (READS, WRITES):
        reader, writer = posix.pipe2(posix.O_CLOEXEC)
        theirs, ours = (reader, writer) if kind == READS else (writer, reader)
        posix.set_blocking(ours, False)
        return theirs, End(number, kind, ours)
    mine, its = _socket.socketpair(
        _socket.AF_UNIX, _socket.SOCK_SEQPACKET if kind == PACKETS else _socket.SOCK_STREAM
    )
    mine.setblocking(False)
    return its.detach(), End(number, kind, mine.fileno(), mine)


def hung_up(fd):
    """Whether nobody reads it any more, asked anew: what was told may have been of another one with its number."""
    poller = select.poll()
    poller.register(fd, 0)
    return any(event & GONE for _, event in poller.poll(0))


def ordered(ends):
    """Lets each socket of a process speak after its pipes; those pipes."""
    pipes = [end for end in ends if end.kind == WRITES]
    for end in ends:
        if end.kind == STREAM:
            end.before = pipes
    return pipes


def close_all(fds):
    for fd in fds:
        posix.close(fd)
