"""What eyes do not see in code: characters that turn or hide text, look-alikes, encodings; and a search by words."""

from __future__ import annotations

import re
import unicodedata

from terraphim_rlm.guard.safety.notes import Notes
from terraphim_rlm.guard.safety.rules import rule_set

_COOKIE = re.compile(r"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
_TRANSPARENT = re.compile(r"utf-?8(-sig)?|(us-)?ascii|latin-?1|iso-?8859-?1?\d?|l1|cp125\d", re.IGNORECASE)
"""Encodings in which a byte of ASCII always means itself: nothing can be hidden from a reader of ASCII."""
_ODD = re.compile(r"[^\x09\x0a\x0c\x0d\x20-\x7e]")


def look(code: str, notes: Notes) -> None:
    """Characters and look-alikes in any language, and in Python its declared encoding."""
    if notes.language == "python":
        _cookie(code, notes)
    if code.isascii() and _ODD.search(code) is None and "\r" not in code:
        return
    for rule in rule_set().texts("text", notes.language):
        assert rule.regex is not None
        for count, found in enumerate(rule.regex.finditer(code)):
            if count == 20:
                break
            notes.find(rule, found.span())


def _cookie(code: str, notes: Notes) -> None:
    start = 0
    for _ in range(2):
        end = code.find("\n", start)
        line = code[start : len(code) if end < 0 else end]
        found = _COOKIE.match(line[:400])
        if found is not None:
            if _TRANSPARENT.fullmatch(found[1]) is None:
                notes.note("cookie", "coding", (start, start + len(line)))
            return
        if end < 0 or (line.strip() and not line.lstrip().startswith("#")):
            return
        start = end + 1


def lexical(code: str, notes: Notes) -> None:
    """Words of harm in text that could not be parsed. Spans count the text as it was given."""
    plain = code if code.isascii() else _normal(code)
    for rule in rule_set().texts("lexical", notes.language):
        assert rule.regex is not None
        for count, found in enumerate(rule.regex.finditer(plain)):
            if count == 20:
                break
            notes.find(rule, found.span())


def _normal(code: str) -> str:
    """NFKC by character, where that keeps the length, so that places stay what they are."""
    return "".join(
        folded if len(folded := unicodedata.normalize("NFKC", each)) == 1 else each for each in code
    )
