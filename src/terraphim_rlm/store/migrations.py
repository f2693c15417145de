"""The journal's tables, as steps from one version to the next.

The version is SQLite's `user_version`. A step is never edited once released; a new one is added.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

APPLICATION_ID = 0x54524C4D
"""Marks the file as ours ("TRLM")."""

Step = tuple[str, ...]

MIGRATIONS: tuple[Step, ...] = (
    (
        f"PRAGMA application_id = {APPLICATION_ID}",
        # `n` is the order of arrival; clocks jump, it does not. `blobs` maps a field of `data` that was
        # too long to its blob. `crc` covers the row, because SQLite has no checksums of its own.
        """CREATE TABLE events (
            n INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            run TEXT NOT NULL,
            node TEXT NOT NULL,
            parent TEXT,
            seq INTEGER NOT NULL,
            time REAL NOT NULL,
            type TEXT NOT NULL,
            data TEXT NOT NULL,
            blobs TEXT,
            crc INTEGER NOT NULL
        )""",
        "CREATE INDEX events_of_run ON events (run, seq)",
        """CREATE TRIGGER events_stay BEFORE UPDATE ON events
            BEGIN SELECT RAISE(ABORT, 'events are append-only'); END""",
        # `owner` names the byte of journal.owners that the run's process keeps locked while it lives.
        """CREATE TABLE runs (
            id TEXT PRIMARY KEY,
            owner INTEGER NOT NULL,
            node TEXT NOT NULL,
            status TEXT NOT NULL,
            started REAL NOT NULL,
            finished REAL,
            seconds REAL,
            question TEXT NOT NULL,
            model TEXT NOT NULL,
            turns INTEGER NOT NULL DEFAULT 0,
            termination TEXT,
            confidence TEXT,
            partial INTEGER NOT NULL DEFAULT 0,
            answer TEXT,
            error TEXT
        ) WITHOUT ROWID""",
        "CREATE INDEX runs_open ON runs (owner) WHERE finished IS NULL",
        """CREATE TABLE executions (
            id TEXT PRIMARY KEY,
            run TEXT NOT NULL,
            node TEXT NOT NULL,
            turn INTEGER,
            language TEXT,
            status TEXT,
            started REAL,
            finished REAL
        ) WITHOUT ROWID""",
        "CREATE INDEX executions_of_run ON executions (run)",
        # What replies are known to have cost, and the totals last leased.
        """CREATE TABLE ledger (
            run TEXT PRIMARY KEY,
            tokens_in INTEGER NOT NULL DEFAULT 0,
            tokens_cached INTEGER NOT NULL DEFAULT 0,
            tokens_out INTEGER NOT NULL DEFAULT 0,
            tokens_reasoning INTEGER NOT NULL DEFAULT 0,
            calls INTEGER NOT NULL DEFAULT 0,
            microdollars INTEGER NOT NULL DEFAULT 0,
            estimated INTEGER NOT NULL DEFAULT 0,
            leased_tokens INTEGER NOT NULL DEFAULT 0,
            leased_microdollars INTEGER NOT NULL DEFAULT 0
        ) WITHOUT ROWID""",
        # One row that is touched when a durable commit has nothing else to write.
        "CREATE TABLE syncs (n INTEGER NOT NULL)",
        "INSERT INTO syncs VALUES (0)",
    ),
    (
        # Of executions in sessions; a run's cells leave these empty, their events have it all. `begun` and `done`
        # are the `seq` of the two events.
        *(
            f"ALTER TABLE executions ADD COLUMN {column}"
            for column in (
                "code TEXT",
                "exit_code INTEGER",
                "seconds REAL",
                "stdout TEXT",
                "stderr TEXT",
                "error TEXT",
                "state_after TEXT",
                "begun INTEGER",
                "done INTEGER",
            )
        ),
        """CREATE TABLE sessions (
            id TEXT PRIMARY KEY,
            owner INTEGER NOT NULL,
            status TEXT NOT NULL,
            name TEXT,
            once INTEGER NOT NULL,
            backend TEXT NOT NULL,
            resources TEXT NOT NULL,
            packages TEXT NOT NULL,
            origin TEXT,
            snapshot TEXT,
            created REAL NOT NULL,
            expires REAL NOT NULL,
            extensions INTEGER NOT NULL DEFAULT 0,
            ended REAL,
            executions INTEGER NOT NULL DEFAULT 0,
            failures INTEGER NOT NULL DEFAULT 0,
            used REAL NOT NULL
        ) WITHOUT ROWID""",
        "CREATE INDEX sessions_open ON sessions (owner) WHERE ended IS NULL",
        "CREATE INDEX sessions_named ON sessions (name) WHERE name IS NOT NULL",
        """CREATE TABLE snapshots (
            id TEXT PRIMARY KEY,
            run TEXT NOT NULL,
            seq INTEGER NOT NULL,
            name TEXT NOT NULL,
            status TEXT NOT NULL,
            created REAL NOT NULL,
            ended REAL,
            rollbacks INTEGER NOT NULL DEFAULT 0,
            data TEXT NOT NULL
        ) WITHOUT ROWID""",
        "CREATE INDEX snapshots_of_run ON snapshots (run)",
    ),
)


def version(db: sqlite3.Connection) -> int:
    """The journal's version; 0 = no tables yet."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def migrate(db: sqlite3.Connection, migrations: Sequence[Step] = MIGRATIONS) -> None:
    """Brings an older journal up to date, wholly or not at all. `db` is in autocommit mode.

    Raises:
        sqlite3.Error: it failed and the journal is as it was.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        for step in migrations[version(db) :]:
            for statement in step:
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {len(migrations)}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
