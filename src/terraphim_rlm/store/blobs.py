"""Big bytes, by what they are: `DATA/blobs/ab/cdef..` holds the bytes whose SHA-256 is `abcdef..`.

A blob appears whole or not at all (written beside, synced, renamed), is never changed, and is
checked against its name whenever it is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from pathlib import Path

from terraphim_rlm.core.errors import JournalCorrupt

_SHA256 = re.compile(r"[0-9a-f]{64}")


class Blobs:
    """A folder of blobs; made at the first `put`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, sha256: str) -> Path:
        """Where the blob lies or would lie.

        Raises:
            ValueError: `sha256` is not 64 lower-case hexadecimal digits.
        """
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"not a SHA-256: {sha256!r}")
        return self.folder / sha256[:2] / sha256[2:]

    def put(self, data: bytes) -> str:
        """Stores `data` durably and returns its SHA-256. Putting the same bytes again costs a stat.

        Raises:
            OSError: it could not be written; nothing is left behind.
        """
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.path(sha256)
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size == len(data):
                return sha256
        for folder in (self.folder, path.parent):  # `parents=True` would give the umask's mode
            folder.mkdir(mode=0o700, exist_ok=True)
        beside = path.with_name(f".{secrets.token_hex(8)}.tmp")
        try:
            write_durably(beside, data)
            beside.replace(path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise
        for folder in (path.parent, self.folder, self.folder.parent):
            sync_folder(folder)
        return sha256

    def get(self, sha256: str) -> bytes:
        """The blob's bytes.

        Raises:
            JournalCorrupt: it is missing, or is not what its name says.
            OSError: it could not be read.
        """
        path = self.path(sha256)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise _damaged(path, "is missing") from None
        if hashlib.sha256(data).hexdigest() != sha256:
            raise _damaged(path, "does not hold what its name says")
        return data


def write_durably(path: Path, data: bytes) -> None:
    """Makes a new file of mode 0600 with `data`, on the disk when this returns."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(fd)


def sync_folder(folder: Path) -> None:
    """Makes new names in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _damaged(path: Path, what: str) -> JournalCorrupt:
    return JournalCorrupt(
        f"The stored output {path} {what}.",
        fix="The run's other events are whole; restore this file from a backup if you need it.",
        path=str(path),
    )
