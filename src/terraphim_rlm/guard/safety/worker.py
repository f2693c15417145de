"""What runs in the reader's process: takes code, parses it, gives findings. It never runs, imports or compiles the code.

Its bounds are the kernel's: 256 MB of addresses, no further descriptor, no child, and an alarm should its host forget it.
"""

from __future__ import annotations

import gc
import json
import resource
import signal
import socket
import struct

from terraphim_rlm.guard.safety.reading import GaveUp, read

_LENGTH = struct.Struct("<I")
_MEMORY = 256 << 20
_ALARM_SECONDS = 3
"""The host gives up after one; this is for a host that is gone."""


def main(descriptor: int) -> None:
    """Answers until the host closes its end."""
    channel = socket.socket(fileno=descriptor)
    read("pass", "python")
    read("true", "bash")
    gc.collect()
    gc.freeze()
    _bound(descriptor)
    _send(channel, {})
    while (request := _request(channel)) is not None:
        language, code = request
        signal.alarm(_ALARM_SECONDS)
        try:
            answer: dict[str, object] = {"findings": read(code, language)}
        except GaveUp as error:
            answer = {"gave_up": str(error)}
        except (MemoryError, RecursionError) as error:
            answer = {"gave_up": _WHY[type(error)]}
        signal.alarm(0)
        _send(channel, answer)


_WHY = {
    MemoryError: "it takes too much memory to read",
    RecursionError: "it is nested too deeply",
}


def _bound(descriptor: int) -> None:
    for kind, most in (
        (resource.RLIMIT_AS, _MEMORY),
        (resource.RLIMIT_NOFILE, descriptor + 1),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))


def _request(channel: socket.socket) -> tuple[str, str] | None:
    head = _exactly(channel, _LENGTH.size)
    if head is None:
        return None
    body = _exactly(channel, _LENGTH.unpack(head)[0])
    if body is None:
        return None
    language, code = json.loads(body)
    return language, code


def _exactly(channel: socket.socket, count: int) -> bytes | None:
    data = bytearray()
    while len(data) < count:
        piece = channel.recv(min(count - len(data), 1 << 20))
        if not piece:
            return None
        data += piece
    return bytes(data)


def _send(channel: socket.socket, answer: dict[str, object]) -> None:
    body = json.dumps(answer).encode()
    channel.sendall(_LENGTH.pack(len(body)) + body)
