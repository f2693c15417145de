"""Names asked for inside a sandbox, answered here: nothing of a question ever leaves the machine.

A name that may be reached has the one address of the gateway inside the sandbox, every other one does not exist.
What is behind an allowed name is looked up on the host, when a connection to it is made. RFC 1035, 4.1.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

MOST = 512
_A, _AAAA, _INTERNET = 1, 28, 1
_NO_ERROR, _FORMAT_ERROR, _NO_SUCH_NAME, _REFUSED = 0, 1, 3, 5
_SECONDS = 60
_HEAD = struct.Struct(">6H")


class Question(NamedTuple):
    """What is asked for, and how an answer has to begin."""

    name: str
    kind: int
    number: int
    asked: bytes
    """The question as it came, for the answer."""

    @property
    def wants_address(self) -> bool:
        return self.kind in (_A, _AAAA)


def question(data: bytes) -> Question | None:
    """The one question of a query; None when it is none, and best not answered."""
    if not _HEAD.size < len(data) <= MOST:
        return None
    number, flags, questions, answers, _authorities, _more = _HEAD.unpack_from(data)
    if flags & 0xF800 or questions != 1 or answers:
        return None
    labels, at = [], _HEAD.size
    while (length := data[at]) != 0:
        label = data[at + 1 : at + 1 + length]
        if length > 63 or b"." in label:
            return None
        labels.append(label)
        at += 1 + length
        if at >= len(data):
            return None
    end = at + 5
    if end > len(data):
        return None
    kind, family = struct.unpack_from(">2H", data, at + 1)
    if family != _INTERNET:
        return None
    return Question(b".".join(labels).decode("latin-1"), kind, number, data[_HEAD.size : end])


def _answer(asked: Question, code: int, record: bytes = b"") -> bytes:
    head = _HEAD.pack(asked.number, 0x8580 | code, 1, 1 if record else 0, 0, 0)
    return head + asked.asked + record


def here(asked: Question, address: bytes) -> bytes:
    """The answer for a name that may be reached: `address`, four bytes; nothing of another kind."""
    record = struct.pack(">HHHIH", 0xC00C, _A, _INTERNET, _SECONDS, 4) + address if asked.kind == _A else b""
    return _answer(asked, _NO_ERROR, record)


def nowhere(asked: Question) -> bytes:
    return _answer(asked, _NO_SUCH_NAME)
