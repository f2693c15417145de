"""The input of a run, as one sealed memory file: filled once, handed to every interpreter, read back for checks.

Bytes are kept as they are: CRLF, invalid UTF-8 and lone surrogates survive. The host keeps the file too, and
checks quotes against that, so nothing that a sandbox says about the input has to be believed.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import mmap
import os
import stat
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from terraphim_rlm.core.errors import InputEmpty, InputUnreadable, InvalidArgument
from terraphim_rlm.engine.databases import is_database, read_database
from terraphim_rlm.engine.files import FoundFile, Skipped, find_files
from terraphim_rlm.sandbox.link.memory import Handover, seal
from terraphim_rlm.sandbox.link.room import asked, copied

_STEP = 1 << 20
_SAMPLES, _SAMPLE = 64, 4096
"""How many samples of an input tell it from another, and their bytes: an input up to 256 KB is read whole."""
_SHARE_OF_MEMORY = 0.6
"""Of the memory that is free when an input is read: it is held in memory, once, for all interpreters."""


class _TooLarge(InputUnreadable):
    """The input as a whole has no room; leaving out one file would not help."""


@dataclass(frozen=True, slots=True)
class FileSpan:
    """Where one file lies in the memory file."""

    path: str
    start: int
    end: int
    ascii: bool


class Context:
    """One input. Close it when the run, and whoever continues it, is done."""

    def __init__(self, fd: int, kind: str, spans: Sequence[FileSpan], about: Mapping[str, Any]) -> None:
        self._fd = fd
        self.kind = kind
        self.spans = tuple(spans)
        self.size = sum(span.end - span.start for span in spans)
        self.skipped: Skipped = about.get("skipped") or Skipped()
        self.errors: str = about.get("errors", "surrogateescape")
        self._map: mmap.mmap | None = None
        self._by_path = {span.path: span for span in self.spans}

    def handover(self) -> Handover:
        """What an interpreter needs to open it."""
        about: dict[str, Any] = {"kind": self.kind}
        if self.spans:
            low, high = min(s.start for s in self.spans), max(s.end for s in self.spans)
            about["span"] = [low, high]
            if self.kind == "files":
                about["files"] = [[s.path, s.start - low, s.end - low, s.ascii] for s in self.spans]
            else:
                about.update(path=self.spans[0].path, ascii=self.spans[0].ascii, errors=self.errors)
        return Handover(self._fd, json.dumps(about).encode("utf-8", "surrogatepass"))

    def part(self, paths: Sequence[str] | None, *, one: bool = False) -> Context:
        """The same memory again, all of it or some of its files; nothing is copied. Close it as well.

        Args:
            paths: of a folder; None = all.
            one: the one path is the input itself, as a text, not a folder of one.

        Raises:
            InvalidArgument: a path is not in this input.
        """
        spans: Sequence[FileSpan] = self.spans
        kind = self.kind
        if paths is not None:
            missing = [path for path in paths if path not in self._by_path]
            if missing or not paths or (one and len(paths) > 1):
                raise InvalidArgument(f"The input has no file {(missing or [''])[0][:200]!r}.")
            spans = [self._by_path[path] for path in dict.fromkeys(paths)]
            kind = "text" if kind == "files" and one else kind
        return Context(copied(self._fd), kind, spans, {"errors": self.errors})

    def read(self, path: str, start: int, end: int) -> bytes | None:
        """Bytes `start` to `end` of one file, or None when there is no such span."""
        span = self._by_path.get(path)
        if span is None or not 0 <= start <= end <= span.end - span.start:
            return None
        return self._mapped()[span.start + start : span.start + end]

    def line_of(self, path: str, start: int) -> int:
        """1-based line that holds byte `start` of a file."""
        span = self._by_path[path]
        data, line = self._mapped(), 1
        for low in range(span.start, span.start + start, _STEP):
            line += data[low : min(low + _STEP, span.start + start)].count(b"\n")
        return line

    def text(self) -> str:
        """All of it as text, each file under its name; only for inputs small enough to be sent whole."""
        parts = []
        for span in self.spans:
            body = self._mapped()[span.start : span.end].decode("utf-8", "replace")
            parts.append(f"--- {span.path} ---\n{body}" if self.kind == "files" else body)
        return "\n".join(parts)

    def fingerprint(self) -> str:
        """Tells whether an input read again is likely the same: its files, their sizes, and samples of its bytes."""
        names = repr([(span.path, span.start, span.end) for span in self.spans])
        mark = hashlib.blake2b(names.encode("utf-8", "surrogatepass"), digest_size=16)
        for start in range(0, self.size, max(self.size // _SAMPLES, _SAMPLE)):
            mark.update(self._mapped()[start : start + _SAMPLE])
        return mark.hexdigest()

    def preview(self, characters: int) -> str:
        """The first characters of the first file."""
        if not self.size:
            return ""
        first = self.spans[0]
        data = self._mapped()[first.start : min(first.start + characters * 4, first.end)]
        return data.decode("utf-8", "replace")[:characters]

    def _mapped(self) -> mmap.mmap:
        if self._map is None:
            self._map = mmap.mmap(self._fd, 0, prot=mmap.PROT_READ)
        return self._map

    def close(self) -> None:
        if self._map is not None:
            self._map.close()
            self._map = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def make_context(value: Any) -> Context:
    """Any input that `ask` takes: text, bytes, JSON values, a path, several paths, or an open binary stream of text.

    Raises:
        PathNotFound, InputUnreadable, InputEmpty, InvalidArgument: it cannot be used; the reason and the fix.
    """
    if isinstance(value, Path):
        return _from_paths([value])
    if isinstance(value, io.BufferedIOBase):
        return _filled("text", [("-", iter(lambda: value.read(_STEP), b""))])
    if isinstance(value, (list, tuple)) and value and all(isinstance(item, Path) for item in value):
        return _from_paths(list(value))
    if isinstance(value, str):
        return _from_text(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _filled("bytes", [("input", [bytes(value)])], errors="surrogateescape")
    if isinstance(value, (list, tuple, dict)):
        return _from_json(value)
    raise InvalidArgument(
        f"A context cannot be a {type(value).__name__}.",
        fix="Give text, bytes, a JSON value, a pathlib.Path or a list of them.",
    )


def _from_text(text: str) -> Context:
    pieces = (text[i : i + _STEP].encode("utf-8", "surrogatepass") for i in range(0, len(text), _STEP))
    if text.isascii():
        pieces = (text[i : i + _STEP].encode("ascii") for i in range(0, len(text), _STEP))
    return _filled("text", [("input", pieces)], errors="surrogatepass")


def _from_json(value: Any) -> Context:
    try:
        data = json.dumps(value, allow_nan=False).encode("utf-8", "surrogatepass")
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(
            f"The context is not JSON: {error}.",
            fix="Give only text, numbers, lists and dicts with text keys.",
        ) from None
    return _filled("json", [("input.json", [data])])


def _from_paths(paths: Sequence[Path]) -> Context:
    if len(paths) == 1 and is_database(path := Path(os.path.expanduser(paths[0]))):
        return _filled("sqlite", [(str(paths[0]), read_database(path))])
    found, skipped = find_files(paths)
    single = len(found) == 1 and len(paths) == 1 and not paths[0].is_dir()
    kind = "files"
    if single:
        kind = "records" if found[0].name.removesuffix(".gz").endswith((".jsonl", ".ndjson")) else "text"
    walked = frozenset(file.name for file in found if not file.follow)
    return _filled(kind, [(file.name, _read(file)) for file in found], may_skip=walked, skipped=skipped)


def _filled(
    kind: str, sources: Sequence[tuple[str, Any]], may_skip: frozenset[str] = frozenset(), **about: Any
) -> Context:
    """A context of these texts. One of `may_skip` that cannot be read to its end is left out and counted."""
    with asked():
        fd = os.memfd_create("context", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        spans: list[FileSpan] = []
        position, most, unread = 0, _most_bytes(), 0
        for path, pieces in sources:
            try:
                span = _append(fd, path, position, pieces, most)
            except InputUnreadable as error:
                if path not in may_skip or isinstance(error, _TooLarge):
                    raise
                os.ftruncate(fd, position)
                os.lseek(fd, position, os.SEEK_SET)
                unread += 1
                continue
            spans.append(span)
            position = span.end
        if unread:
            skipped = about["skipped"]
            about["skipped"] = replace(skipped, unreadable=skipped.unreadable + unread)
        if position == 0:
            raise InputEmpty("The input is empty.")
        seal(fd)
    except OSError as error:
        os.close(fd)
        raise InputUnreadable(f"The input could not be read into memory: {error.strerror}.") from error
    except BaseException:
        os.close(fd)
        raise
    return Context(fd, kind, spans, about)


def _append(fd: int, path: str, start: int, pieces: Iterable[bytes], most: int) -> FileSpan:
    position, ascii = start, True
    for piece in pieces:
        position += _write(fd, piece)
        ascii = ascii and piece.isascii()
        if position > most:
            raise _TooLarge(
                f"The input, decompressed, is larger than the {most:,} bytes that memory has room for.",
                fix="Ask about a part of it, or use a machine with more memory.",
                path=path,
            )
    return FileSpan(path, start, position, ascii)


def _most_bytes() -> int:
    with open("/proc/meminfo", encoding="ascii") as lines:
        free = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    return int(free * 1024 * _SHARE_OF_MEMORY)


def _write(fd: int, piece: bytes) -> int:
    view = memoryview(piece)
    while view:
        view = view[os.write(fd, view) :]
    return len(piece)


def _read(file: FoundFile) -> Iterator[bytes]:
    """A file's bytes, decompressed when it is gzip. O_NOFOLLOW and a regular-file check: the path may have changed."""
    try:
        fd = os.open(
            file.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if file.follow else os.O_NOFOLLOW)
        )
        with open(fd, "rb") as stream:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise InputUnreadable(f"{file.path} is not a regular file.", path=str(file.path))
            source = gzip.GzipFile(fileobj=stream) if file.name.endswith(".gz") else stream
            while piece := source.read(_STEP):
                yield piece
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputUnreadable(f"{file.path} is not whole gzip data: {error}.", path=str(file.path)) from error
    except OSError as error:
        raise InputUnreadable(
            f"{file.path} cannot be read: {error.strerror}.", path=str(file.path)
        ) from error
