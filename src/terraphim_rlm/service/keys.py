"""Keys of those who reach the daemon over TCP: shown once, kept as hashes, each with what it may do."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from terraphim_rlm.core.errors import InvalidArgument, KeyNotFound, KeysUnreadable
from terraphim_rlm.core.paths import data_dir
from terraphim_rlm.core.values import SCHEMA_VERSION

Scope = Literal["read", "ask", "exec", "admin"]
"""Looking; questions; sessions and code; everything."""
SCOPES: tuple[Scope, ...] = get_args(Scope)
PREFIX = "trlm_"
"""By which scanners for leaked secrets can know one."""
FILE_NAME = "keys.json"
_MOST_KEYS = 1000


@dataclass(frozen=True, slots=True)
class Key:
    """What is kept of a key."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    sha256: str
    created: float
    expires: float | None = None
    """Seconds since the epoch; None = never."""

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or "admin" in self.scopes

    def shown(self) -> dict[str, Any]:
        """Without its hash."""
        return {name: value for name, value in asdict(self).items() if name != "sha256"}


class Keys:
    """The keys of a data folder, in a file that only its owner can read. Read again whenever it has changed.

    Raises:
        KeysUnreadable: the file cannot be read or written.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.path = (folder or data_dir()).absolute() / FILE_NAME
        self._seen: tuple[int, int] | None = None
        self._keys: tuple[Key, ...] = ()

    def all(self) -> tuple[Key, ...]:
        """Those there are, the oldest first; those whose time is over, too."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            self._seen, self._keys = None, ()
            return ()
        mark = (found.st_mtime_ns, found.st_ino)
        if mark != self._seen:
            self._keys = self._read()
            self._seen = mark
        return self._keys

    def create(
        self, name: str, scopes: Iterable[Scope] = ("read", "ask", "exec"), days: float | None = None
    ) -> tuple[Key, str]:
        """A new key, and its text, which is shown this once.

        Raises:
            InvalidArgument: name, scopes or days cannot be.
        """
        wanted = tuple(dict.fromkeys(scopes))
        if not name.strip() or len(name) > 80 or not name.isprintable():
            raise InvalidArgument(
                f"{name[:80]!r} is no name for a key.", fix="Use 1 to 80 printable characters."
            )
        if not wanted or any(scope not in SCOPES for scope in wanted):
            raise InvalidArgument(
                f"A key's scopes are of: {', '.join(SCOPES)}.", fix="Give one or more of them."
            )
        if days is not None and not 0 < days <= 3650:
            raise InvalidArgument(f"days must be more than 0 and at most 3,650, not {days:g}.")
        text = PREFIX + secrets.token_urlsafe(32)
        now = time.time()
        key = Key(
            f"key-{secrets.token_hex(4)}",
            name,
            wanted,
            _hash(text),
            now,
            None if days is None else now + days * 86400,
        )
        with self._alone():
            if len(self.all()) >= _MOST_KEYS:
                raise InvalidArgument(
                    f"There are {_MOST_KEYS:,} keys already.", fix="Revoke one: `trlm keys revoke`."
                )
            self._write((*self.all(), key))
        return key, text

    def revoke(self, id: str) -> Key:
        """Takes effect with the next request.

        Raises:
            KeyNotFound: there is none of this id or name, or several.
        """
        with self._alone():
            found = [key for key in self.all() if id in (key.id, key.name)]
            if len(found) != 1:
                raise KeyNotFound(f"{len(found) or 'No'} keys are called {id[:80]!r}.")
            self._write(tuple(key for key in self.all() if key is not found[0]))
        return found[0]

    def find(self, text: str) -> Key | None:
        """The key that `text` is; None when it is none, or its time is over. Compared in constant time."""
        digest, found = _hash(text), None
        for key in self.all():
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return (
            None if found is None or (found.expires is not None and time.time() >= found.expires) else found
        )

    def _read(self) -> tuple[Key, ...]:
        try:
            table = json.loads(self.path.read_text(encoding="utf-8"))
            return tuple(Key(**{**each, "scopes": tuple(each["scopes"])}) for each in table["keys"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise KeysUnreadable(
                f"The keys in {self.path} cannot be read: {type(error).__name__}: {error}."
            ) from error

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """While no other process changes the keys: else who adds one could bring back one that was just revoked."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            lock = os.open(self.path.with_name(f"{FILE_NAME}.lock"), flags, 0o600)
        except OSError as error:
            raise KeysUnreadable(f"The keys in {self.path} cannot be written: {error}.") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._seen = None
            yield
        finally:
            os.close(lock)

    def _write(self, keys: tuple[Key, ...]) -> None:
        """Whole or not at all."""
        fresh = self.path.with_name(f"{FILE_NAME}.{secrets.token_hex(4)}")
        try:
            fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with open(fd, "w", encoding="utf-8") as file:
                json.dump({"schema_version": SCHEMA_VERSION, "keys": [asdict(key) for key in keys]}, file)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                fresh.unlink()
            raise KeysUnreadable(f"The keys in {self.path} cannot be written: {error}.") from error
        self._seen = None


def keys_to_json(keys: Iterable[Key]) -> dict[str, Any]:
    return {"schema_version": SCHEMA_VERSION, "keys": [key.shown() for key in keys]}


def _hash(text: str) -> str:
    """A key has 256 random bits: no slow hash is needed, as for a password."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
