"""Where the terms of a thesaurus are in a text: one automaton, compiled once.

Matches are leftmost-longest among those that begin and end where words do, whatever the case, and whatever white space
is between two words of a term. The automaton itself knows nothing of words: text and terms are cut into pieces (words,
runs of signs, white space), and the pieces are joined by a mark, so that a term can only match whole pieces. Filtering
an ordinary leftmost-longest search afterwards would lose matches: the longest at a place may fail, and hide a shorter.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

_MARK = "\0"
_LONE = re.compile("[\ud800-\udfff]")
"""Surrogates, which UTF-8 and so the automaton cannot have."""
_PLAIN = re.compile(r"\w+|\s+|[^\w\s]+")
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Scripts without spaces between words (Thai to Khmer, kana, ideographs): each character is a piece."""


@dataclass(frozen=True, slots=True)
class Match:
    """A term at a place; `start` and `end` count characters of the text as it was given."""

    term: str
    """As it stands in the thesaurus."""
    index: int
    """Of the term in what the matcher was made of."""
    start: int
    end: int


class Matcher:
    """Finds terms. Making it takes time linear in the terms' length; so does searching in the text's.

    Args:
        terms: any; those without a letter or a digit, with a NUL or a lone surrogate are never found. Of terms that differ only by case or white space
            the first is.
    """

    def __init__(self, terms: Iterable[str]) -> None:
        self.terms: tuple[str, ...] = tuple(terms)
        self._indexes: list[int] = []
        patterns: list[str] = []
        known: set[str] = set()
        for index, term in enumerate(self.terms):
            for form in _forms(term):
                pattern = _pattern(form)
                if pattern is not None and pattern not in known:
                    known.add(pattern)
                    patterns.append(pattern)
                    self._indexes.append(index)
        self._automaton = _compiled(patterns) if patterns else None

    def find(self, text: str) -> list[Match]:
        """All matches, in order; none overlaps another."""
        if self._automaton is None or not text:
            return []
        pieces = _pieces(text)
        joined = _joined(pieces)
        folded = joined.casefold()
        found = self._automaton.find_matches_as_indexes(_LONE.sub("\ufffd", folded))
        if not found:
            return []
        if len(folded) != len(joined):
            found = list(_unfolded(joined, found))
        return [
            Match(self.terms[self._indexes[which]], self._indexes[which], start, end)
            for which, start, end in _placed(pieces, joined, found)
        ]


def key(term: str) -> str:
    """What two terms that a matcher cannot tell apart have in common."""
    return " ".join(unicodedata.normalize("NFC", term).casefold().split())


def _compiled(patterns: Sequence[str]):  # type: ignore[no-untyped-def]
    from ahocorasick_rs import AhoCorasick, MatchKind

    return AhoCorasick(patterns, matchkind=MatchKind.LeftmostLongest, store_patterns=False)


def _forms(term: str) -> set[str] | tuple[str]:
    """A term as it may be written: accents may be characters of their own or not."""
    if term.isascii():
        return (term,)
    return {term, unicodedata.normalize("NFC", term), unicodedata.normalize("NFD", term)}


def _pattern(term: str) -> str | None:
    """What stands for a term in the automaton: marked at each edge that is a word's."""
    pieces = _pieces(term.strip())
    if _MARK in term or _LONE.search(term) or not any(_is_word(piece) for piece in pieces):
        return None
    before = _MARK if _is_word(pieces[0]) else ""
    after = _MARK if _is_word(pieces[-1]) else ""
    middle = _MARK.join(" " if piece.isspace() else piece for piece in pieces)
    return f"{before}{middle}{after}".casefold()


def _is_word(piece: str) -> bool:
    return piece[0].isalnum() or piece[0] == "_"


def _pieces(text: str) -> list[str]:
    """Words, runs of signs, white space. Joined they are the text again."""
    if text.isascii():
        return _PLAIN.findall(text)
    marks = "".join(sorted(sign for sign in set(text) if unicodedata.category(sign)[0] == "M"))
    return _expression(marks).findall(text)


@lru_cache(maxsize=64)
def _expression(marks: str) -> re.Pattern[str]:
    """For a text with these combining marks, which belong to the word that they stand in."""
    word = f"[^\\W{_UNSPACED}]"
    inside = f"(?:{word}|[{re.escape(marks)}])" if marks else word
    return re.compile(f"[{_UNSPACED}]|{inside}+|\\s+|[^\\w\\s{re.escape(marks)}]+|.", re.DOTALL)


def _joined(pieces: Sequence[str]) -> str:
    parts = ["", *[" " if piece.isspace() else piece for piece in pieces], ""]
    return _MARK.join(parts)


def _placed(
    pieces: Sequence[str], joined: str, found: Iterable[tuple[int, int, int]]
) -> Iterator[tuple[int, int, int]]:
    """From places among the joined pieces to places in the text."""
    widths = (len(_MARK) + (1 if piece.isspace() else len(piece)) for piece in pieces)
    starts = list(accumulate(widths, initial=len(_MARK)))  # of each piece among the joined
    origins = [0, *accumulate(map(len, pieces))]
    for which, start, end in found:
        low = start + (joined[start] == _MARK)
        high = end - (joined[end - 1] == _MARK)
        first, last = bisect_right(starts, low) - 1, bisect_right(starts, high - 1) - 1
        yield which, origins[first] + low - starts[first], origins[last] + high - starts[last]


def _unfolded(joined: str, found: Iterable[tuple[int, int, int]]) -> Iterator[tuple[int, int, int]]:
    """From places in what case folding made longer to places before; what begins or ends inside a character is none."""
    places: list[int] = []
    for place, character in enumerate(joined):
        width = len(character.casefold())
        places.append(place)
        places.extend([-1] * (width - 1))
    places.append(len(joined))
    for which, start, end in found:
        if places[start] >= 0 and places[end] >= 0:
            yield which, places[start], places[end]
