"""A network with no route out, in which every address is a sink. For a process in a network namespace of its own.

All of IPv4 and IPv6 is made local to the loopback interface, so that whatever address a row names, and whichever the
sandbox finds for itself, ends at a listener here or in the count of packets, and nowhere else.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from terraphim_rlm.core.errors import InternalError

TCP = (53, 80, 443, 853, 2375, 2376, 6379, 8080)
UDP = (53, 123, 443, 5353)
GREETING = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsink-here"

_NEWLINK, _NEWROUTE = 16, 24
_REQUEST, _ACK, _CREATE = 1, 4, 0x400
_LOCAL_TABLE, _PROTO_BOOT, _SCOPE_HOST, _TYPE_LOCAL = 255, 3, 254, 2
_ATTRIBUTE_DEVICE = 4
_LOOPBACK = 1
_UP = 1
_ALL_FRAMES = 0x0003


def close_off() -> None:
    """Makes this process's network namespace such a network.

    Raises:
        InternalError: this process is not the first of a pid namespace, or a network leads out of here.
        OSError: the kernel refuses.
    """
    up = [name for _index, name in socket.if_nameindex() if name != "lo" and _is_up(name)]
    if os.getpid() != 1 or up:
        raise InternalError(
            f"This is no network namespace of the harness; interfaces: {', '.join(up) or 'lo'}."
        )
    _ask(_NEWLINK, struct.pack("=BxHiII", socket.AF_UNSPEC, 0, _LOOPBACK, _UP, _UP))
    families = [socket.AF_INET, *([socket.AF_INET6] if os.path.exists("/proc/net/if_inet6") else [])]
    for family in families:
        route = struct.pack(
            "=BBBBBBBBI", family, 0, 0, 0, _LOCAL_TABLE, _PROTO_BOOT, _SCOPE_HOST, _TYPE_LOCAL, 0
        )
        _ask(_NEWROUTE, route + struct.pack("=HHI", 8, _ATTRIBUTE_DEVICE, _LOOPBACK))


def _is_up(name: str) -> bool:
    with open(f"/sys/class/net/{name}/flags", encoding="ascii") as file:
        return bool(int(file.read(), 16) & _UP)


def _ask(kind: int, body: bytes) -> None:
    """One rtnetlink request and its acknowledgement."""
    header = struct.pack("=IHHII", 16 + len(body), kind, _REQUEST | _ACK | _CREATE, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.send(header + body)
        answer = netlink.recv(4096)
    error = -struct.unpack_from("=i", answer, 16)[0]
    if error:
        raise OSError(error, f"netlink request {kind}: {os.strerror(error)}")


class Sinks:
    """Listeners on the ports that rows name, on every address, and a count of all packets. A context manager.

    The packets are counted by the kernel as they pass the loopback interface, whatever their protocol and port.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._met: list[str] = []
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        self._wire = self._stack.enter_context(
            socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL_FRAMES))
        )
        self._wire.setblocking(False)
        listeners = [self._listener(socket.SOCK_STREAM, port) for port in TCP]
        listeners += [self._listener(socket.SOCK_DGRAM, port) for port in UDP]
        thread = threading.Thread(target=self._serve, args=(listeners,), daemon=True)
        thread.start()
        self._stack.callback(thread.join)
        self._stack.callback(self._stop.set)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _listener(self, kind: socket.SocketKind, port: int) -> socket.socket:
        family = socket.AF_INET6 if os.path.exists("/proc/net/if_inet6") else socket.AF_INET
        listener = self._stack.enter_context(socket.socket(family, kind))
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(("", port))
        if kind == socket.SOCK_STREAM:
            listener.listen(16)
        listener.setblocking(False)
        return listener

    def _serve(self, listeners: list[socket.socket]) -> None:
        import select

        while not self._stop.is_set():
            for ready in select.select(listeners, [], [], 0.1)[0]:
                with contextlib.suppress(OSError):
                    self._meet(ready)

    def _meet(self, listener: socket.socket) -> None:
        if listener.type == socket.SOCK_DGRAM:
            data, sender = listener.recvfrom(4096)
            self._met.append(f"UDP port {listener.getsockname()[1]} got {data[:80]!r}")
            listener.sendto(_dns_answer(data), sender)
            return
        connection = listener.accept()[0]
        with connection:
            address, port = connection.getsockname()[:2]
            self._met.append(f"TCP {address.removeprefix('::ffff:')} port {port} was reached")
            connection.sendall(GREETING)

    def harm(self) -> list[str]:
        """What has arrived since the last look: who was met, and any packet at all."""
        packets = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                self._wire.recv(1 << 16)
                packets += 1
        met, self._met = self._met, []
        return [*dict.fromkeys(met), *([f"{packets} packets left the sandbox"] if packets else [])]


def _dns_answer(query: bytes) -> bytes:
    """The query back as its own answer with no records: enough for a resolver to be content."""
    return query[:2] + b"\x81\x80" + query[4:6] + bytes(6) + query[12:] if len(query) >= 12 else query
