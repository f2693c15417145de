"""The cell's end of its channel: frames out, frames in, calls that wait for the host's reply."""

import _socket
import _thread
import posix
import sys

from . import frames

_SPACE = _socket.CMSG_SPACE(4 * 4)
_CHUNK = 1 << 16


class HostGone(SystemExit):
    """The host closed the channel; the cell ends."""


class Channel:
    """Frames over one stream socket. Any thread of the cell may call; one of them reads for all."""

    def __init__(self, fd):
        self._socket = _socket.socket(fileno=fd)
        posix.set_inheritable(fd, False)
        self._send_lock = _thread.allocate_lock()
        self._state_lock = _thread.allocate_lock()
        self._buffer = bytearray()
        self._fds = []
        self._reading = False
        self._waiting = {}  # number of a call -> the lock its thread sleeps on
        self._replies = {}
        self._last = 0
        self._sending = False
        self._interrupted = False

    def send(self, kind, number, body=b""):
        data = frames.pack(kind, number, body)
        with self._send_lock:
            self._sending = True
            view = memoryview(data)
            while view:
                view = view[self._socket.send(view) :]
            self._sending = False
        if self._interrupted:
            self._interrupted = False
            raise KeyboardInterrupt

    def interrupt(self):
        """Raises KeyboardInterrupt, but never in the middle of a frame."""
        if self._sending:
            self._interrupted = True
        else:
            raise KeyboardInterrupt

    def read(self):
        """The next frame as (kind, number, body)."""
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
        for level, kind, raw in ancillary:
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                for i in range(0, len(raw) - len(raw) % 4, 4):
                    fd = int.from_bytes(raw[i : i + 4], sys.byteorder)
                    posix.set_inheritable(fd, False)
                    self._fds.append(fd)
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
        while True:
            with self._state_lock:
                if number in self._replies:
                    return self._replies.pop(number)
                leads = not self._reading
                self._reading = True if leads else self._reading
            if not leads:
                lock.acquire()
                continue
            try:
                self._lead(number)
            finally:
                self._step_down(number)

    def _lead(self, number):
        while number not in self._replies:
            kind, answered, body = self.read()
            with self._state_lock:
                if answered in self._waiting:
                    self._replies[answered] = (kind, body)
                    if answered != number:
                        _wake(self._waiting[answered])

    def _step_down(self, number):
        with self._state_lock:
            self._reading = False
            for other, lock in self._waiting.items():
                if other != number and other not in self._replies:
                    _wake(lock)
                    break


def _wake(lock):
    """Lets the thread that sleeps on `lock` look again; under the state lock, so only one can be waking it."""
    if lock.locked():
        lock.release()
