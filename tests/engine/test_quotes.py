"""What cells cite is read from the host's own copy of the input, whatever a cell says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from terraphim_rlm.engine.checks import evidence, supports
from terraphim_rlm.engine.context import make_context

TEXT = "first line\nwhat is sought, ünd more\nlast"


def found(spans: list[Any], context: Any = TEXT) -> list[tuple[str, int, int, int, str]]:
    held = make_context(context)
    try:
        return [(e.path, e.start, e.end, e.line, e.quote) for e in evidence(held, spans)]
    finally:
        held.close()


@pytest.mark.parametrize(
    "span",
    [
        ("", -1, 5), ("", 5, 2), ("", 0, 10**9), ("", 10**9, 10**9 + 1), ("", 3, 3), ("no such file", 0, 5),
        ("../input", 0, 5), ("", -(10**18), 10**18),
    ],
)  # fmt: skip
def test_a_span_that_is_not_there_is_no_evidence(span: tuple[str, int, int]) -> None:
    assert found([span]) == []


def test_a_span_is_given_with_the_bytes_and_the_line_that_the_host_finds() -> None:
    start = TEXT.encode().index(b"sought")
    assert found([("", start, start + 6)]) == [("input", start, start + 6, 2, "sought")]
    assert found([("", start, start + 6)] * 5) == [("input", start, start + 6, 2, "sought")]


def test_a_span_that_cuts_a_character_shows_its_bytes() -> None:
    start = TEXT.encode().index("ü".encode())
    assert found([("", start, start + 1)])[0][4] == "\\xc3"


def test_each_file_of_a_folder_has_its_own_offsets(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("alpha")
    (tmp_path / "b.txt").write_text("one\nbeta")
    held = make_context(tmp_path)
    names = {Path(span.path).name: span.path for span in held.spans}
    cited = evidence(held, [(names["b.txt"], 4, 8), (names["a.txt"], 0, 9)])
    held.close()
    assert [(each.path, each.line, each.quote) for each in cited] == [(names["b.txt"], 2, "beta")]


def test_evidence_is_bounded_in_number_and_length() -> None:
    many = found([("", n, n + 1) for n in range(1_000)], "x" * 5_000)
    assert len(many) == 100
    ((_, start, end, _, quote),) = found([("", 0, 5_000)], "x" * 5_000)
    assert (end - start, len(quote)) == (2_000, 2_000)


@pytest.mark.parametrize(
    ("answer", "holds"),
    [
        ("sought", True),
        ("SOUGHT,  ünd", True),
        ("sought\nünd", False),
        ("", False),
        (" ", False),
        ("sough t", False),
    ],
)
def test_an_answer_is_supported_only_word_for_word(answer: str, holds: bool) -> None:
    held = make_context(TEXT)
    assert supports(answer, evidence(held, [("", 0, len(TEXT.encode()))])) is holds
    held.close()


def test_without_an_input_nothing_is_evidence() -> None:
    assert evidence(None, [("", 0, 5)]) == ()
