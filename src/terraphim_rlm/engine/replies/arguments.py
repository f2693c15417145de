"""The arguments of a command word: where they end, and what they say."""

from __future__ import annotations

import ast
import json
import math
import re
from typing import Any

from terraphim_rlm.engine.replies.text import Lines

MAX_VALUE = 100_000
"""Characters of the longest argument that is read as a value; longer ones are text."""
_TOKEN = re.compile(r"\\.|\"\"\"|'''|[\"'()]", re.DOTALL)
_STRING_END = {
    '"': re.compile(r'(?:[^"\\]++|\\.)*+"', re.DOTALL),
    "'": re.compile(r"(?:[^'\\]++|\\.)*+'", re.DOTALL),
    # Not possessive outside: before 3.11.5 that is broken around a lookahead. The first quotation mark decides anyway.
    '"""': re.compile(r'(?:[^"\\]++|\\.|"(?!""))*"""', re.DOTALL),
    "'''": re.compile(r"(?:[^'\\]++|\\.|'(?!''))*'''", re.DOTALL),
}
_QUOTE = re.compile(r"\s*(?P<raw>[rR]?)(?P<mark>\"\"\"|'''|[\"'])")
_ESCAPE = re.compile(r"\\(?:([nrtbf\\\"'/])|(\r?\n)|u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|U([0-9a-fA-F]{8}))")
_SIMPLE = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}
_KEYWORDS = re.compile(r",\s*+(?:[A-Za-z_]\w*+\s*+=|$)")
_PYTHON_WORDS = {"True", "False", "None"}


def closing(lines: Lines, opened: int, stop: int, *, quotes: bool) -> int:
    """Offset of the parenthesis that closes the one at `opened`; -1 when none does before `stop`.

    With `quotes`, parentheses inside quoted text do not count. A quotation mark opens only where the same
    mark follows on its line, so that `it's` alone opens nothing.
    """
    text, depth, position = lines.text, 0, opened
    missing: set[str] = set()
    while found := _TOKEN.search(text, position, stop):
        mark, position = found[0], found.end()
        if mark == "(":
            depth += 1
        elif mark == ")":
            depth -= 1
            if not depth:
                return found.start()
        elif quotes and mark[0] in "\"'":
            position = _after_string(lines, found.start(), mark, stop, missing)
    return -1


def _after_string(lines: Lines, start: int, mark: str, stop: int, missing: set[str]) -> int:
    """Offset after the string that opens at `start`, or after `mark` when it opens none."""
    text, after = lines.text, start + len(mark)
    if mark in missing:
        return after
    end = stop if len(mark) == 3 else min(lines.at(start).end, stop)
    if found := _STRING_END[mark].match(text, after, end):
        return found.end()
    if len(mark) == 3:
        missing.add(mark)
    return after


def decoded(text: str) -> str:
    """`text` with the escapes of a string literal resolved; unknown ones stay as they are."""
    return _ESCAPE.sub(_unescape, text) if "\\" in text else text


def _unescape(found: re.Match[str]) -> str:
    simple, newline, *numbers = found.groups()
    if simple:
        return _SIMPLE.get(simple, simple)
    if newline:
        return ""
    code = int(next(digits for digits in numbers if digits), 16)
    return chr(code) if code <= 0x10FFFF else found[0]


def literal_end(text: str, position: int, stop: int) -> int:
    """Offset after the string literal that begins at `position` (white space before it allowed); -1 when none does."""
    quote = _QUOTE.match(text, position, stop)
    found = quote and _STRING_END[quote["mark"]].match(text, quote.end(), stop)
    return found.end() if found else -1


def literal(argument: str) -> tuple[str, bool] | None:
    """What `argument` says when it is one string literal, and whether keyword arguments follow it; else None."""
    end = literal_end(argument, 0, len(argument))
    if end < 0:
        return None
    rest = argument[end:].strip()
    if rest and not _KEYWORDS.match(rest):
        return None
    quote = _QUOTE.match(argument)
    assert quote is not None  # literal_end has matched it
    inner = argument[quote.end() : end - len(quote["mark"])]
    return (inner if quote["raw"] else decoded(inner)), bool(rest)


def value(argument: str) -> Any:
    """The JSON value that an argument spells (Python's spelling of it too), else its text, unquoted."""
    argument = argument.strip()
    if found_text := literal(argument):
        return found_text[0]
    found = structure(argument)
    return argument if found is None and argument not in ("null", "None") else found


def structure(argument: str) -> Any:
    """Number, true, false, list or object that `argument` spells as JSON or Python; None when it spells none."""
    if len(argument) > MAX_VALUE:
        return None
    try:
        return _plain(json.loads(argument, parse_constant=_refuse, strict=False))
    except (ValueError, RecursionError):
        pass
    if argument[:1] not in "[{(" and argument not in _PYTHON_WORDS:
        return None
    try:
        return _plain(ast.literal_eval(argument))
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _plain(value: Any) -> Any:
    """`value` if it is JSON (tuples become lists); ValueError when it is not."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("a key is not a text")
        return {key: _plain(item) for key, item in value.items()}
    if (
        value is None
        or isinstance(value, (bool, int, str))
        or (isinstance(value, float) and math.isfinite(value))
    ):
        return value
    raise ValueError(f"{type(value).__name__} is not JSON")
