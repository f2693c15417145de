"""The two ends of a TLS connection, watched until no further ClientHello can be meant for another name.

A server that wants another key share answers with a HelloRetryRequest, and is then sent a second ClientHello, whose name
it may go by. So what follows the first one is kept back until the server has answered. Any other answer ends the watch:
from then on a ClientHello is an error to both. RFC 8446, 4.1.4.
"""

from __future__ import annotations

import asyncio
from hashlib import sha256

from terraphim_rlm.sandbox.egress.hello import BadHello, server_name
from terraphim_rlm.sandbox.egress.names import Host, Odd, canonical

MOST = 16_384
"""Bytes of a ClientHello."""
MOST_RECORDS = 1_024
"""That a ClientHello comes in, and that may come before the second one: each costs us a step."""
_HEADER = 5
_HANDSHAKE = 22
_BETWEEN = (20, 21, 23)
"""Records that may come before a second ClientHello: change of cipher, alert, early data."""
_CLIENT_HELLO, _SERVER_HELLO = 1, 2
_LONGEST_RECORD = 16_384 + 2048
_RETRY = sha256(b"HelloRetryRequest").digest()
_ANSWER = 4 + 2 + len(_RETRY)
"""Bytes of a server's first message that tell a HelloRetryRequest: its header, a version, its random number."""


class HelloWatch:
    """Fed with what a client sends, and with what its server answers. One event loop."""

    def __init__(self) -> None:
        self._raw = bytearray()
        self._message = bytearray()
        self._records = 0
        self._answer = bytearray()
        self._answered = asyncio.Event()
        self.known = False
        """The name of the first ClientHello is."""
        self.host: Host | None = None
        """For whom it is, once known; None then means that no name was given."""
        self.is_over = False
        """Whatever the client sends from now on need not be looked at."""

    def first(self, data: bytes) -> bytes:
        """Takes further bytes of the client, up to the end of its first ClientHello.

        Returns:
            What is behind that, not looked at.

        Raises:
            BadHello: this is not TLS, or not for one plain name.
        """
        self._raw += data
        while not self.known and (record := self._record()):
            kind, body = record
            if kind != _HANDSHAKE or not body:
                raise BadHello("it is not TLS")
            self._hello(body)
        if not self.known:
            return b""
        rest = bytes(self._raw)
        self._raw.clear()
        self._records = 0
        return rest

    def answered(self, data: bytes) -> None:
        """Takes what the server sends, from its first byte on."""
        if self._answered.is_set():
            return
        self._answer += data
        message, at = bytearray(), 0
        while len(self._answer) >= at + _HEADER and len(message) < _ANSWER:
            kind, length = self._answer[at], int.from_bytes(self._answer[at + 3 : at + _HEADER], "big")
            if kind != _HANDSHAKE or not length:
                break
            message += self._answer[at + _HEADER : at + _HEADER + length]
            at += _HEADER + length
        else:
            if len(message) < _ANSWER and message[:1] in (b"", bytes([_SERVER_HELLO])):
                return  # it goes on
        said = bytes(message[:_ANSWER])
        self.is_over = said[:1] != bytes([_SERVER_HELLO]) or said[6:] != _RETRY
        self._answer.clear()
        self._answered.set()

    async def answer(self) -> None:
        """Waits until it is known whether a second ClientHello will come."""
        await self._answered.wait()

    def second(self, data: bytes) -> None:
        """Takes what the client sends after a HelloRetryRequest. What makes this raise must not be sent on.

        Raises:
            BadHello: the second ClientHello is for another name, or none that is understood.
        """
        self._raw += data
        while not self.is_over and (record := self._record()):
            kind, body = record
            if kind == _HANDSHAKE and body:
                self._hello(body)
            elif kind not in _BETWEEN or self._message:
                raise BadHello("something else comes where its second ClientHello must")

    def _record(self) -> tuple[int, bytes] | None:
        """The next whole one: its kind and its body."""
        if len(self._raw) < _HEADER:
            return None
        kind, length = self._raw[0], int.from_bytes(self._raw[3:_HEADER], "big")
        if self._raw[1] != 3 or kind not in (_HANDSHAKE, *_BETWEEN):
            raise BadHello("it is not TLS")
        if length > _LONGEST_RECORD:
            raise BadHello("its record is too long")
        if len(self._raw) < _HEADER + length:
            return None
        self._records += 1
        if self._records > MOST_RECORDS:
            raise BadHello("its ClientHello comes in too many records")
        body = bytes(self._raw[_HEADER : _HEADER + length])
        del self._raw[: _HEADER + length]
        return kind, body

    def _hello(self, body: bytes) -> None:
        """Takes a further piece of a ClientHello."""
        self._message += body
        if self._message[0] != _CLIENT_HELLO:
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

    def _learn(self, name: str | None) -> None:
        try:
            host = None if name is None else canonical(name)
        except Odd as error:
            raise BadHello(f"its server name is odd: {error}") from None
        if self.known and host != self.host:
            raise BadHello("a second ClientHello has another name")
        self.is_over = self.known
        self.known, self.host = True, host
