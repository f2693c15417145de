"""Fenced blocks by the rules of CommonMark 0.31, section 4.5, with two looks further where code was cut.

A fence is at least three backticks or tildes, at most three columns right of its container; it is closed
by as many of the same character or more, alone on a line. A shorter fence inside a longer one is text.
Where the text up to the first closing line is no valid Python, or a shell script inside a here-document,
and the text up to a later closing line is whole, the block ends at the later one. A block inside of which
another block of code opens was never closed: neither is run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from terraphim_rlm.engine.replies.commands import LANGUAGES
from terraphim_rlm.engine.replies.text import Line, Lines, indentation, without_indentation
from terraphim_rlm.engine.replies.turns import stop_at_line_end
from terraphim_rlm.engine.replies.work import Work

MAX_CLOSINGS = 8
"""Closing lines that are tried for one block."""
_OPENING = re.compile(r"(`{3,}+)([^`]*)$|(~{3,}+)(.*)$", re.DOTALL)
_TAG = re.compile(r"[ \t]*(?:\{[ \t]*)?\.?([^\s`{}:,=]*)")
_INNER = re.compile(r"^[ \t]*+(?:`{3,}|~{3,})[ \t]*+(\w++)", re.MULTILINE)
_HEREDOC = re.compile(r"(?<!<)<<(-?)[ \t]*([\"']?)([A-Za-z_]\w*)\2")


class Fence(NamedTuple):
    """An opening line."""

    char: str
    length: int
    tag: str
    """First word of the info string, in lower case."""
    column: int
    """Of the fence itself; so much indentation is taken from each line inside."""
    base: int
    """Column at which the container's content begins; 0 outside of lists."""
    start: int
    body: int
    """Offset of the first line inside."""


class Block(NamedTuple):
    """A fence and what it holds."""

    fence: Fence
    code: str
    end: int
    """After the closing line, without its line ending; the end of the reply when never closed."""
    next: int
    closed: bool


class _Closing(NamedTuple):
    line_start: int
    end: int
    next: int


def opening(text: str, line: Line, column: int, position: int, base: int) -> Fence | None:
    """The fence that opens at `position` of `line`; None when there is none. Indentation is the caller's to judge."""
    found = _OPENING.match(text, position, line.end)
    if not found:
        return None
    marks, info = (found[1], found[2]) if found[1] else (found[3], found[4])
    tag = _TAG.match(info)
    name = tag[1].lower() if tag else ""
    return Fence(marks[0], len(marks), name, column, base, position, line.next)


def read(lines: Lines, fence: Fence, work: Work) -> Block:
    """The block that `fence` opens."""
    text = lines.text
    closings = _closings(lines, fence)
    first = next(closings, None)
    if first is None:
        return Block(fence, _content(text, fence, len(text)), len(text), len(text), closed=False)
    code = _content(text, fence, first.line_start)
    if not _cut(code, fence.tag, work):
        return Block(fence, code, first.end, first.next, closed=True)
    for _, closing in zip(range(MAX_CLOSINGS - 1), closings, strict=False):
        if not work.may_look:
            break
        work.looked(closing.end - fence.body)
        longer = _content(text, fence, closing.line_start)
        if _whole(longer, fence.tag, work):
            return Block(fence, longer, closing.end, closing.next, closed=True)
    closed = not opens_code(code)
    return Block(fence, code, first.end, first.next, closed)


def _closings(lines: Lines, fence: Fence) -> Iterator[_Closing]:
    text, position = lines.text, fence.body
    while position < len(text):
        line = lines.at(position)
        column, offset = indentation(text, line)
        if column <= fence.base + 3 and text.startswith(fence.char, offset, line.end):
            token = stop_at_line_end(text, offset, line.end)
            end, after = (token, token) if token >= 0 else (line.end, line.next)
            marks = text[offset:end].rstrip(" \t")
            if len(marks) >= fence.length and marks == fence.char * len(marks):
                yield _Closing(line.start, end, after)
        position = line.next


def _content(text: str, fence: Fence, end: int) -> str:
    body = text[fence.body : end].replace("\r\n", "\n")
    if fence.column:
        body = "\n".join(without_indentation(line, fence.column) for line in body.split("\n"))
    return body.removesuffix("\n")


def _cut(code: str, tag: str, work: Work) -> bool:
    language = LANGUAGES.get(tag)
    if language == "python":
        return work.python(code) is False
    return language == "bash" and (in_heredoc(code) or opens_code(code))


def _whole(code: str, tag: str, work: Work) -> bool:
    return work.python(code) is True if LANGUAGES.get(tag) == "python" else not _cut(code, tag, work)


def opens_code(code: str) -> bool:
    """Whether a line of `code` opens a block in a language that runs."""
    return any(found[1].lower() in LANGUAGES for found in _INNER.finditer(code))


def in_heredoc(script: str) -> bool:
    """Whether `script` ends inside a here-document."""
    waiting: tuple[str, bool] | None = None
    for line in script.split("\n"):
        if waiting is not None:
            word, tabs = waiting
            if (line.lstrip("\t") if tabs else line) == word:
                waiting = None
        elif found := _HEREDOC.search(line):
            waiting = (found[3], bool(found[1]))
    return waiting is not None
