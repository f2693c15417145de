"""The one connection of a process that writes to the journal, used from one thread."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from terraphim_rlm.core.clock import Clock
from terraphim_rlm.core.events import Event
from terraphim_rlm.store.blobs import Blobs
from terraphim_rlm.store.database import Connect, explained, open_for_writing
from terraphim_rlm.store.encode import encode
from terraphim_rlm.store.owners import Owners
from terraphim_rlm.store.projections import fold
from terraphim_rlm.store.recovery import end_orphans, insert

_FREE = "SELECT finished IS NOT NULL AND (SELECT max(seq) FROM events e WHERE e.run = r.id) = ? FROM runs r WHERE r.id = ?"


class Writer:
    """Opens the journal, ends what dead processes left open, and writes groups of events.

    Raises:
        StoreError: a leaf that says what is wrong and what to do.
    """

    def __init__(self, path: Path, blobs: Blobs, clock: Clock, connect: Connect) -> None:
        self._path = path
        self._blobs = blobs
        self._synchronous = "NORMAL"
        with explained(path), contextlib.ExitStack() as undo:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._owners = Owners(path.parent)
            undo.callback(self._owners.close)
            self._db = open_for_writing(path, self._owners, connect)
            undo.callback(self._db.close)
            self.orphans = end_orphans(self._db, self._owners, clock)
            undo.pop_all()

    def write(self, events: Sequence[Event], *, durable: bool) -> None:
        """Stores `events` and what follows from them, all or nothing.

        With `durable`, these and everything written before are on the disk when it returns.

        Raises:
            StoreError: nothing of it is stored.
        """
        with explained(self._path):
            rows = [(event, *encode(event, self._blobs.put)) for event in events]
            self._set_synchronous("FULL" if durable else "NORMAL")
            self._db.execute("BEGIN IMMEDIATE")
            try:
                for event, row, data in rows:
                    if insert(self._db, row):
                        fold(self._db, event, data, self._owners.id)
                if not rows:  # an empty transaction would not wait for the disk
                    self._db.execute("UPDATE syncs SET n = n + 1")
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    with contextlib.suppress(sqlite3.Error):  # the first error is the news
                        self._db.execute("ROLLBACK")
                raise

    def claim(self, event: Event) -> bool:
        """Stores `event` durably if its run has ended and nothing has followed since; else stores nothing.

        Raises:
            StoreError: nothing of it is stored.
        """
        with explained(self._path):
            row, data = encode(event, self._blobs.put)
            self._set_synchronous("FULL")
            self._db.execute("BEGIN IMMEDIATE")
            try:
                free = self._db.execute(_FREE, (event.seq - 1, event.run)).fetchone()
                if free is None or not free[0]:
                    self._db.execute("ROLLBACK")
                    return False
                insert(self._db, row)
                fold(self._db, event, data, self._owners.id)
                self._db.execute("COMMIT")
                return True
            except BaseException:
                if self._db.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        self._db.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Closes the file and gives up ownership. Errors of the last checkpoint lose nothing."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()
        self._owners.close()

    def _set_synchronous(self, level: str) -> None:
        if level != self._synchronous:
            self._db.execute(f"PRAGMA synchronous = {level}")
            self._synchronous = level
