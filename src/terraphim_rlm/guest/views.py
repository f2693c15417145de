"""The context in a cell: views over one sealed memory file that the host filled.

Text is a real `str` up to `WHOLE` bytes, because model-written code passes it to `re`, `json` and friends;
beyond that it is a `LazyText`, which decodes only what is asked for. Both know their `bytes`.
Byte offsets everywhere are offsets in the input file, whatever its encoding.
"""

import json
import mmap
import os
from collections.abc import Mapping, Sequence

from . import scan

WHOLE = 16 << 20
_STEP = 1 << 20  # bytes between two checkpoints of a LazyText


def open_context(fd, body):
    """The value of `context`, by the host's description of what is in the memory file `fd`.

    The file may hold more than that: a child node is given its part of what its parent has.
    """
    about = json.loads(body)
    size = os.fstat(fd).st_size
    data = memoryview(mmap.mmap(fd, size, prot=mmap.PROT_READ)) if size else memoryview(b"")
    os.close(fd)
    start, end = about.get("span", (0, size))
    return _KINDS[about["kind"]](data[start:end], about)


def _text(data, about):
    return text_view(data, about["path"], 0, len(data), about["ascii"], about["errors"])


def _files(data, about):
    return Folder(data, about["files"])


def _json(data, about):
    return json.loads(bytes(data))


def _bytes(data, about):
    return bytes(data) if len(data) <= WHOLE else LazyBytes(data, about["path"])


def _records(data, about):
    from .records import Records

    return Records(data, about["path"])


def _sqlite(data, about):
    from .database import open_database

    return open_database(data, about["path"])


_KINDS = {
    "text": _text,
    "files": _files,
    "json": _json,
    "bytes": _bytes,
    "records": _records,
    "sqlite": _sqlite,
}


def text_view(data, path, start, end, ascii, errors="surrogateescape"):
    if end - start > WHOLE:
        return LazyText(data[start:end], path, ascii, errors)
    text = Text(data[start:end], "ascii" if ascii else "utf-8", "strict" if ascii else errors)
    text.bytes, text.path = data[start:end], path
    return text


class Text(str):
    """A whole text; `.bytes` is its bytes in the input (a memoryview), `.path` its name."""

    __slots__ = ("bytes", "path")

    def plain(self):
        return str(self)

    def __reduce__(self):
        return str, (str(self),)


class LazyText:
    """A text too large to decode at once; counts characters, not bytes. `str(view)` decodes it all."""

    def __init__(self, data, path, ascii, errors):
        self.bytes, self.path = data, path
        self._errors = errors
        self._ascii = ascii
        self._marks = None  # byte offset -> characters before it, at every _STEP
        self._length = len(data) if ascii else None

    def _checkpoints(self):
        if self._marks is None:
            self._marks, position, count = [(0, 0)], 0, 0
            while position < len(self.bytes):
                end = _boundary(self.bytes, min(position + _STEP, len(self.bytes)))
                count += len(str(self.bytes[position:end], "utf-8", self._errors))
                position = end
                self._marks.append((position, count))
            self._length = count
        return self._marks

    def __len__(self):
        if self._length is None:
            self._checkpoints()
        return self._length

    def __getitem__(self, index):
        if not isinstance(index, slice):
            position = range(len(self))[index]
            return self._cut(position, position + 1)
        start, stop, step = index.indices(len(self))
        return self._cut(start, stop) if step == 1 else str(self)[index]

    def _cut(self, start, stop):
        if stop <= start:
            return ""
        if self._ascii:
            return str(self.bytes[start:stop], "ascii")
        from bisect import bisect_right

        marks = self._checkpoints()
        counts = [count for _, count in marks]
        low = marks[bisect_right(counts, start) - 1]
        high = marks[min(bisect_right(counts, stop), len(marks) - 1)]
        text = str(self.bytes[low[0] : high[0]], "utf-8", self._errors)
        return text[start - low[1] : stop - low[1]]

    def __str__(self):
        return str(self.bytes, "utf-8", self._errors)

    plain = __str__

    def __iter__(self):
        for start in range(0, len(self), _STEP):
            yield from self._cut(start, min(start + _STEP, len(self)))

    def __contains__(self, part):
        return self._bytes_find(part) >= 0

    def _bytes_find(self, part):
        return scan.find(self.bytes, part.encode("utf-8", self._errors))

    def find(self, part, start=0):
        """Position of `part` in characters, or -1."""
        if start:
            rest = self[start:]
            position = rest.find(part)
            return position if position < 0 else position + start
        at = self._bytes_find(part)
        return at if at <= 0 or self._ascii else len(str(self.bytes[:at], "utf-8", self._errors))

    def count(self, part):
        return scan.count(self.bytes, part.encode("utf-8", self._errors))

    def splitlines(self, keepends=False):
        return str(self).splitlines(keepends)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(str(self), name)

    def __repr__(self):
        return f"<LazyText {self.path!r}: {len(self.bytes):,} bytes; slice it, grep(..) it, or str(..) it>"


def _boundary(data, end):
    """The nearest start of a UTF-8 sequence at or before `end`."""
    low = max(end - 4, 0)
    while end < len(data) and end > low and data[end] & 0xC0 == 0x80:
        end -= 1
    return end


class LazyBytes(Sequence):  # type: ignore[type-arg]
    """Bytes too many to copy at once. A slice is `bytes`, an index an int; `bytes(view)` copies them all."""

    def __init__(self, data, path):
        self.bytes, self.path = data, path

    def __len__(self):
        return len(self.bytes)

    def __getitem__(self, index):
        return bytes(self.bytes[index]) if isinstance(index, slice) else self.bytes[index]

    def __bytes__(self):
        return bytes(self.bytes)

    def __contains__(self, part):
        return self.find(bytes([part]) if isinstance(part, int) else part) >= 0

    def find(self, part, start=0):
        return scan.find(self.bytes, bytes(part), start)

    def count(self, part):
        return scan.count(self.bytes, bytes([part]) if isinstance(part, int) else bytes(part))

    def plain(self):
        return bytes(self.bytes)

    def __repr__(self):
        return (
            f"<LazyBytes {self.path!r}: {len(self.bytes):,} bytes; slice it, find(..) in it, or bytes(..) it>"
        )


class Folder(Mapping):  # type: ignore[type-arg]
    """Path -> text of each file of a folder, a glob or several paths. Files decode when asked for."""

    def __init__(self, data, files):
        self.bytes = data
        self._files = {path: (start, end, ascii) for path, start, end, ascii in files}

    def __getitem__(self, path):
        start, end, ascii = self._files[path]
        return text_view(self.bytes, path, start, end, ascii)

    def __iter__(self):
        return iter(self._files)

    def __len__(self):
        return len(self._files)

    def plain(self):
        """The same as a dict of str."""
        return {path: str(self[path]) for path in self}

    def spans(self):
        """(path, start, end) of each file in `.bytes`."""
        return [(path, start, end) for path, (start, end, _) in self._files.items()]

    def sizes(self):
        """Path -> bytes."""
        return {path: end - start for path, (start, end, _) in self._files.items()}

    def __repr__(self):
        return f"<Folder of {len(self):,} files, {len(self.bytes):,} bytes; context[path] is a str>"
