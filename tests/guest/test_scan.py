"""Scans of the guest against the plain way to say the same."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from terraphim_rlm.guest import scan
from terraphim_rlm.guest.records import Records

PATTERNS = [
    b"needle", b"ne+dle", b"one|two", b"^ab", b"ab$", b"a.c", b"(ab)+c", b"(?:ab|cd)e", b"ab?c", b"[a-c]+d", b"x*",
    b"", b"\\bab\\b", b"ab\\s+cd", b"(?i)AB", b"ab(?=c)", b"a{2,3}b", b"ab|", b"(?P<n>ab)(?P=n)", b"\\xff\\xfe", b"ab.*?cd",
]  # fmt: skip
TEXTS = st.lists(
    st.sampled_from(
        [b"ab", b"AB", b"c", b"cd", b"e", b"needle", b"one", b"two", b" ", b"\n", b"\n\n", b"\r", b"\xff\xfe", b"aab", b"x"]
    ),
    max_size=60,
).map(b"".join)  # fmt: skip


@pytest.fixture(params=[7, 64, 1 << 20])
def _block(request: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(scan, "BLOCK", request.param)


def lines_of(data: bytes) -> list[bytes]:
    rows = data.split(b"\n")
    return rows[:-1] if rows[-1] == b"" else rows


@pytest.mark.usefixtures("_block")
@pytest.mark.parametrize("ignore", [False, True])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_lines_found_are_those_in_which_the_expression_is_found(pattern: bytes, ignore: bool) -> None:
    lines = scan.Lines(pattern, ignore)
    expression = re.compile(pattern, re.IGNORECASE if ignore else 0)

    @settings(max_examples=60, deadline=None)
    @given(TEXTS)
    def check(data: bytes) -> None:
        found = [
            data[low + start : low + end]
            for low, block in scan.line_blocks(memoryview(data))
            for start, end in lines.spans(block)
        ]
        wanted = [line for line in lines_of(data) if expression.search(line)]
        assert found == wanted
        assert sum(lines.count(block) for _, block in scan.line_blocks(memoryview(data))) == len(wanted)

    check()


def test_without_memmem_the_same_is_found(monkeypatch: Any) -> None:
    assert scan.has(b"abc", b"bc")
    assert not scan.has(b"abc", b"cb")
    monkeypatch.setattr(scan, "_chosen", [scan._no_library])
    assert scan.has(b"a\0bc", b"\0b")
    assert not scan.has(b"abc", b"cb")


def test_dense_matches_are_counted_as_rare_ones_are(monkeypatch: Any) -> None:
    data = b"ab\nAB cd\n\nxabx" * 5_000
    for pattern in (b"ab", b"ab|cd", b"ab *cd", b"(?i)ab$"):
        lines = scan.Lines(pattern, False)
        monkeypatch.setattr(scan, "_FEW", 2_000)
        dense = lines.count(data)
        monkeypatch.setattr(scan, "_FEW", 10**9)
        assert dense == lines.count(data) == sum(1 for line in lines_of(data) if re.search(pattern, line))


@pytest.mark.usefixtures("_block")
@settings(max_examples=200, deadline=None)
@given(TEXTS, st.sampled_from([b"ab", b"aa", b"\n", b"needle", b"one\ntwo", b"a"]), st.integers(0, 40))
def test_find_and_count_are_those_of_bytes(data: bytes, needle: bytes, start: int) -> None:
    assert scan.find(memoryview(data), needle, start) == data.find(needle, start)
    assert scan.count(memoryview(data), needle) == data.count(needle)
    assert scan.newlines(memoryview(data), 0, len(data)) == data.count(b"\n")


@pytest.mark.usefixtures("_block")
@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_blocks_of_lines_put_together_are_the_text_and_each_ends_with_its_line(data: bytes) -> None:
    blocks = list(scan.line_blocks(memoryview(data)))
    assert b"".join(block for _, block in blocks) == data
    assert [low for low, _ in blocks] == [sum(len(b) for _, b in blocks[:n]) for n in range(len(blocks))]
    assert all(block.endswith(b"\n") for _, block in blocks[:-1])


@pytest.mark.usefixtures("_block")
@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["1", '"two"', "[3]", "", " ", "\t\r"]), max_size=40), st.booleans())
def test_records_are_the_lines_that_are_not_blank(rows: list[str], ends: bool) -> None:
    import json

    data = ("\n".join(rows) + ("\n" if ends and rows else "")).encode()
    wanted = [json.loads(row) for row in rows if row.strip()]
    records = Records(memoryview(data), "r")
    assert len(records) == len(wanted)
    assert list(records) == wanted
    assert [records[i] for i in range(len(records))] == wanted
    assert records[-3:] == wanted[-3:]
