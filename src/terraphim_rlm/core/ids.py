"""Sortable 128-bit ids: `run-01KAS3...`, 48 bits of milliseconds and 80 random bits.

The 26 characters are Crockford's base 32, so ids sort by time as text (the layout of ULID).
"""

from __future__ import annotations

import os
import threading
import time
from typing import Literal

Kind = Literal["run", "node", "exec", "vm", "snap", "sess", "event"]

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [high + low for high in _ALPHABET for low in _ALPHABET]


class _Random:
    """The kernel's random bytes, fetched 4096 at a time: one call costs as much as a whole event."""

    def __init__(self) -> None:
        self._pid = 0
        self._bytes = b""
        self._next = 0
        self._lock = threading.Lock()

    def take(self, count: int) -> bytes:
        with self._lock:
            end = self._next + count
            if end > len(self._bytes) or self._pid != os.getpid():  # a fork must not repeat its parent's
                self._pid, self._bytes, end = os.getpid(), os.urandom(4096), count
            self._next = end
            return self._bytes[end - count : end]


_RANDOM = _Random()


def new_id(kind: Kind) -> str:
    """A fresh id of `kind`; unguessable, and later ids sort after earlier ones."""
    value = (time.time_ns() // 1_000_000 << 80) | int.from_bytes(_RANDOM.take(10), "big")
    return f"{kind}-{''.join([_PAIRS[(value >> shift) & 1023] for shift in range(120, -10, -10)])}"
