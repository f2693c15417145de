"""The cell's end of its channel: frames out, frames in, calls that wait for the host's reply."""

import _socket
import _thread
import posix
import sys

from . import frames

_SPACE = _socket.CMSG_SPACE(4 * 4)
_CHUNK = 1 << 16
_ANSWERS = (frames.REPLY, frames.FAIL)


def descriptors(ancillary):
    """Those that came with a message; none is handed on to programs."""
    fds = [
        int.from_bytes(raw[i : i + 4], sys.byteorder)
        for level, kind, raw in ancillary
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS
        for i in range(0, len(raw) - len(raw) % 4, 4)
    ]
    for fd in fds:
        posix.set_inheritable(fd, False)
    return fds


class HostGone(SystemExit):
    """The host closed the channel; the cell ends."""


class Channel:
    """Frames over one stream socket. Any thread of the cell may call; one of them reads for all.

    A thread that is still in a call when its cell has ended goes on reading: what is meant for the cell's main
    loop must reach that, whoever reads it.
    """

    def __init__(self, fd):
        self._socket = _socket.socket(fileno=fd)
        posix.set_inheritable(fd, False)
        self._send_lock = _thread.allocate_lock()
        self._state_lock = _thread.allocate_lock()
        self._buffer = bytearray()
        self._fds = []
        self._leader = 0  # ident of the thread that reads
        self._requests = []  # frames for the main loop
        self._waiting = {}  # number of a call -> the lock its thread sleeps on; the main loop has number 0
        self._replies = {}
        self._last = 0
        self._sender = 0  # ident of the thread that is in the middle of a frame
        self._interrupted = 0

    def leave(self):
        """Gives up the descriptor without closing it: another channel has taken its number."""
        self._socket.detach()

    def send(self, kind, number, body=b""):
        data = frames.pack(kind, number, body)
        with self._send_lock:
            self._sender = _thread.get_ident()
            view = memoryview(data)
            while view:
                view = view[self._socket.send(view) :]
            self._sender = 0
        if self._interrupted and _thread.get_ident() == self._interrupted:
            self._interrupted = 0
            raise KeyboardInterrupt

    def interrupt(self):
        """Raises KeyboardInterrupt, but never in the middle of a frame of this thread, the main one."""
        if self._sender == _thread.get_ident():
            self._interrupted = self._sender
        else:
            raise KeyboardInterrupt

    def request(self):
        """The next frame that answers no call, as (kind, number, body). For the main loop alone."""
        lock = _thread.allocate_lock()
        lock.acquire()
        with self._state_lock:
            self._waiting[0] = lock
        try:
            return self._wait(0, lock)
        finally:
            with self._state_lock:
                del self._waiting[0]

    def asked_within(self, seconds):
        """Whether there is something to read for the main loop. A frame that another thread reads may be missed."""
        import select

        return bool(self._requests or self._buffer or select.select([self._socket], [], [], seconds)[0])

    def _read(self):
        while len(self._buffer) < frames.HEADER.size:
            self._fill()
        length, kind, number = frames.HEADER.unpack_from(self._buffer)
        whole = frames.HEADER.size + length
        while len(self._buffer) < whole:
            self._fill()
        body = bytes(memoryview(self._buffer)[frames.HEADER.size : whole])
        del self._buffer[:whole]
        return kind, number, body

    def take_fd(self):
        """The oldest descriptor that came with a frame and was not taken yet."""
        return self._fds.pop(0)

    def _fill(self):
        data, ancillary, _flags, _address = self._socket.recvmsg(_CHUNK, _SPACE)
        self._fds += descriptors(ancillary)
        if not data:
            raise HostGone(0)
        self._buffer += data

    def call(self, body):
        """Sends a CALL and waits for its answer: (REPLY or FAIL, body)."""
        lock = _thread.allocate_lock()
        lock.acquire()
        with self._state_lock:
            self._last += 1
            number = self._last
            self._waiting[number] = lock
        try:
            self.send(frames.CALL, number, body)
            return self._wait(number, lock)
        finally:
            with self._state_lock:
                self._waiting.pop(number, None)
                self._replies.pop(number, None)

    def _wait(self, number, lock):
        """Leader and followers: one thread reads and hands out; when it has its own, it names the next."""
        me = _thread.get_ident()
        while True:
            with self._state_lock:
                if self._has(number):
                    return self._replies.pop(number) if number else self._requests.pop(0)
                # Our own name is left over from an interrupt that came between two steps.
                leads = self._leader in (0, me)
                if leads:
                    self._leader = me
            if not leads:
                lock.acquire()
                continue
            try:
                self._lead(number)
            finally:
                self._step_down(number)

    def _has(self, number):
        return number in self._replies if number else bool(self._requests)

    def _lead(self, number):
        while not self._has(number):
            frame = self._read()
            receiver = frame[1] if frame[0] in _ANSWERS else 0
            with self._state_lock:
                if receiver == 0:
                    self._requests.append(frame)
                elif receiver in self._waiting:
                    self._replies[receiver] = (frame[0], frame[2])
                if receiver != number and receiver in self._waiting:
                    _wake(self._waiting[receiver])

    def _step_down(self, number):
        with self._state_lock:
            self._leader = 0
            for other, lock in self._waiting.items():
                if other != number and not self._has(other):
                    _wake(lock)
                    break


def _wake(lock):
    """Lets the thread that sleeps on `lock` look again; under the state lock, so only one can be waking it."""
    if lock.locked():
        lock.release()
