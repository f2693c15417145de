"""Repairs of Python that cannot be parsed as it stands; each is tried once, and kept only when the result parses."""

# ruff: noqa: RUF001 - these characters are what is repaired

from __future__ import annotations

import html
import json
import re
import textwrap
from collections.abc import Callable

from terraphim_rlm.engine.replies.work import Work

_ASCII = {"“": '"', "”": '"', "„": '"', "‟": '"', "‘": "'", "’": "'", "‚": "'", "‛": "'"}
_CLOSES = {"“": "”", "„": "“”", "‘": "’", "‚": "‘’", "”": "”", "’": "’", "‟": "”", "‛": "’"}
_ODD_SPACE = re.compile("[\u00a0\u2000-\u200a\u202f\u205f\u3000]")
_INVISIBLE = re.compile("[\u200b-\u200d\u2060\ufeff]")
_PART = re.compile(
    r"\"\"\"(?:[^\\]|\\.)*?(?:\"\"\"|\Z)|'''(?:[^\\]|\\.)*?(?:'''|\Z)"
    r"|\"(?:[^\"\\\n]|\\.)*+\"?|'(?:[^'\\\n]|\\.)*+'?|#[^\n]*+|[“”„‟‘’‚‛]|[^\"'#“”„‟‘’‚‛]++",
    re.DOTALL,
)


def mended(code: str, work: Work) -> tuple[str, tuple[str, ...]]:
    """`code` as it can be parsed, and the names of the repairs that this took.

    Code that parses, that no repair helps, or that is too long to look at comes back as it is.
    """
    if work.python(code) is not False:
        return code, ()
    every = code
    names: list[str] = []
    for name, repair in REPAIRS.items():
        single = repair(code)
        if single != code and work.python(single):
            return single, (name,)
        if (further := repair(every)) != every:
            every, names = further, [*names, name]
    return (every, tuple(names)) if len(names) > 1 and work.python(every) else (code, ())


def _outside_strings(code: str, change: Callable[[str], str]) -> str:
    """`code` with its parts outside of strings and comments changed."""
    return "".join(part if part[0] in "\"'#" else change(part) for part in _PART.findall(code))


def straight_quotes(code: str) -> str:
    """Curly quotation marks that delimit strings, made straight; those inside strings stay."""
    out: list[str] = []
    position = 0
    while found := _PART.match(code, position):
        part, position = found[0], found.end()
        out.append(_ASCII.get(part, part))
        if part in _ASCII:
            end = _closing_quote(code, position, part)
            if end >= 0:
                out += code[position:end], _ASCII[part]
                position = end + 1
    return "".join(out)


def _closing_quote(code: str, position: int, opened: str) -> int:
    line = code.find("\n", position)
    ends = (code.find(mark, position, line if line >= 0 else len(code)) for mark in _CLOSES[opened])
    return min((end for end in ends if end >= 0), default=-1)


def plain_spaces(code: str) -> str:
    """No-break and other typographic spaces outside strings as spaces, invisible characters removed."""
    return _outside_strings(code, lambda part: _INVISIBLE.sub("", _ODD_SPACE.sub(" ", part)))


def unescaped(code: str) -> str:
    """A block on one line, in which `\\n` stands for each line break, as the lines it means."""
    line = code.strip()
    if "\n" in line or "\\n" not in line:
        return code
    quoted = line if line[:1] == line[-1:] == '"' else f'"{line}"'
    try:
        text = json.loads(quoted, strict=False)
    except (ValueError, RecursionError):
        text = line.replace("\\n", "\n").replace("\\t", "\t").replace('\\"', '"')
    return text if isinstance(text, str) else code


def without_entities(code: str) -> str:
    """`&lt;`, `&quot;` and the like as the characters they stand for."""
    return html.unescape(code) if "&" in code else code


REPAIRS: dict[str, Callable[[str], str]] = {
    "dedent": textwrap.dedent,
    "straight_quotes": straight_quotes,
    "plain_spaces": plain_spaces,
    "unescaped": unescaped,
    "without_entities": without_entities,
}
