"""Which files an input path means: a file, a folder, a glob. What is left out is counted, never silent."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from terraphim_rlm.core.errors import InputEmpty, InputUnreadable, PathNotFound

_SKIPPED_FOLDERS = frozenset({".git", "node_modules", "__pycache__", ".venv", ".hg", ".svn"})
_MOST_FILES = 1_000_000
_PROBE = 8192


@dataclass(frozen=True, slots=True)
class FoundFile:
    path: Path
    name: str
    """As evidence names it: the path as the user gave it, and what lies below."""
    follow: bool
    """True for paths that the user named; links met on a walk are not followed out of the root."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """What was left out of an input, by reason."""

    binary: int = 0
    unreadable: int = 0
    links: int = 0
    folders: int = 0

    def __str__(self) -> str:
        named = {"binary files": self.binary, "unreadable files": self.unreadable}
        named |= {"links": self.links, "folders such as .git": self.folders}
        return ", ".join(f"{count:,} {what}" for what, count in named.items() if count)


class _Counter:
    def __init__(self) -> None:
        self.binary = self.unreadable = self.links = self.folders = 0

    def total(self) -> Skipped:
        return Skipped(self.binary, self.unreadable, self.links, self.folders)


def find_files(paths: Sequence[Path]) -> tuple[list[FoundFile], Skipped]:
    """All text files that `paths` mean, sorted within each folder, and what was skipped.

    Raises:
        PathNotFound, InputUnreadable, InputEmpty: a named path cannot be used; the fix is said.
    """
    found: dict[str, FoundFile] = {}
    counter = _Counter()
    for given in paths:
        for path in _expanded(given):
            for file in _walk(path, counter) if path.is_dir() else [_named(path)]:
                found.setdefault(file.name, file)
                if len(found) > _MOST_FILES:
                    raise InputUnreadable(f"{given} holds more than {_MOST_FILES:,} files.")
    if not found:
        left_out = str(counter.total())
        raise InputEmpty(
            f"There is no text file in {', '.join(map(str, paths))}"
            + (f" (left out: {left_out})." if left_out else ".")
        )
    return list(found.values()), counter.total()


def _expanded(path: Path) -> list[Path]:
    text = os.path.expanduser(path)
    if os.path.exists(text):
        return [Path(text)]
    if os.path.islink(text):
        raise PathNotFound(f"{path} is a link to something that is not there.", path=str(path))
    if glob.has_magic(text):
        matches = sorted(glob.glob(text, recursive=True))
        if matches:
            return [Path(match) for match in matches]
        raise PathNotFound(f"Nothing matches {path}.", path=str(path))
    raise PathNotFound(f"There is no file or folder {path}.", path=str(path))


def _named(path: Path) -> FoundFile:
    """A file that the user named; it must be usable."""
    try:
        binary = not path.name.endswith(".gz") and _is_binary(path)
    except OSError as error:
        raise InputUnreadable(f"{path} cannot be read: {error.strerror}.", path=str(path)) from error
    if binary:
        raise InputUnreadable(
            f"{path} is not text: it holds NUL bytes.", fix="Convert it to text first.", path=str(path)
        )
    return FoundFile(path, str(path), follow=True)


def _walk(root: Path, counter: _Counter) -> Iterator[FoundFile]:
    for folder, folders, names in os.walk(root, onerror=_refuse_root(root, counter)):
        skipped = [
            name for name in folders if name in _SKIPPED_FOLDERS or os.path.islink(os.path.join(folder, name))
        ]
        counter.folders += len(skipped)
        folders[:] = sorted(name for name in folders if name not in skipped)
        for name in sorted(names):
            path = Path(folder, name)
            if _usable(path, counter):
                yield FoundFile(path, str(path), follow=False)


def _refuse_root(root: Path, counter: _Counter) -> Callable[[OSError], None]:
    def refuse(error: OSError) -> None:
        if error.filename == str(root):
            raise InputUnreadable(f"{root} cannot be listed: {error.strerror}.", path=str(root)) from error
        counter.unreadable += 1

    return refuse


def _usable(path: Path, counter: _Counter) -> bool:
    try:
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            counter.links += 1
            return False
        if not stat.S_ISREG(mode) or (not path.name.endswith(".gz") and _is_binary(path)):
            counter.binary += 1
            return False
    except OSError:
        counter.unreadable += 1
        return False
    return True


def _is_binary(path: Path) -> bool:
    """Text has no NUL byte near its start (the test that git uses). Opened so that a FIFO cannot hang us."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return b"\0" in os.read(fd, _PROBE)
    finally:
        os.close(fd)
