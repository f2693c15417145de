"""Sessions in the journal: their tables, their history, and what becomes of those whose owner died."""

from __future__ import annotations

import json
import math
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from terraphim_rlm.core.clock import ManualClock
from terraphim_rlm.core.events import EventLog
from terraphim_rlm.core.ids import new_id
from terraphim_rlm.core.paths import data_dir
from terraphim_rlm.store.journal import Journal
from terraphim_rlm.store.migrations import MIGRATIONS, migrate
from terraphim_rlm.store.reader import JournalReader
from terraphim_rlm.store.session_reader import SessionReader, Wanted
from terraphim_rlm.store.verify import verify

pytestmark = pytest.mark.anyio


class Told:
    """A session's stream of events."""

    def __init__(self, journal: Journal, **data: Any) -> None:
        self.id = new_id("sess")
        self.log = EventLog(self.id, [journal.sink], ManualClock())
        self.tell("session.created", backend="bubblewrap", expires=1_700_001_800.0, **data)

    def tell(self, kind: Any, **data: Any) -> None:
        self.log.emit(kind, self.id, None, **data)

    def execute(self, code: str, status: str | None = "ok", **result: Any) -> str:
        execution = new_id("exec")
        self.tell("execution.started", execution_id=execution, language="python", code=code)
        if status is not None:
            self.tell("execution.finished", execution_id=execution, status=status, **result)
        return execution

    def snapshot(self, name: str) -> str:
        snapshot = new_id("snap")
        self.tell("snapshot.created", id=snapshot, name=name, variables=["x"])
        return snapshot


def reader() -> SessionReader:
    return SessionReader(data_dir() / "journal.db")


async def test_a_session_is_read_as_it_was_made_and_as_it_was_used() -> None:
    with Journal() as journal:
        told = Told(journal, name="work", resources={"memory_mb": 512}, packages=["numpy"], origin="sess-1", snapshot="snap-1")  # fmt: skip
        told.execute("1")
        told.execute("1/0", "exit_nonzero")
        told.tell("session.extended", expires=1_700_003_600.0, extensions=1)
        await journal.commit()
        with reader() as read:
            found = read.session(told.id)
    assert found is not None
    assert (found.status, found.name, found.backend, found.resources) == (
        "live",
        "work",
        "bubblewrap",
        {"memory_mb": 512},
    )
    assert (found.packages, found.origin, found.snapshot, found.once) == (
        ("numpy",),
        "sess-1",
        "snap-1",
        False,
    )
    assert (found.executions, found.failures) == (2, 1)
    assert (found.created, found.expires, found.extensions, found.ended) == (
        1_700_000_000.0,
        1_700_003_600.0,
        1,
        None,
    )


async def test_the_list_has_the_latest_first_and_leaves_out_what_was_made_for_one_execution() -> None:
    with Journal() as journal:
        told = [Told(journal) for _ in range(3)]
        once = Told(journal, once=True)
        told[0].tell("session.destroyed")
        await journal.commit()
        with reader() as read:
            by_age = sorted((each.id for each in told), reverse=True)
            assert [each.id for each in read.sessions(limit=10)] == by_age
            assert [each.id for each in read.sessions(limit=2)] == by_age[:2]
            assert [each.id for each in read.sessions(limit=10, status="destroyed")] == [told[0].id]
            assert len(read.sessions(limit=10, status="live")) == 2
            assert {each.id for each in read.sessions(limit=10, once=True)} == {once.id, *by_age}


async def test_history_is_newest_first_and_knows_failures_and_what_still_runs() -> None:
    with Journal() as journal:
        told, other = Told(journal), Told(journal)
        done = told.execute("1", stdout="1\n", exit_code=0, duration_ms={"run": 250.0}, state_after="kept")
        error = {"type": "ZeroDivisionError", "message": "division by zero", "traceback": "Traceback .."}
        failed = told.execute("1/0", "exit_nonzero", exit_code=1, error=error)
        late = told.execute("while True: pass", "timeout")
        runs = told.execute("2", None)
        elsewhere = other.execute("3")
        await journal.commit()
        with reader() as read:
            found = read.history(Wanted(told.id))
            assert [each.id for each in found] == [runs, late, failed, done]
            assert [each.status for each in found] == ["running", "timeout", "exit_nonzero", "ok"]
            assert (found[3].stdout, found[3].exit_code, found[3].seconds) == ("1\n", 0, 0.25)
            assert found[2].error == error
            assert [each.id for each in read.history(Wanted(told.id, failures=True))] == [late, failed]
            assert [each.id for each in read.history(Wanted(told.id, limit=2))] == [runs, late]
            assert {each.id for each in read.history(Wanted())} == {runs, late, failed, done, elsewhere}


async def test_long_code_and_output_are_cut_in_the_list_and_whole_when_asked_for() -> None:
    code, output = "x = 1\n" * 20_000, "o" * 100_000
    with Journal() as journal:
        told = Told(journal)
        told.execute(code, stdout=output)
        told.execute("1", None)
        await journal.commit()
        with reader() as read:
            running, long = read.history(Wanted(told.id, whole=True))
            assert (len(long.code), len(long.stdout)) == (2000, 2000)
            assert (long.whole["code"], long.whole["result"]["stdout"]) == (code, output)
            assert running.whole["result"] is None
            assert read.history(Wanted(told.id))[1].whole == {}


async def test_an_execution_ends_once_whoever_tells_it_first() -> None:
    with Journal() as journal:
        told = Told(journal)
        execution = told.execute("1", None)
        told.tell("session.expired")
        told.tell("execution.finished", execution_id=execution, status="ok")
        told.tell("session.destroyed")
        await journal.commit()
        with reader() as read:
            session = read.session(told.id)
            assert session is not None
            assert (session.status, session.failures) == ("expired", 1)
            assert [each.status for each in read.history(Wanted(told.id))] == ["interrupted"]


async def test_snapshots_are_kept_until_they_are_forgotten_or_their_session_ends() -> None:
    with Journal() as journal:
        told = Told(journal)
        first, second, third = (told.snapshot(name) for name in ("a", "b", "c"))
        told.tell("snapshot.rolled_back", id=first, name="a")
        told.tell("snapshot.forgotten", id=second, name="b")
        told.tell("snapshot.lost", id=third, name="c", why="ended by code in the sandbox")
        await journal.commit()
        with reader() as read:
            found = read.snapshots(told.id)
            assert [(each.name, each.status, each.rollbacks) for each in found] == [
                ("a", "kept", 1),
                ("b", "forgotten", 0),
                ("c", "lost", 0),
            ]
            assert found[0].data["variables"] == ["x"]
        told.tell("session.destroyed")
        await journal.commit()
        with reader() as read:
            assert [each.status for each in read.snapshots(told.id)] == ["lost", "forgotten", "lost"]


async def test_of_several_sessions_with_a_name_the_living_one_is_meant() -> None:
    with Journal() as journal:
        old, living = Told(journal, name="work"), Told(journal, name="work")
        newer = Told(journal, name="work")
        for each in (old, newer):
            each.tell("session.destroyed")
        await journal.commit()
        with reader() as read:
            found = read.named("work")
            assert found is not None
            assert found.id == living.id
            assert read.named("nothing") is None
            assert read.beginning(living.id[:6], limit=5)[0].id == living.id
            assert len(read.beginning(living.id[:6], limit=5)) == 3
            assert [each.id for each in read.beginning(old.id, limit=5)] == [old.id]


OWNER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from test_session_tables import Told
from terraphim_rlm.store.journal import Journal
journal = Journal()
told = Told(journal)
told.execute("1")
told.execute("while True: pass", None)
told.snapshot("a")
journal.flush()
print(told.id, flush=True)
time.sleep(60)
"""


def owner() -> tuple[subprocess.Popen[str], str]:
    child = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(Path(__file__).parent)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    return child, child.stdout.readline().strip()


def test_a_session_whose_owner_was_killed_reads_as_lost_at_once_and_the_next_writer_records_it() -> None:
    child, session = owner()
    try:
        with Journal() as living:
            living.open()
            assert living.statistics().orphans.sessions == ()
            with reader() as read:
                assert [each.status for each in read.sessions(limit=5)] == ["live"]
    finally:
        child.kill()
        child.communicate()
    with reader() as read:
        assert [each.status for each in read.sessions(limit=5, status="lost")] == ["lost"]
        assert read.sessions(limit=5, status="live") == []
        assert [each.status for each in read.history(Wanted(session))] == ["interrupted", "ok"]
        assert len(read.history(Wanted(session, failures=True))) == 1
        assert [each.status for each in read.snapshots(session)] == ["lost"]
    with Journal() as next_one:
        next_one.open()
        assert next_one.statistics().orphans.sessions == (session,)
        with sqlite3.connect(next_one.path) as db:
            found = db.execute("SELECT type, data FROM events ORDER BY n DESC LIMIT 1").fetchone()
            table = db.execute("SELECT s.status, e.status FROM sessions s JOIN executions e ON e.run = s.id").fetchall()  # fmt: skip
        db.close()
    assert found[0] == "session.lost"
    assert "died" in json.loads(found[1])["why"]
    assert set(table) == {("lost", "ok"), ("lost", "interrupted")}
    with Journal() as later:
        later.open()
        assert later.statistics().orphans.sessions == ()
    assert verify(data_dir() / "journal.db").problems == ()


def test_the_tables_of_sessions_are_what_their_events_say(own_data_folder: Path) -> None:
    with Journal() as journal:
        told = Told(journal, name="a")
        told.execute("1")
        told.snapshot("s")
        told.execute("2", None)
        told.tell("session.expired")
    assert verify(journal.path).problems == ()
    with sqlite3.connect(journal.path) as db:
        db.execute("UPDATE sessions SET failures = 0")
    db.close()
    assert verify(journal.path).problems == ("The table sessions is not what the events say.",)


def test_hostile_fields_neither_stop_the_journal_nor_the_list() -> None:
    with Journal() as journal:
        told = Told(
            journal, name=7, resources=[1], packages={"a": 1}, origin=b"x", snapshot=["y"], once="yes"
        )
        told.tell("session.extended", expires=math.nan, extensions=-3)
        told.execute("\ud800" * 5, "\ud800", exit_code=10**40, stdout=5, error="no", duration_ms={"run": "long"})  # fmt: skip
        told.tell("execution.started", execution_id=7)
        told.tell("execution.finished", execution_id="never started", status="ok")
        told.tell("snapshot.created", id=None)
        told.tell("snapshot.lost", id="not there")
    with reader() as read:
        (found,) = read.sessions(limit=5)
        (record,) = read.history(Wanted(told.id))
    assert (found.name, found.resources, found.packages, found.extensions) == (None, {}, (), 0)
    assert found.expires == 1_700_001_800.0
    assert (record.code, record.status, record.exit_code, record.stdout) == ("?????", "?", None, "")
    assert verify(journal.path).problems == ()


def test_a_journal_of_the_first_version_gets_the_new_tables_and_keeps_its_runs(own_data_folder: Path) -> None:
    with Journal() as journal:
        log, node = EventLog(new_id("run"), [journal.sink]), new_id("node")
        log.emit("run.started", node, None, question="Why?", model="scripted")
        log.emit("cell.started", node, None, turn=1, execution_id="exec-1", language="python", code="1")
        log.emit("run.finished", node, None, status="done", termination="final")
    old = own_data_folder / "old.db"
    with sqlite3.connect(old, isolation_level=None) as to, sqlite3.connect(journal.path) as db:
        to.execute("PRAGMA journal_mode = WAL")
        migrate(to, MIGRATIONS[:1])
        for table in ("events", "runs", "ledger"):
            rows = db.execute(f"SELECT * FROM {table}").fetchall()
            to.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)
        rows = db.execute("SELECT id, run, node, turn, language, status, started, finished FROM executions").fetchall()  # fmt: skip
        to.executemany("INSERT INTO executions VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    to.close()
    db.close()
    for path in own_data_folder.glob("journal.db*"):
        path.unlink()
    for path in own_data_folder.glob("old.db*"):
        path.rename(path.with_name(path.name.replace("old", "journal")))
    assert verify(journal.path).problems == ()
    with JournalReader(journal.path) as runs:
        assert [each.status for each in runs.runs(limit=5)] == ["done"]
    with reader() as read:
        assert read.sessions(limit=5) == []
        assert read.history(Wanted()) == []
