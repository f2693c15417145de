"""What a cell printed, made fit for the transcript: bounded, visible to the last character, and inert.

Text of the context reaches a model only through here, and it may have been written to mislead. It cannot
be kept from saying false things, but it can be kept from looking like another speaker: a chat template's
tokens, tool-call tags and speakers' names get a backslash (`<\\|im_start|>`, `\\Human:`), which breaks the
token and leaves it readable. Characters that do not show, or that reorder what does, are written as escapes.
The variables in the sandbox keep the text as it is.

Lines that the host itself writes into an output carry the run's mark, a random word that is told to the model and to
nobody else. Whatever prints that word all the same has it broken by a backslash, so no output can write such a line.
"""

# ruff: noqa: RUF001, RUF003, S105 - templates spell their tokens with these characters

from __future__ import annotations

import functools
import re

_HIDDEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but line feed and tab
    "\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # no width, or reordering
    "\U000e0000-\U000e01ef"  # tags and variation selectors, in which whole sentences can hide
    "\ud800-\udfff"  # halves of a pair, which no encoding carries
)
_TOKEN = (
    r"<(?=\|[\w.-]{1,40}\|?>)"  # <|im_start|>, <|channel|>, <|user|>
    r"|<(?=｜[^｜<>\n]{1,40}｜)"  # <｜User｜>, <｜tool▁call▁begin｜>, <｜DSML｜invoke
    r"|<(?=/?(?:s|bos|eos|start_of_turn|end_of_turn)>)"
    r"|<(?=/?(?:antml:|minimax:)?(?:tool_calls?|tool_use|tool_response|tool_results?|function_calls?"
    r"|function_results?|invoke|parameter|think|thinking|system|assistant|human)\b[^<>\n]{0,80}>)"
    r"|<(?=</?SYS>>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS|THINK)\])"
)
_SPEAKER = (
    r"(?:\A|\n[ \t]*+\n)[ \t]*+(?=(?:Human|Assistant)[ \t]*+:)"
    r"|\n[ \t]*+\n[ \t]*+(?=(?:User|System)[ \t]*+:)"
    r"|^[ \t]*+(?=\#{2,6}[ \t]++(?:Human|Assistant|User|System|Instruction|Response)[ \t]*+:)"
)
_OURS = r"^\[(?=cell \d{1,9}[:\W])|\[(?=\.\. [\d,]{1,26} characters left out)"
"""The headings that the engine itself writes above and into outputs."""


@functools.lru_cache(maxsize=16)
def _unsafe(mark: str) -> re.Pattern[str]:
    """What must not stand in a transcript as it is. Of a mark all but its last character is matched, and so split off."""
    ours = rf"|(?P<mark>{re.escape(mark[:-1])}(?={re.escape(mark[-1:])}))" if mark else ""
    return re.compile(
        f"(?P<hidden>[{_HIDDEN}])|(?P<opening>{_TOKEN}|{_OURS})|(?P<speaker>{_SPEAKER}){ours}", re.MULTILINE
    )


def neutralise(text: str, limit: int, mark: str = "") -> str:
    """`text` as the transcript may hold it.

    Args:
        text: any string, of any length; the time this takes depends on `limit` alone.
        limit: most characters shown. Of a longer text the head and the tail are shown, and between them a
            line that counts the characters of `text` left out; the line comes on top of the limit.
        mark: the run's; the line of the count carries it, and `text` cannot.
    """
    unsafe = _unsafe(mark)
    if len(text) <= limit:
        shown = "".join(piece for _, piece in _pieces(text, unsafe))
        if len(shown) <= limit:
            return shown
    limit = max(limit, 0)
    tail_limit = limit // 2
    head_raw, head = _take(_pieces(text[: limit - tail_limit], unsafe), limit - tail_limit)
    rest = text[max(head_raw, len(text) - tail_limit) :]
    tail_raw, tail = _take_last(_pieces(rest, unsafe), tail_limit)
    if head_raw + tail_raw == len(text):
        # The seam lies within a token: joined again it would be whole, and not broken.
        tail_raw, tail = 0, ""
    left_out = len(text) - head_raw - tail_raw
    if not left_out:
        return head
    # The tail goes on in the line of the count, so that a cut can put nothing at the start of a line.
    return f"{head}\n[.. {left_out:,} characters left out{_marked(mark)} ..] {tail}"


def _marked(mark: str) -> str:
    return f", {mark}" if mark else ""


def _pieces(text: str, unsafe: re.Pattern[str]) -> list[tuple[int, str]]:
    """`text` in pieces: how many characters each stands for, and how it is shown."""
    out: list[tuple[int, str]] = []
    position = 0
    for found in unsafe.finditer(text):
        if found.start() > position:
            out.append((found.start() - position, text[position : found.start()]))
        raw = found[0]
        out.append((len(raw), _escaped(raw) if found["hidden"] else f"{raw}\\"))
        position = found.end()
    if position < len(text):
        out.append((len(text) - position, text[position:]))
    return out


def _escaped(char: str) -> str:
    return "\\r" if char == "\r" else char.encode("unicode_escape").decode("ascii")


def _take(pieces: list[tuple[int, str]], limit: int) -> tuple[int, str]:
    """The first pieces that fit: characters they stand for, and how they are shown."""
    raw, shown, room = 0, [], limit
    for size, piece in pieces:
        if len(piece) <= room:
            raw, room = raw + size, room - len(piece)
            shown.append(piece)
            continue
        if size == len(piece):  # plain text can be cut anywhere, an escape cannot
            raw += room
            shown.append(piece[:room])
        break
    return raw, "".join(shown)


def _take_last(pieces: list[tuple[int, str]], limit: int) -> tuple[int, str]:
    """The last pieces that fit, in their order."""
    backwards = [(size, piece[::-1]) for size, piece in reversed(pieces)]
    raw, shown = _take(backwards, limit)
    return raw, shown[::-1]
