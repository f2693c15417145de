"""Figures and foreign text as a terminal may show them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime

from terraphim_rlm.core.values import Usage

_COLOURS = re.compile(r"\x1b\[[0-9;:]*m")
# Everything that moves the cursor, speaks to the terminal or turns the direction of writing.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_UNSAFE_BUT_RETURN = re.compile(_UNSAFE.pattern.replace("\x0b-\x1f", "\x0b\x0c\x0e-\x1f"))


def clean(text: str, *, keep_returns: bool = False) -> str:
    """Text from a model, a sandbox or a file, made harmless: colours go, other controls become visible.

    Newlines and tabs stay, and carriage returns with `keep_returns`.
    """
    unsafe = _UNSAFE_BUT_RETURN if keep_returns else _UNSAFE
    return unsafe.sub(_escaped, _COLOURS.sub("", text))


def _escaped(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def one_line(text: str, most: int) -> str:
    """The text on one line of at most `most` characters, harmless."""
    head = text[: most * 8]
    line = clean(" ".join(head.split()))
    return line if len(line) <= most and len(head) == len(text) else f"{line[: most - 1].rstrip()}…"


def number(value: float) -> str:
    """`1,024`, or `1,024.5` where it is no whole number."""
    return f"{value:,.3f}".rstrip("0").rstrip(".")


def dollars(microdollars: int) -> str:
    """`$0`, `$0.0021`, `$1.30`: two digits that count at least."""
    amount = microdollars / 1e6
    if amount >= 0.01 or not amount:
        return f"${amount:.2f}" if amount else "$0"
    return f"${amount:.6f}".rstrip("0")


def seconds(value: float) -> str:
    """`0.4 s`, `12 s`, `3 min 20 s`."""
    if not 0 <= value < 1e9:
        return "? s"
    if value < 10:
        return f"{value:.1f} s"
    if value < 120:
        return f"{value:.0f} s"
    return f"{int(value) // 60} min {int(value) % 60} s"


def when(stamp: float) -> str:
    """A time since the epoch as `2026-11-25 14:05`, where we are."""
    try:
        return datetime.fromtimestamp(stamp).astimezone().strftime("%Y-%m-%d %H:%M")
    except (OverflowError, OSError, ValueError):
        return "?"


def size(count: float) -> str:
    """`512 B`, `98.4 MB`, in powers of ten."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def plural(count: int, word: str, many: str | None = None) -> str:
    """`1 word`, `2 words`; `many` where that is not the word with an s."""
    return f"{count:,} {word if count == 1 else many or word + 's'}"


def spent(usage: Usage, *, free: bool = False) -> list[str]:
    """What calls cost, in parts: dollars where they are known, tokens with the cache's share of the prompts, calls."""
    about = "about " if usage.estimated else ""
    money = [dollars(usage.microdollars)] if usage.microdollars or free else []
    cached = f", {usage.tokens_cached / usage.tokens_in:.0%} of it cached" if usage.tokens_cached else ""
    tokens = (
        f"{about}{plural(usage.tokens, 'token')} ({usage.tokens_in:,} in{cached}, {usage.tokens_out:,} out)"
    )
    return [*money, tokens, plural(usage.calls, "call")]


def columns(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows below a head, in columns as wide as needed; the last column may be as long as it likes."""
    table = [list(head), *([one_line(cell, 2000) for cell in row] for row in rows)]
    widths = [max(len(row[at]) for row in table) for at in range(len(head) - 1)]
    return "\n".join(
        "  ".join([*(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in table
    )
