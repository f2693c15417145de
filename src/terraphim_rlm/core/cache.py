"""Bytes kept on disk between processes, checked by their hash when they are read."""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Self

from terraphim_rlm.core.paths import data_dir

_LOOK_EVERY = 0.02
"""Seconds between looks at a lock: a wait for it in the kernel could not be cancelled."""
_HASH = 32
_LOCKS = 256
"""Lock files; they stay, since two processes could hold two locks of one name if one were removed."""


class Cache:
    """A folder of entries; past `most_bytes` those not used for longest go. Many processes may use it at once.

    Best effort: what cannot be written is not kept, and what is not as it was written is not there.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder = folder
        self._most = most_bytes

    @classmethod
    def of_user(cls, name: str, most_bytes: int) -> Self:
        """The one called `name` in the data folder; keeps nothing when this user has no such folder."""
        try:
            return cls(data_dir() / "cache" / name, most_bytes)
        except RuntimeError:
            return cls(Path(os.devnull), most_bytes)

    def get(self, key: str) -> bytes | None:
        """The bytes under `key`, a name of letters, digits and `-`."""
        path = self._folder / key
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        return data[_HASH:] if sha256(data[_HASH:]).digest() == data[:_HASH] else None

    def put(self, key: str, data: bytes) -> None:
        """Appears whole or not at all."""
        draft = self._folder / f".draft-{os.getpid()}-{secrets.token_hex(4)}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with open(
                os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb"
            ) as file:
                file.write(sha256(data).digest())
                file.write(data)
            draft.rename(self._folder / key)
            self._prune()
        except OSError:
            draft.unlink(missing_ok=True)

    def _prune(self) -> None:
        entries = [
            (path.stat(), path) for path in self._folder.iterdir() if not path.name.startswith(".lock")
        ]
        total = sum(status.st_size for status, _ in entries)
        for status, path in sorted(entries, key=lambda entry: entry[0].st_mtime):
            if total <= self._most:
                return
            total -= status.st_size
            path.unlink(missing_ok=True)

    @asynccontextmanager
    async def alone(self, key: str) -> AsyncIterator[None]:
        """Nobody else, here or in another process, holds `key` meanwhile. The kernel lets go of what the dead held."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = self._folder / f".lock-{sha256(key.encode()).digest()[0] % _LOCKS}"
            fd = os.open(lock, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            yield  # a folder that cannot be written keeps nothing that would be worth waiting for
            return
        try:
            while not _locked(fd):  # noqa: ASYNC110 - a lock has no event
                await asyncio.sleep(_LOOK_EVERY)
            yield
        finally:
            os.close(fd)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
