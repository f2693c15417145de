"""Heads of requests to the gateway, read strictly: what two programs could read in two ways is refused.

RFC 9112. A request that is passed on is written anew from what was understood, with one Host, and is the only one of
its connection: a second request would need to be judged as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from terraphim_rlm.sandbox.egress.names import Host, Odd, authority, shown

MOST = 16_384
"""Bytes of a head."""
END = b"\r\n\r\n"
_MOST_FIELDS = 100
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_TARGET = re.compile(rb"[\x21\x24-\x7e]+")  # visible, without quote and fragment
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_ABSOLUTE = re.compile(rb"http://([^/?]*)(.*)", re.IGNORECASE)
_LENGTH = re.compile(rb"[0-9]{1,15}")
_OWN = frozenset(
    (
        b"host",
        b"connection",
        b"proxy-connection",
        b"keep-alive",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"upgrade",
        b"http2-settings",
    )
)
"""Fields that concern one connection, or that are written anew."""
_FRAMING = frozenset((b"content-length", b"transfer-encoding"))


class BadRequest(Exception):
    """It is no request that is understood in one way only; says why in a few words."""


@dataclass(frozen=True, slots=True)
class Head:
    """One request, understood."""

    host: Host
    port: int
    tunnel: bool = False
    """CONNECT: what follows is for the other end, and is TLS."""
    method: bytes = b""
    path: bytes = b""
    fields: tuple[tuple[bytes, bytes], ...] = ()
    """Without those that are written anew."""
    body: int | None = 0
    """Bytes that follow; None = in chunks."""

    def written(self, *, absolute: bool = False) -> bytes:
        """The request as it is passed on, its end included.

        Args:
            absolute: for a further proxy.
        """
        place = shown(self.host) if self.port == 80 else f"{shown(self.host)}:{self.port}"
        named = place.encode("ascii")
        target = b"http://" + named + self.path if absolute else self.path
        lines = [self.method + b" " + target + b" HTTP/1.1", b"Host: " + named, b"Connection: close"]
        lines += [name + b": " + value for name, value in self.fields]
        return b"\r\n".join(lines) + END


def parse(data: bytes, door: int | None) -> Head:
    """A head, up to and with its empty line.

    Args:
        door: the port where it arrived, meant for a server there; None = at the proxy.

    Raises:
        BadRequest: it is none that is passed on.
    """
    first, *rest = data.removesuffix(END).split(b"\r\n")
    words = first.split(b" ")
    if len(words) != 3 or words[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise BadRequest("it is no HTTP/1.1 request")
    method, target, _version = words
    if not _TOKEN.fullmatch(method) or not _TARGET.fullmatch(target):
        raise BadRequest("its first line has characters that do not belong there")
    if method != b"CONNECT" == method.upper():
        raise BadRequest("its method is nearly CONNECT")
    fields = _fields(rest)
    try:
        if method == b"CONNECT":
            return _tunnel(target, fields, door)
        return _plain(method, target, fields, door)
    except Odd as error:
        raise BadRequest(f"its host is odd: {error}") from None


def _fields(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    if len(lines) > _MOST_FIELDS:
        raise BadRequest("it has too many fields")
    found = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise BadRequest("it has a field that is none")
        if b"_" in name and name.lower().replace(b"_", b"-") in _FRAMING:
            raise BadRequest("where its body ends is unclear")
        found.append((name, value.strip(b" \t")))
    return found


def _only(fields: list[tuple[bytes, bytes]], wanted: bytes) -> bytes | None:
    values = [value for name, value in fields if name.lower() == wanted]
    if len(values) > 1:
        raise BadRequest(f"it says {wanted.decode()} twice")
    return values[0] if values else None


def _named(text: bytes, default: int | None) -> tuple[Host, int]:
    return authority(text.decode("latin-1"), default)


def _tunnel(target: bytes, fields: list[tuple[bytes, bytes]], door: int | None) -> Head:
    if door is not None:
        raise BadRequest("it is for a proxy")
    host, port = _named(target, None)
    said = _only(fields, b"host")
    if said is not None and _named(said, port) != (host, port):
        raise BadRequest("its Host is another one")
    return Head(host, port, tunnel=True)


def _plain(method: bytes, target: bytes, fields: list[tuple[bytes, bytes]], door: int | None) -> Head:
    said = _only(fields, b"host")
    if said is None:
        raise BadRequest("it has no Host")
    if door is None:
        match = _ABSOLUTE.fullmatch(target)
        if not match:
            raise BadRequest("it names no http:// address")
        (host, port), path = _named(match[1], 80), match[2]
        if _named(said, 80) != (host, port):
            raise BadRequest("its Host is another one")
    else:
        (host, port), path = _named(said, 80), target
        if port != door or not path.startswith(b"/"):
            raise BadRequest("it is not for this port")
    path = path if path.startswith(b"/") else b"/" + path
    return Head(host, port, False, method, path, tuple(_passed(fields)), _body(fields))


def _passed(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    named = {
        each.strip().lower()
        for name, value in fields
        if name.lower() == b"connection"
        for each in value.split(b",")
    }
    dropped = (_OWN | named) - _FRAMING
    return [(name, value) for name, value in fields if name.lower() not in dropped]


def _body(fields: list[tuple[bytes, bytes]]) -> int | None:
    length, coding = _only(fields, b"content-length"), _only(fields, b"transfer-encoding")
    if coding is not None:
        if length is not None or coding.lower() != b"chunked":
            raise BadRequest("where its body ends is unclear")
        return None
    if length is None:
        return 0
    if not _LENGTH.fullmatch(length):
        raise BadRequest("where its body ends is unclear")
    return int(length)


def chunk_size(line: bytes) -> int:
    """Of a chunk's first line, without its end.

    Raises:
        BadRequest: it is none; extensions are refused as well.
    """
    if not re.fullmatch(rb"[0-9A-Fa-f]{1,8}", line):
        raise BadRequest("its body has a chunk that is none")
    return int(line, 16)
