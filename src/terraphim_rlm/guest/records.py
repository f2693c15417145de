"""A JSONL input as a list whose items are parsed when they are asked for."""

import json
from bisect import bisect_right
from collections.abc import Sequence

from . import scan

_BLANK = (b"\n\n", b"\n\r", b"\n ", b"\n\t")


class Records(Sequence):  # type: ignore[type-arg]
    """The lines of a JSONL file that are not blank, each parsed when asked for.

    What is kept is where each block of lines begins and how many records lie before it, so that a file of ten million
    lines costs kilobytes. The lines of the last block that was looked into are kept, too.
    """

    def __init__(self, data, path):
        self.bytes, self.path = data, path
        self._starts = self._before = None
        self._length = 0
        self._open = (-1, [])

    def _index(self):
        if self._starts is None:
            starts, before, count = [], [], 0
            for low, block in scan.line_blocks(self.bytes):
                starts.append(low)
                before.append(count)
                count += _records(block)
            self._starts, self._before, self._length = starts, before, count
        return self._starts

    def _lines(self, number):
        """The lines of one block that hold a record."""
        if self._open[0] != number:
            starts = self._index()
            end = starts[number + 1] if number + 1 < len(starts) else len(self.bytes)
            lines = bytes(self.bytes[starts[number] : end]).split(b"\n")
            self._open = (number, [line for line in lines if line.strip()])
        return self._open[1]

    def __len__(self):
        self._index()
        return self._length

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        number = bisect_right(self._before, position) - 1
        return json.loads(self._lines(number)[position - self._before[number]])

    def __iter__(self):
        for number in range(len(self._index())):
            for line in self._lines(number):
                yield json.loads(line)

    def plain(self):
        """The same as a list."""
        return list(self)

    def __repr__(self):
        return f"<Records of {self.path!r}: {len(self):,} JSON lines; context[0] is the first, parsed>"


def _records(block):
    """How many lines of a block hold more than white space; it begins at a line's start."""
    if any(blank in block for blank in _BLANK) or block[:1].isspace():
        return sum(1 for line in block.split(b"\n") if line.strip())
    return block.count(b"\n") + (not block.endswith(b"\n"))
