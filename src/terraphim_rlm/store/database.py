"""The file of the journal: made, opened, checked, and its faults put into words."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shlex
import sqlite3
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from terraphim_rlm.core.errors import DiskFull, JournalCorrupt, JournalTooNew, JournalUnavailable, StoreError
from terraphim_rlm.store.blobs import sync_folder
from terraphim_rlm.store.migrations import APPLICATION_ID, MIGRATIONS, migrate, version
from terraphim_rlm.store.owners import Owners

FILE_NAME = "journal.db"
BUSY_SECONDS = 10.0
"""How long a transaction waits for other processes before it gives up."""
CHECKED_AT_OPEN = 1 << 20
"""Journals up to this many bytes get SQLite's quick check at every opening; larger ones in `verify`."""

Connect = Callable[..., sqlite3.Connection]
"""`sqlite3.connect`, or a double that fails on purpose."""


def open_for_writing(path: Path, owners: Owners, connect: Connect = sqlite3.connect) -> sqlite3.Connection:
    """The journal, made if there is none, migrated if it is old, in autocommit mode.

    Raises:
        StoreError: a leaf that says what is wrong and what to do.
    """
    with explained(path):
        if not path.exists():
            _create(path, owners, connect)
        check_header(path)
        db = connect(path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("PRAGMA journal_size_limit = 16777216")
            if check_version(db, path) < len(MIGRATIONS):
                migrate(db)
            if path.stat().st_size <= CHECKED_AT_OPEN:
                quick_check(db, path)
        except BaseException:
            db.close()
            raise
        return db


def open_for_reading(path: Path) -> sqlite3.Connection | None:
    """A read-only connection, or None when there is no journal. Works beside a writing process.

    Raises:
        StoreError: a leaf that says what is wrong and what to do.
    """
    with explained(path):
        if not path.exists():
            _refuse_orphaned_wal(path)
            return None
        check_header(path)
        db = _connect_read_only(path)
        try:
            old = check_version(db, path) < len(MIGRATIONS)
        except BaseException:
            db.close()
            raise
        if old:
            db.close()
            _migrate_for_reader(path)
            db = _connect_read_only(path)
        return db


def _connect_read_only(path: Path) -> sqlite3.Connection:
    # A journal that nobody writes, in a folder that we may not write, has no WAL to look into.
    alone = not os.access(path.parent, os.W_OK) and not path.with_name(path.name + "-wal").exists()
    uri = f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if alone else ''}"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)


def _migrate_for_reader(path: Path) -> None:
    owners = Owners(path.parent)
    try:
        open_for_writing(path, owners).close()
    finally:
        owners.close()


def _create(path: Path, owners: Owners, connect: Connect) -> None:
    """Makes the journal beside its place and renames it there: it is never seen half made or empty."""
    owners.lock_creation()
    beside = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        if path.exists():
            return
        _refuse_orphaned_wal(path)
        os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with contextlib.closing(connect(beside, isolation_level=None)) as db:
            db.execute("PRAGMA synchronous = OFF")  # one fsync at the end does for all
            db.execute("PRAGMA journal_mode = WAL")
            migrate(db)
        _sync_file(beside)
        beside.replace(path)
        sync_folder(path.parent)
    finally:
        for suffix in ("", "-wal", "-shm"):
            beside.with_name(beside.name + suffix).unlink(missing_ok=True)
        owners.unlock_creation()


def check_header(path: Path) -> None:
    """Looks at the first 100 bytes: ours, whole, and as long as it says.

    Raises:
        JournalCorrupt: it is not.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(100)
        size = os.fstat(file.fileno()).st_size
    if len(head) < 100:
        raise corrupt(path, f"it has {size} bytes, too few for a journal")
    if head[:16] != b"SQLite format 3\0":
        raise corrupt(path, "it is not an SQLite file")
    page, pages, application = (
        struct.unpack(form, head[at : at + struct.calcsize(form)])[0]
        for form, at in ((">H", 16), (">I", 28), (">I", 68))
    )
    if application != APPLICATION_ID:
        raise corrupt(path, "it is an SQLite file of another program")
    if (page == 1 or page >= 512) and (head[18], head[19]) == (2, 2):
        in_wal = _size(path.with_name(path.name + "-wal")) > 0
        if in_wal or size >= pages * (65536 if page == 1 else page):
            return
        raise corrupt(path, "its end is missing")
    raise corrupt(path, "its header is damaged")


def check_version(db: sqlite3.Connection, path: Path) -> int:
    """The journal's version.

    Raises:
        JournalTooNew: a newer version of this program wrote it.
    """
    found = version(db)
    if found > len(MIGRATIONS):
        raise JournalTooNew(
            f"The journal {path} has format {found}; this version knows formats up to {len(MIGRATIONS)}.",
            path=str(path),
            found=found,
            known=len(MIGRATIONS),
        )
    return found


def quick_check(db: sqlite3.Connection, path: Path) -> None:
    """SQLite's own check of the file's structure.

    Raises:
        JournalCorrupt: what it found first.
    """
    found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise corrupt(path, str(found).replace("\n", " ").strip("* "))


def corrupt(path: Path, why: str) -> JournalCorrupt:
    """The error for a damaged journal, with the command that moves it away and loses nothing."""
    folder = shlex.quote(str(path.parent))
    name = shlex.quote(path.name)
    return JournalCorrupt(
        f"The journal {path} is damaged: {why}. It was left as it is.",
        fix=f'Move it away; a new one is made at the next start:  d={folder}/damaged-$(date +%s) && mkdir "$d"'
        f' && mv {folder}/{name}* "$d"',
        path=str(path),
    )


def _refuse_orphaned_wal(path: Path) -> None:
    """A WAL without its journal would be played into the new one."""
    wal = path.with_name(path.name + "-wal")
    if _size(wal) > 0 and not path.exists():  # asked last: another process may have made both just now
        raise corrupt(path, f"the file is gone, but {wal.name} is there")


def _size(path: Path) -> int:
    """0 for a file that is not there, also when another process takes it away at this moment."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _sync_file(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns SQLite's and the system's errors into ours."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise explain(error, path) from error


def explain(error: Exception, path: Path) -> StoreError:
    """Our error for one of SQLite's or the system's."""
    if isinstance(error, OSError):
        return _explain_os(error, path)
    code = getattr(error, "sqlite_errorcode", 0)
    text = str(error)
    if code in _FULL or code & 0xFF == sqlite3.SQLITE_FULL:
        return DiskFull(f"The journal {path} could not grow: {text}.", path=str(path))
    primary = code & 0xFF
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return corrupt(path, text)
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return JournalUnavailable(
            f"Another process kept the journal {path} locked for {BUSY_SECONDS:g} seconds.",
            fix="Wait for the other process, or set TRLM_DATA to another folder.",
            path=str(path),
            busy=True,
        )
    return JournalUnavailable(f"The journal {path} cannot be used: {text}.", path=str(path), sqlite=code)


def _explain_os(error: OSError, path: Path) -> StoreError:
    text = f"{error.strerror or error}: {error.filename or path}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskFull(f"The journal {path} could not grow: {text}.", path=str(path))
    return JournalUnavailable(f"The journal {path} cannot be used: {text}.", path=str(path))


_FULL = frozenset({
    778,  # SQLITE_IOERR_WRITE: SQLite's word for a quota and for a file-size limit
    4874,  # SQLITE_IOERR_SHMSIZE: no space for the shared index
})  # fmt: skip
