"""Sortable 128-bit ids: `run-01KAS3...`, 48 bits of milliseconds and 80 random bits.

The 26 characters are Crockford's base 32, so ids sort by time as text (the layout of ULID).
"""

from __future__ import annotations

import os
import re
import time
from typing import Literal

Kind = Literal["run", "node", "exec", "vm", "snap", "sess", "event"]

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_ID = re.compile(r"(run|node|exec|vm|snap|sess|event)-[0-7][0-9A-HJKMNP-TV-Z]{25}")


def new_id(kind: Kind) -> str:
    """A fresh id of `kind`; unguessable, and later ids sort after earlier ones."""
    value = (time.time_ns() // 1_000_000 << 80) | int.from_bytes(os.urandom(10), "big")
    digits = [_ALPHABET[(value >> shift) & 31] for shift in range(125, -5, -5)]
    return f"{kind}-{''.join(digits)}"


def is_id(text: str) -> bool:
    """Whether `text` has the form of an id."""
    return _ID.fullmatch(text) is not None
