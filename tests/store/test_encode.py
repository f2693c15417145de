"""Events as rows: whatever the data is, it is stored, and comes back as it was or is found damaged."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from terraphim_rlm.core.errors import JournalCorrupt
from terraphim_rlm.core.events import Event
from terraphim_rlm.core.values import Usage, to_json
from terraphim_rlm.store.encode import BLOB_BYTES, Row, decode, encode

texts = st.text(st.characters(codec=None))  # lone surrogates and all
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


class Store(dict[str, bytes]):
    def put(self, raw: bytes) -> str:
        name = f"{len(self):064x}"
        self[name] = raw
        return name


def event(data: Mapping[str, Any]) -> Event:
    return Event("cell.finished", "run-1", "node-1", None, 1, 12, data)


def round_trip(data: Mapping[str, Any]) -> dict[str, Any]:
    store = Store()
    row, _ = encode(event(data), store.put)
    for column in row:
        assert not isinstance(column, str) or column.encode()
    found = decode(row, store.__getitem__)["data"]
    assert isinstance(found, dict)
    return found


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(st.dictionaries(texts, plain, max_size=5))
def test_json_comes_back_as_it_was(data: dict[str, Any]) -> None:
    assert round_trip(data) == data


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def nested(levels: int) -> Any:
    value: Any = "deep"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (b"\xff\x00", "/wA="),
        (Usage(calls=1), to_json(Usage(calls=1))),
        ({2, 1}, [1, 2]),
        (MappingProxyType({"a": 1}), {"a": 1}),
        ({(1, 2): 3}, {"(1, 2)": 3}),
        (object, "<class 'object'>"),
        (Rude(), "<Rude: repr raised RuntimeError>"),
        ({"x": {Rude()}}, {"x": ["<Rude: repr raised RuntimeError>"]}),
        (1 << 20_000, hex(1 << 20_000)),
        ("\ud800", "\ud800"),
    ],
    ids=str.split("nan inf bytes dataclass set mapping key class rude rude-inside giant surrogate"),
)
def test_what_json_refuses_is_stored_as_something_readable(value: Any, stored: Any) -> None:
    assert round_trip({"value": value})["value"] == stored


def test_endless_nesting_does_not_stop_the_journal() -> None:
    assert "..." in json.dumps(round_trip({"value": nested(100_000), "keep": 1}))
    loop: list[Any] = []
    loop.append(loop)
    assert round_trip({"loop": loop, "keep": 1})["keep"] == 1


@pytest.mark.parametrize(
    "long",
    ["x" * (BLOB_BYTES + 1), "\u00e9" * BLOB_BYTES, ["y" * 10] * BLOB_BYTES, "\ud800" * BLOB_BYTES],
    ids=["ascii", "accents", "list", "surrogates"],
)
def test_long_fields_go_to_blobs_and_short_ones_stay(long: Any) -> None:
    store = Store()
    row, whole = encode(event({"stdout": long, "status": "ok"}), store.put)
    assert len(store) == 1
    assert len(row.data) < 100
    assert decode(row, store.__getitem__)["data"] == {"stdout": long, "status": "ok"} == json.loads(whole)
    described = decode(row)["data"]["stdout"]
    assert described == {"blob": next(iter(store)), "bytes": len(next(iter(store.values())))}


def test_bytes_keep_their_form_in_a_blob() -> None:
    store = Store()
    encode(event({"stdout": b"\xff" * 70_000}), store.put)
    assert list(store.values()) == [b"\xff" * 70_000]


def test_data_that_looks_like_a_blob_is_only_data() -> None:
    forged = {"blob": "0" * 64, "bytes": 1, "kind": "text"}
    assert round_trip({"value": forged, "blobs": {"value": forged}}) == {
        "value": forged,
        "blobs": {"value": forged},
    }


@pytest.mark.parametrize("column", [name for name in Row._fields if name != "crc"])
def test_a_changed_column_is_found(column: str) -> None:
    row, _ = encode(event({"text": "true"}), Store().put)
    before = getattr(row, column)
    changed = before + 1 if isinstance(before, (int, float)) else f"{before or ''}x"
    with pytest.raises(JournalCorrupt, match="damaged"):
        decode(row._replace(**{column: changed}))
