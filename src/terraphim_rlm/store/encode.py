"""Events as rows of the journal, and back.

Data is JSON, whatever it was given: what is not JSON is stored as its repr, and text of hostile shape
(lone surrogates, NaN, endless nesting, giant numbers) never stops the journal.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from typing import Any, NamedTuple

from terraphim_rlm.core.errors import JournalCorrupt
from terraphim_rlm.core.events import Event
from terraphim_rlm.core.values import to_json

BLOB_BYTES = 65_536
"""A field of an event's data longer than this goes to a blob."""
_MAX_NESTING = 100
_MAX_DIGITS_BITS = 4096


class Row(NamedTuple):
    """The columns of `events`, `n` apart, in order."""

    id: str
    run: str
    node: str
    parent: str | None
    seq: int
    time: float
    type: str
    data: str
    blobs: str | None
    crc: int


def encode(event: Event, put: Callable[[bytes], str]) -> tuple[Row, str]:
    """The event's row, and its data as JSON before long fields went to blobs by `put`.

    Raises:
        OSError: a blob could not be written.
    """
    whole = _dumps(event.data)
    data, blobs = whole, None
    if len(whole) > BLOB_BYTES // 4:  # characters; at most 4 bytes each
        data, blobs = _spill(event.data, whole, put)
    head = (
        event.id,
        event.run,
        event.node,
        event.parent,
        event.seq,
        float(event.time),
        event.type,
        data,
        blobs,
    )
    return Row(*head, crc=_crc(head)), whole


def decode(row: Row, get: Callable[[str], bytes] | None = None) -> dict[str, Any]:
    """The event as `Event.to_json` gives it; long fields are fetched by `get`, or described without it.

    Raises:
        JournalCorrupt: the row is not what was written.
    """
    if _crc(row[:-1]) != row.crc:
        raise JournalCorrupt(
            f"Event {row.seq} of {row.run} is damaged in the journal.",
            fix="Run `trlm doctor`; restore the journal from a backup if you need this run.",
            run=row.run,
            seq=row.seq,
        )
    data = json.loads(row.data)
    for name, blob in json.loads(row.blobs or "{}").items():
        if get is None:
            data[name] = {"blob": blob["sha256"], "bytes": blob["bytes"]}
        else:
            data[name] = _READ[blob["kind"]](get(blob["sha256"]))
    event = row._asdict()
    del event["blobs"], event["crc"]
    event["data"] = data
    return event


def _spill(data: Mapping[str, Any], whole: str, put: Callable[[bytes], str]) -> tuple[str, str | None]:
    kept: dict[str, Any] = {}
    blobs: dict[str, Any] = {}
    for name, value in json.loads(whole).items():
        original = data.get(name)
        if isinstance(original, (bytes, bytearray)):
            kind, raw = "bytes", bytes(original)
        elif isinstance(value, str) and _encodes(value):
            kind, raw = "text", value.encode()
        else:
            kind, raw = "json", _dumps(value).encode()
        if len(raw) > BLOB_BYTES:
            blobs[name] = {"sha256": put(raw), "bytes": len(raw), "kind": kind}
            kept[name] = None
        else:
            kept[name] = value
    return _dumps(kept), _dumps(blobs) if blobs else None


_READ: dict[str, Callable[[bytes], Any]] = {
    "bytes": lambda raw: base64.b64encode(raw).decode(),
    "text": lambda raw: raw.decode(),
    "json": json.loads,
}


def _dumps(value: Any) -> str:
    """Strict JSON that SQLite can hold as text."""
    try:
        text = json.dumps(value, default=_other, allow_nan=False, ensure_ascii=False)
    except (ValueError, TypeError, RecursionError):
        text = json.dumps(_tamed(value), allow_nan=False, ensure_ascii=False)
    if _encodes(text):
        return text
    return json.dumps(json.loads(text), allow_nan=False)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate; escaped, JSON can still say it
        return False
    return True


def _other(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping) or (is_dataclass(value) and not isinstance(value, type)):
        return to_json(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=_name)
    return _name(value)


def _tamed(value: Any, depth: int = 0) -> Any:
    """`value` with everything that JSON refuses replaced by text."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return value if value.bit_length() <= _MAX_DIGITS_BITS else hex(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth >= _MAX_NESTING:
        return "..."
    if isinstance(value, Mapping):
        return {str(key): _tamed(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_tamed(item, depth + 1) for item in value]
    try:
        return _tamed(_other(value), depth + 1)
    except (ValueError, TypeError, RecursionError):
        return _name(value)


def _name(value: Any) -> str:
    """A bounded repr that a hostile `__repr__` cannot break."""
    try:
        return repr(value)[:10_000]
    except Exception as error:
        return f"<{type(value).__name__}: repr raised {type(error).__name__}>"


def _crc(columns: tuple[Any, ...]) -> int:
    return zlib.crc32("\x1f".join(map(str, columns)).encode("utf-8", "surrogatepass"))
