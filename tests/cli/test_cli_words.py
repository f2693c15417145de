"""Foreign text and figures on a terminal."""

from __future__ import annotations

import json

import pytest

from terraphim_rlm.core.values import Usage
from terraphim_rlm.faces.cli import words
from terraphim_rlm.faces.cli.near import distance, near
from terraphim_rlm.faces.cli.out import as_json

HOSTILE = [
    "\x1b]0;title\x07", "\x1b[2J", "\x1b[1;1H", "\x9b2J", "\x08", "\x7f", "\rfake", "\u202e", "\x1bP$q\x1b\\", "\udc80",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_steers_a_terminal_survives(text: str) -> None:
    shown = words.clean(f"a{text}b")
    assert all(ord(letter) >= 32 and not 0x7F <= ord(letter) <= 0x9F for letter in shown)
    assert "\u202e" not in shown
    shown.encode()


@pytest.mark.parametrize("text", [*HOSTILE, "\u2028"])
def test_json_output_has_no_raw_control_character_and_reads_back_the_same(text: str) -> None:
    printed = as_json({"text": text})
    assert all(ord(letter) >= 32 and not 0x7F <= ord(letter) <= 0x9F for letter in printed)
    assert json.loads(printed.encode("utf-8", "backslashreplace")) == {"text": text}


def test_colours_go_and_text_newlines_and_tabs_stay() -> None:
    assert words.clean("\x1b[31mred\x1b[0m\n\tü 漢") == "red\n\tü 漢"


def test_a_carriage_return_stays_only_where_it_is_asked_for() -> None:
    assert words.clean("1\r2") == "1\\x0d2"
    assert words.clean("1\r2", keep_returns=True) == "1\r2"


def test_a_long_text_is_cut_to_one_line_with_a_mark() -> None:
    assert words.one_line("a\n b\t c", 10) == "a b c"
    assert words.one_line("x" * 50, 10) == "xxxxxxxxx…"


@pytest.mark.parametrize(
    ("microdollars", "shown"), [(0, "$0"), (2_100, "$0.0021"), (1_300_000, "$1.30"), (7, "$0.000007"), (10_000, "$0.01")]
)  # fmt: skip
def test_small_money_keeps_the_digits_that_count(microdollars: int, shown: str) -> None:
    assert words.dollars(microdollars) == shown


def test_money_is_named_only_where_it_is_known() -> None:
    usage = Usage(tokens_in=1000, tokens_out=24, calls=1)
    assert words.spent(usage) == ["1,024 tokens (1,000 in, 24 out)", "1 call"]
    assert words.spent(usage, free=True)[0] == "$0"
    assert words.spent(Usage(microdollars=5, estimated=True))[:2] == [
        "$0.000005",
        "about 0 tokens (0 in, 0 out)",
    ]


@pytest.mark.parametrize(
    ("one", "other", "edits"),
    [("ask", "ask", 0), ("aks", "ask", 1), ("as", "ask", 1), ("doktor", "doctor", 1), ("", "ask", 3), ("kitten", "sitting", 3)],
)  # fmt: skip
def test_edits_count_insertions_deletions_exchanges_and_swaps(one: str, other: str, edits: int) -> None:
    assert distance(one, other) == edits


def test_only_words_within_two_edits_are_suggested_the_nearest_first() -> None:
    known = ["ask", "exec", "models", "doctor", "runs"]
    assert near("doctr", known) == ["doctor"]
    assert near("run", known) == ["runs"]
    assert near("frobnicate", known) == []
    assert near("a" * 10_000, known) == []


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.04, "0.0 s"),
        (12.4, "12 s"),
        (200, "3 min 20 s"),
        (float("nan"), "? s"),
        (float("inf"), "? s"),
        (-1, "? s"),
    ],
)
def test_durations_are_short_and_absurd_ones_are_not_believed(value: float, shown: str) -> None:
    assert words.seconds(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(80_000, "80,000"), (0.5, "0.5"), (100.0, "100"), (1e400, "inf")]
)
def test_numbers_are_shown_without_needless_digits(value: float, shown: str) -> None:
    assert words.number(value) == shown
