"""Pieces of the page: text made harmless, figures, tags. Whatever a model, a sandbox or an input said goes through `shown`."""

from __future__ import annotations

import html
import re

from terraphim_rlm.core.values import Usage

MOST_TEXT = 100_000
"""Characters of one text that the page holds."""
MOST_ALL = 30_000_000
"""Characters of all texts together; what comes later is cut to its beginning."""
_LEAST = 200
# What would turn the direction of writing, hide, or be no character at all; newline and tab stay.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def shown(text: str) -> str:
    """Text for any place of the page, attributes included."""
    return html.escape(_UNSEEN.sub(_escaped, text.replace("\r\n", "\n")), quote=True)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


class Room:
    """How much text the page still takes."""

    def __init__(self, most: int = MOST_ALL) -> None:
        self._left = most

    def cut(self, text: str) -> str:
        """The text as it is shown, with what is left out said."""
        most = MOST_TEXT if self._left > 0 else _LEAST
        self._left -= min(len(text), most)
        if len(text) <= most:
            return shown(text)
        return f"{shown(text[:most])}\n… {len(text) - most:,} more characters; the jsonl export has them"

    def pre(self, title: str, text: str, kind: str = "") -> str:
        """A block under a small title; nothing when there is no text."""
        if not text:
            return ""
        return f'<h3>{shown(title)}</h3><pre class="{kind}" tabindex="0">{self.cut(text)}</pre>'


def line(text: str, most: int = 110) -> str:
    """The first `most` characters on one line."""
    head = " ".join(text[: most * 8].split())
    return shown(head if len(head) <= most and len(text) <= most * 8 else f"{head[: most - 1]}…")


def badge(text: str, kind: str = "") -> str:
    return f'<span class="badge {kind}">{shown(text)}</span>'


def seconds(value: float | None) -> str:
    if value is None or not 0 <= value < 1e9:
        return "?"
    if value < 1:
        return f"{value * 1000:.0f} ms"
    return f"{value:.1f} s" if value < 120 else f"{int(value) // 60} min {int(value) % 60} s"


def money(microdollars: int) -> str:
    amount = microdollars / 1e6
    if not amount or amount >= 0.01:
        return f"${amount:,.2f}" if amount else "$0"
    return f"${amount:.6f}".rstrip("0")


def plural(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def tokens(usage: Usage) -> str:
    about = "about " if usage.estimated else ""
    return f"{about}{usage.tokens_in:,} in, {usage.tokens_out:,} out"


def joined(*parts: str) -> str:
    return " · ".join(part for part in parts if part)
