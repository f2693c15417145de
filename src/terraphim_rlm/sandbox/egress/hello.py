"""The beginning of a TLS connection, read only as far as to know for which name it is. All of it is hostile.

RFC 8446, 4.1.2 and 5.1; RFC 6066, 3.
"""

from __future__ import annotations

_SERVER_NAME = 0
_ENCRYPTED = {0xFE0D: "an encrypted ClientHello", 0xFFCE: "an encrypted server name"}


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
