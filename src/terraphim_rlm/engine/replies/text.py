"""Lines and columns of a reply, by offsets, so that nothing is copied before it is known to matter."""

from __future__ import annotations

from typing import NamedTuple

TAB = 4


class Line(NamedTuple):
    """A line, or the rest of one."""

    start: int
    end: int
    """Without the line ending (`\\n` or `\\r\\n`)."""
    next: int


class Lines:
    """Cuts a text into lines. Remembers the last newline, so that many looks at one long line cost one search."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._from = 0
        self._newline = -1

    def at(self, position: int) -> Line:
        """The line that `position` is in, from `position` on."""
        if not self._from <= position <= self._newline:
            found = self.text.find("\n", position)
            self._from = position
            self._newline = len(self.text) if found < 0 else found
        newline = self._newline
        end = newline - 1 if newline > position and self.text[newline - 1] == "\r" else newline
        return Line(position, end, min(newline + 1, len(self.text)))


def indentation(text: str, line: Line, column: int = 0) -> tuple[int, int]:
    """Column and offset of the line's first character that is neither space nor tab."""
    position = line.start
    while position < line.end:
        if text[position] == " ":
            column += 1
        elif text[position] == "\t":
            column += TAB - column % TAB
        else:
            break
        position += 1
    return column, position


def without_indentation(line: str, columns: int) -> str:
    """`line` with up to `columns` columns of leading white space removed; a cut tab leaves its rest as spaces."""
    column = 0
    for offset, char in enumerate(line):
        if column >= columns or char not in " \t":
            return " " * (column - columns) + line[offset:]
        column += 1 if char == " " else TAB - column % TAB
    return " " * (column - columns)
