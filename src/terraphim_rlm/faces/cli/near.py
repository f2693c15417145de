"""Words that a mistyped one may have meant."""

from __future__ import annotations

from collections.abc import Iterable

MOST = 2
"""Edits that a slip of the fingers takes at most: an insertion, deletion, exchange or swap of neighbours."""

_SAME = (
    ("destroy", "forget", "remove", "rm", "delete", "del", "kill", "end", "close"),
    ("new", "create", "make", "add", "open", "begin"),
    ("list", "ls", "ps"),
    ("show", "info", "status", "inspect"),
    ("restore", "rollback", "revert", "undo"),
)
"""Words of one meaning, from here and from other programs."""


def meant(word: str, known: Iterable[str]) -> list[str]:
    """Those of `known` that mean the same as `word`, else those near it."""
    there = list(known)
    same = [each for words in _SAME if word.lower() in words for each in words if each in there]
    return same or near(word, there)


def near(word: str, known: Iterable[str]) -> list[str]:
    """Those of `known` within `MOST` edits of `word`, the nearest first."""
    if len(word) > 40:
        return []
    found = sorted((distance(word.lower(), each), each) for each in known)
    return [each for edits, each in found if edits <= MOST and edits < len(each)]


def distance(one: str, other: str) -> int:
    """Edits between two words (optimal string alignment: no part is edited twice)."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        older, before = before, row
        row = [i]
        for j, b in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
    return row[-1]
