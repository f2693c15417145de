"""SQLite files as input: recognised by their first bytes, read as they stood at one moment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from terraphim_rlm.core.errors import InputUnreadable

_MAGIC = b"SQLite format 3\0"
_NO_LOG = b"\1\1"
"""Bytes 18 and 19 of a database that has no write-ahead log; one in memory cannot have any."""
_STEP = 1 << 20


def is_database(path: Path) -> bool:
    """Whether a file is a SQLite database. False for what cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return os.read(fd, len(_MAGIC)) == _MAGIC
    except OSError:
        return False
    finally:
        os.close(fd)


def read_database(path: Path) -> Iterator[bytes]:
    """The bytes of a database. A read transaction keeps it still; what lies in a write-ahead log is in it.

    Raises:
        InputUnreadable: it is damaged, locked, or cannot be opened here; the reason and the fix.
    """
    import sqlite3

    try:
        uri = f"file:{quote(os.path.abspath(path))}?mode=ro"
        source = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=10)
        try:
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if source.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
                whole = source.serialize()
                yield whole[:18] + _NO_LOG + whole[20:]
                return
            with path.open("rb") as stream:
                while piece := stream.read(_STEP):
                    yield piece
        finally:
            source.close()
    except sqlite3.Error as error:
        raise InputUnreadable(
            f"The database {path} cannot be read: {error}.",
            fix="Close what holds it, or hand over a copy made with `sqlite3 FILE .backup`.",
            path=str(path),
        ) from error
