"""The beginning of a TLS connection, read only as far as to know for which name it is. All of it is hostile.

RFC 8446, 4.1.2 and 5.1; RFC 6066, 3.
"""

from __future__ import annotations

from terraphim_rlm.sandbox.egress.names import Host, Odd, canonical

MOST = 16_384
"""Bytes of a ClientHello."""
WATCHED = 131_072
"""Bytes of a client in which a second ClientHello is looked for: a server that asked for another key share gets one."""
_HANDSHAKE, _CLIENT_HELLO = 22, 1
_SERVER_NAME = 0
_ENCRYPTED = {0xFE0D: "an encrypted ClientHello", 0xFFCE: "an encrypted server name"}
_LONGEST_RECORD = 16_384 + 2048


class BadHello(Exception):
    """It is no ClientHello, or none that says plainly for whom it is."""


class _Reader:
    """Reads forward, never past the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise BadHello("its ClientHello is cut short")
        piece, self._at = self._data[self._at : end], end
        return piece

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> _Reader:
        """What is preceded by its length in `size` bytes."""
        return _Reader(self.take(self.number(size)))

    @property
    def is_over(self) -> bool:
        return self._at == len(self._data)


def server_name(hello: bytes) -> str | None:
    """The name in a ClientHello (its body, without the handshake's header); None where there is none.

    Raises:
        BadHello: it is malformed, or hides a name.
    """
    reader = _Reader(hello)
    reader.take(2 + 32)
    for size in (1, 2, 1):  # session id, cipher suites, compression methods
        reader.vector(size)
    if reader.is_over:
        return None
    extensions = reader.vector(2)
    if not reader.is_over:
        raise BadHello("its ClientHello is longer than it says")
    found: dict[int, _Reader] = {}
    while not extensions.is_over:
        kind = extensions.number(2)
        if kind in found:
            raise BadHello("its ClientHello says something twice")
        found[kind] = extensions.vector(2)
    for kind, what in _ENCRYPTED.items():
        if kind in found:
            raise BadHello(f"it carries {what}, behind which another name can stand")
    return _only_name(found[_SERVER_NAME]) if _SERVER_NAME in found else None


def _only_name(extension: _Reader) -> str:
    names = extension.vector(2)
    kind = names.number(1)
    name = names.vector(2)
    if kind != 0 or not names.is_over or not extension.is_over:
        raise BadHello("its ClientHello has another server name than one")
    try:
        return name._data.decode("ascii")
    except UnicodeDecodeError:
        raise BadHello("its server name is no name") from None


class HelloWatch:
    """Fed with all that a client sends; knows when the name is known, and notices when a later ClientHello has another."""

    def __init__(self) -> None:
        self._raw = bytearray()
        self._message = bytearray()
        self._reading = True
        """In the midst of a ClientHello."""
        self._seen = 0
        self.known = False
        self.host: Host | None = None
        """For whom it is, once known; None then means that no name was given."""

    def feed(self, data: bytes) -> None:
        """Takes further bytes.

        Raises:
            BadHello: this is not TLS, or not for one plain name.
        """
        if self._seen > WATCHED:
            return
        self._seen += len(data)
        self._raw += data
        while len(self._raw) >= 5:
            kind, length = self._raw[0], int.from_bytes(self._raw[3:5], "big")
            if not self.known and (kind != _HANDSHAKE or self._raw[1] != 3 or not length):
                raise BadHello("it is not TLS")
            if length > _LONGEST_RECORD:
                raise BadHello("its record is too long")
            if len(self._raw) < 5 + length:
                break
            body = bytes(self._raw[5 : 5 + length])
            del self._raw[: 5 + length]
            if kind == _HANDSHAKE:
                self._handshake(body)
        if not self.known and len(self._raw) + len(self._message) > MOST:
            raise BadHello("its ClientHello is too long")

    def _handshake(self, body: bytes) -> None:
        if not self._reading and not _begins_hello(body):
            return  # another message, or an encrypted one
        self._reading = True
        self._message += body
        if not self.known and self._message and self._message[0] != _CLIENT_HELLO:
            raise BadHello("it does not begin with a ClientHello")
        if len(self._message) < 4:
            return
        length = int.from_bytes(self._message[1:4], "big")
        if length > MOST:
            raise BadHello("its ClientHello is too long")
        if len(self._message) < 4 + length:
            return
        if len(self._message) > 4 + length:
            raise BadHello("its ClientHello is followed by more in one record")
        self._learn(server_name(bytes(self._message[4:])))
        self._message.clear()
        self._reading = False

    def _learn(self, name: str | None) -> None:
        try:
            host = None if name is None else canonical(name)
        except Odd as error:
            raise BadHello(f"its server name is odd: {error}") from None
        if self.known and host != self.host:
            raise BadHello("a second ClientHello has another name")
        self.known, self.host = True, host


def _begins_hello(body: bytes) -> bool:
    """Whether a later handshake record may begin a ClientHello; an encrypted one does by chance once in 2**18."""
    return body[:1] == b"\x01" and (len(body) < 4 or int.from_bytes(body[1:4], "big") <= MOST)
