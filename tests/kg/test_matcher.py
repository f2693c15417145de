"""Where terms are in a text: a table, and a plain search that is slow and obviously right."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from terraphim_rlm.guard.kg.matcher import Matcher, key

TERMS = (
    "rm", "rm -r", "nc", "mat a", "a disk", "knowledge graph", "c++", "straße", "ss", "İzmir", "知识", "é", "\u03b9", "-rf", "foo_bar",
)  # fmt: skip

CASES = [
    ("format a disk", [("a disk", 7, 13)], "not inside a word, and the failed longer match hides nothing"),
    ("rm -rf x", [("rm", 0, 2), ("-rf", 3, 6)], "the longest match at a place may end inside a word"),
    ("RM\t -RF", [("rm", 0, 2), ("-rf", 4, 7)], "whatever the case"),
    ("rm  -r", [("rm -r", 0, 6)], "whatever the white space between words"),
    ("Knowledge\n   Graph", [("knowledge graph", 0, 18)], "across the lines of a paragraph"),
    ("a function", [], "a short term within a word"),
    ("c++ c++x", [("c++", 0, 3), ("c++", 4, 7)], "an edge that is no letter has no word to end"),
    ("STRASSE ß Straße", [("straße", 0, 7), ("ss", 8, 9), ("straße", 10, 16)], "folding makes text longer"),
    ("xİzmir İzmir", [("İzmir", 7, 12)], "places after a character that folding makes longer"),
    ("我的知识图谱", [("知识", 2, 4)], "scripts that do not part words"),
    ("é e\u0301 É", [("é", 0, 1), ("é", 2, 4), ("é", 5, 6)], "accents may be characters of their own"),
    ("ΐ", [], "half of a character is none"),
    ("r\u0301m rm\u0301", [], "an accent belongs to its word"),
    ("FOO_BAR foo_barx", [("foo_bar", 0, 7)], "an underscore is part of a word"),
    ("\0rm\0", [("rm", 1, 3)], "the mark itself may stand in a text"),
    ("", [], "nothing"),
]


@pytest.mark.parametrize(("text", "expected", "why"), CASES, ids=[case[2] for case in CASES])
def test_a_term_is_found_where_words_begin_and_end(
    text: str, expected: list[tuple[str, int, int]], why: str
) -> None:
    matcher = Matcher(TERMS)
    assert [(match.term, match.start, match.end) for match in matcher.find(text)] == expected, why


def test_of_terms_that_differ_by_case_alone_the_first_is_found_and_a_term_without_letters_never() -> None:
    matcher = Matcher(["Graph", "graph", "GRAPH", "--", ""])
    assert [(match.term, match.index) for match in matcher.find("graph -- GRAPH")] == [
        ("Graph", 0),
        ("Graph", 0),
    ]


ALPHABET = [
    "a",
    "b",
    "B",
    "ab",
    "ss",
    "ß",
    "İ",
    "é",
    "e\u0301",
    " ",
    "  ",
    "\n",
    "-",
    "_",
    "0",
    "知",
    "\0",
    "ﬁ",
    "\ud800",
]
texts = st.lists(st.sampled_from(ALPHABET), max_size=30).map("".join)
some_terms = st.lists(
    st.lists(st.sampled_from(ALPHABET[:17]), min_size=1, max_size=4).map("".join), max_size=6
)


@settings(database=None, deadline=None)
@given(some_terms, texts)
def test_a_match_is_its_term_at_its_place_and_none_overlaps_another(terms: list[str], text: str) -> None:
    end = 0
    for match in Matcher(terms).find(text):
        assert end <= match.start < match.end <= len(text)
        assert match.term == terms[match.index]
        assert key(text[match.start : match.end]) == key(match.term)
        end = match.end


def plainly(terms: list[str], text: str) -> list[tuple[int, int]]:
    """Leftmost-longest over plain words: every term tried at every place."""
    places = []
    at = 0
    while at < len(text):
        ends = []
        for term in terms:
            words = r"\s+".join(map(re.escape, term.split()))
            match = re.compile(rf"(?<!\w){words}(?!\w)", re.IGNORECASE).match(text, at)
            if term.split() and match is not None:
                ends.append(match.end())
        if ends:
            places.append((at, max(ends)))
        at = max(ends, default=at + 1)
    return places


plain_terms = st.lists(st.text("abc ", min_size=1, max_size=6), max_size=6)


@settings(database=None, deadline=None)
@given(plain_terms, st.text("abcABC \n", max_size=60))
def test_the_automaton_finds_what_a_plain_search_finds(terms: list[str], text: str) -> None:
    assert [(match.start, match.end) for match in Matcher(terms).find(text)] == plainly(terms, text)


@settings(database=None, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_searched_and_each_place_is_one_of_its_own(text: str) -> None:
    for match in Matcher(TERMS).find(text):
        found = unicodedata.normalize("NFC", text[match.start : match.end]).casefold()
        assert " ".join(found.split()) == key(match.term)
