"""What goes wrong with disks and processes: nothing acknowledged is lost, and every error says what to do."""

from __future__ import annotations

import functools
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from terraphim_rlm.core.errors import DiskFull, JournalCorrupt, JournalTooNew, JournalUnavailable, StoreError
from terraphim_rlm.core.events import EventLog
from terraphim_rlm.core.ids import new_id
from terraphim_rlm.service.runs import list_runs, show_run
from terraphim_rlm.store import database
from terraphim_rlm.store.journal import Journal
from terraphim_rlm.store.migrations import MIGRATIONS, migrate
from terraphim_rlm.store.verify import verify

pytestmark = pytest.mark.anyio

WRITER = """
import asyncio, sys
from terraphim_rlm.core.events import EventLog
from terraphim_rlm.core.ids import new_id
from terraphim_rlm.core.ledger import Ledger
from terraphim_rlm.core.values import Limits
from terraphim_rlm.store.journal import Journal
from terraphim_rlm.store.leases import JournalLeases

async def main(count):
    with Journal() as journal:
        log, node = EventLog(new_id("run"), [journal.sink]), new_id("node")
        log.emit("run.started", node, None, question="What?", model="scripted")
        ledger = Ledger(Limits(tokens=8_000), lease=JournalLeases(journal, log, node))
        for number in range(count):
            log.emit("cell.output", node, None, execution_id="e", stream="stdout", text="x" * 70_000)
            event = log.emit("turn.parsed", node, None, turn=number)
            await journal.commit()
            print(log.run, event.seq, flush=True)
        log.emit("run.finished", node, None, status="done", termination="final")

asyncio.run(main(int(sys.argv[1])))
"""


def start_writer(count: int) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(count)], stdout=subprocess.PIPE, text=True)


def read_ack(writer: subprocess.Popen[str]) -> tuple[str, int]:
    assert writer.stdout is not None
    run, seq = writer.stdout.readline().split()
    return run, int(seq)


def kill(writer: subprocess.Popen[str]) -> list[tuple[str, int]]:
    """Kills it at once; returns what it had still acknowledged."""
    writer.send_signal(signal.SIGKILL)
    rest = writer.communicate()[0]
    return [(run, int(seq)) for run, _, seq in (line.partition(" ") for line in rest.splitlines())]


def stored(path: Path) -> set[tuple[str, int]]:
    with sqlite3.connect(path) as db:
        found = db.execute("SELECT run, seq FROM events").fetchall()
    db.close()
    assert len(found) == len(set(found))
    return set(found)


def emit_run(journal: Journal, **finished: Any) -> EventLog:
    log, node = EventLog(new_id("run"), [journal.sink]), new_id("node")
    log.emit("run.started", node, None, question="What is it?", model="scripted")
    log.emit("run.finished", node, None, **({"status": "done", "termination": "final"} | finished))
    return log


def test_killing_the_writer_at_random_moments_loses_nothing_that_was_acknowledged(
    own_data_folder: Path,
) -> None:
    dice = random.Random(1)
    acknowledged: set[tuple[str, int]] = set()
    for _ in range(8):
        writer = start_writer(10_000)
        for _ in range(dice.randrange(1, 30)):
            acknowledged.add(read_ack(writer))
        acknowledged.update(kill(writer))
        assert {run.status for run in list_runs()} == {"interrupted"}
    journal = own_data_folder / "journal.db"
    assert acknowledged <= stored(journal)
    with Journal() as opened:
        opened.open()
        assert len(opened.statistics().orphans.runs) == 1  # each writer recorded the end of the one before
    assert verify(journal).problems == ()


def test_what_a_killed_run_had_leased_counts_as_spent() -> None:
    writer = start_writer(10_000)
    run, _ = read_ack(writer)
    alive = list_runs()[0]
    with Journal() as other:
        other.open()
        assert other.statistics().orphans.runs == ()
    assert (alive.status, alive.spent_tokens) == ("running", 0)
    kill(writer)
    seen = list_runs()[0]
    assert (seen.status, seen.spent_tokens) == ("interrupted", 1000)
    with Journal() as next_one:
        next_one.open()
        assert next_one.statistics().orphans.runs == (run,)
    recorded = show_run(run)
    assert (recorded.summary.status, recorded.summary.spent_tokens) == ("interrupted", 1000)
    assert recorded.nodes[0].events[-1]["data"]["spent"] == {"tokens": 1000, "microdollars": 0}
    assert list_runs(status="interrupted") == [recorded.summary]


def test_a_program_that_ends_without_closing_the_journal_loses_no_event(own_data_folder: Path) -> None:
    program = WRITER.replace("with Journal() as journal:", "for journal in [Journal()]:")
    program = program.replace("await journal.commit()", "pass")
    subprocess.run([sys.executable, "-c", program, "5"], check=True, capture_output=True, timeout=60)
    assert list_runs()[0].status == "done"


def test_a_forked_child_is_told_that_the_journal_is_not_its_own() -> None:
    program = (
        "import os\n"
        "from terraphim_rlm.store.journal import Journal\n"
        "from terraphim_rlm.core.errors import JournalUnavailable\n"
        "with Journal() as journal:\n"
        "    journal.open()\n"
        "    if (child := os.fork()) == 0:\n"
        "        try: journal.flush()\n"
        "        except JournalUnavailable as error: os._exit(7 if 'forked' in error.message else 8)\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, timeout=60, text=True
    )
    assert done.stdout == "7\n"


def test_two_processes_that_make_and_write_the_journal_at_once_both_succeed(own_data_folder: Path) -> None:
    writers = [start_writer(20), start_writer(20)]
    acknowledged = {
        (line.split()[0], int(line.split()[1]))
        for writer in writers
        for line in writer.communicate(timeout=60)[0].splitlines()
    }
    assert [writer.returncode for writer in writers] == [0, 0]
    assert len(acknowledged) == 40
    assert acknowledged <= stored(own_data_folder / "journal.db")
    assert [run.status for run in list_runs()] == ["done", "done"]


class FailsOnce(sqlite3.Connection):
    """Fails at the `at`-th statement of the process with the SQLite error `code`."""

    at = 0
    count = 0
    code = sqlite3.SQLITE_FULL

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        cls = type(self)
        cls.count += 1
        if cls.count == cls.at:
            if sql == "COMMIT":
                super().execute("ROLLBACK")  # as SQLite does when a commit finds no space
            error = sqlite3.OperationalError("injected")
            error.sqlite_errorcode = cls.code
            raise error
        return super().execute(sql, *values)


@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY])
async def test_whichever_write_fails_nothing_acknowledged_is_lost(tmp_path: Path, code: int) -> None:
    FailsOnce.at, FailsOnce.code = 0, code
    failures: list[StoreError] = []
    while True:
        FailsOnce.at += 1
        FailsOnce.count = 0
        folder = tmp_path / str(FailsOnce.at)
        path = folder / "journal.db"
        journal = Journal(path, connect=functools.partial(sqlite3.connect, factory=FailsOnce))
        acknowledged: list[str] = []
        pending: list[str] = []
        for _ in range(3):
            pending.append(emit_run(journal).run)
            try:
                await journal.commit()
            except StoreError as error:
                failures.append(error)
            else:
                acknowledged += pending
                pending.clear()
        try:
            journal.close()
        except StoreError:
            assert pending
        if FailsOnce.count < FailsOnce.at:
            break
        if path.exists():
            assert {run for run, _ in stored(path)} >= set(acknowledged)
            assert verify(path).problems == ()
        else:
            assert not acknowledged
        shutil.rmtree(folder, ignore_errors=True)
    assert len(failures) >= FailsOnce.at // 2
    assert {isinstance(error, DiskFull) for error in failures} == {code == sqlite3.SQLITE_FULL}


async def test_after_a_failed_sync_nothing_is_acknowledged_any_more(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db", connect=functools.partial(sqlite3.connect, factory=FailsOnce))
    FailsOnce.at, FailsOnce.code = 0, 1034  # SQLITE_IOERR_FSYNC
    journal.open()
    FailsOnce.at = FailsOnce.count + 1
    for _ in range(3):
        emit_run(journal)
        with pytest.raises(JournalUnavailable):
            await journal.commit()
    assert journal.statistics().durable == 0
    assert journal.statistics().dropped == 4
    with pytest.raises(JournalUnavailable):
        journal.close()


@pytest.mark.parametrize(
    ("code", "leaf"), [(sqlite3.SQLITE_FULL, DiskFull), (sqlite3.SQLITE_BUSY, JournalUnavailable)]
)
async def test_events_that_met_a_full_disk_or_a_locked_file_are_written_later(
    tmp_path: Path, code: int, leaf: type[StoreError]
) -> None:
    journal = Journal(tmp_path / "journal.db", connect=functools.partial(sqlite3.connect, factory=FailsOnce))
    FailsOnce.at, FailsOnce.code = 0, code
    journal.open()
    FailsOnce.at = FailsOnce.count + 2
    run = emit_run(journal).run
    with pytest.raises(leaf) as caught:
        await journal.commit()
    assert "TRLM_DATA" in caught.value.fix
    await journal.commit()
    journal.close()
    assert stored(journal.path) == {(run, 1), (run, 2)}


FULL_DISK = """
import asyncio, os, resource, sys
from pathlib import Path
from terraphim_rlm.core.errors import DiskFull
from terraphim_rlm.core.events import EventLog
from terraphim_rlm.store.journal import Journal
from terraphim_rlm.store.verify import verify

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

async def main(folder, by_limit):
    ballast = folder / "ballast"
    journal = Journal(folder / "data" / "journal.db")
    log = EventLog("run-1", [journal.sink])
    log.emit("run.started", "node-1", None, question="", model="")
    await journal.commit()
    if by_limit:
        limit(200_000)
    else:
        with open(ballast, "wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)): pass
            except OSError: pass
    acknowledged, refused = 1, 0
    for number in range(40):
        text = "x" * (20_000 if number % 2 else 300_000)
        log.emit("cell.output", "node-1", None, execution_id="e", stream="stdout", text=text)
        try:
            await journal.commit()
            acknowledged = number + 2
        except DiskFull:
            refused += 1
    limit(resource.RLIM_INFINITY)
    ballast.unlink(missing_ok=True)
    await journal.commit()
    journal.close()
    found = verify(journal.path)
    print(refused > 0, found.events, found.problems)

asyncio.run(main(Path(sys.argv[1]), sys.argv[2] == "limit"))
"""


def full_disk(prefix: list[str], folder: Path, how: str) -> str:
    done = subprocess.run(
        [*prefix, sys.executable, "-c", FULL_DISK, str(folder), how],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_file_size_limit_refuses_commits_and_loses_nothing(tmp_path: Path) -> None:
    assert full_disk([], tmp_path, "limit") == "True 41 ()\n"


mounts = pytest.mark.skipif(
    os.geteuid() != 0
    or shutil.which("unshare") is None
    or subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode != 0,
    reason="needs root that may mount",
)


@mounts
def test_a_full_disk_refuses_commits_and_loses_nothing(tmp_path: Path) -> None:
    script = 'mount -t tmpfs -o size=8m none "$0" && exec "$@"'
    assert full_disk(["unshare", "-m", "sh", "-c", script, str(tmp_path)], tmp_path, "ballast") == (
        "True 41 ()\n"
    )


@mounts
def test_a_read_only_folder_is_named_with_the_way_out(tmp_path: Path) -> None:
    program = (
        "from terraphim_rlm.store.journal import Journal\n"
        "from terraphim_rlm.service.runs import list_runs\n"
        "from terraphim_rlm.core.errors import RlmError\n"
        "print(len(list_runs()))\n"
        "try: Journal().open()\n"
        "except RlmError as error: print(error.to_json())\n"
    )
    with Journal(tmp_path / "journal.db") as journal:
        emit_run(journal)
    script = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, str(tmp_path), sys.executable, "-c", program],
        capture_output=True, text=True, timeout=60, check=False, env=os.environ | {"TRLM_DATA": str(tmp_path)},
    )  # fmt: skip
    count, said = done.stdout.splitlines()
    assert count == "1", done.stderr
    assert "E804" in said
    assert "Read-only file system" in said
    assert "set TRLM_DATA to another folder" in said


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalUnavailable, match="File exists"):
        Journal(tmp_path / "file" / "journal.db").open()


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda data: b"", "0 bytes"),
        (lambda data: data[:60], "60 bytes"),
        (lambda data: b"# notes\n" * 100, "not an SQLite file"),
        (lambda data: data[:-4096], "end is missing"),
        (lambda data: data[:68] + b"\0\0\0\0" + data[72:], "another program"),
        (lambda data: data[:16] + b"\0\3" + data[18:], "header"),
        (lambda data: data[:4096] + bytes(4096) + data[8192:], "damaged"),
    ],
)
def test_a_damaged_journal_is_left_alone_and_the_fix_moves_it_away(
    own_data_folder: Path, damage: Any, word: str
) -> None:
    with Journal() as journal:
        emit_run(journal)
    harmed = damage(journal.path.read_bytes())
    journal.path.write_bytes(harmed)
    for use in (Journal().open, list_runs):
        if use is list_runs and word == "damaged":
            continue  # a reader meets damage inside the file only where it reads
        with pytest.raises(JournalCorrupt, match=word) as caught:
            use()
        assert str(journal.path) in caught.value.message
        assert journal.path.read_bytes() == harmed
    with pytest.raises(JournalCorrupt) as caught:
        Journal().open()
    command = caught.value.fix.split(":  ")[1]
    subprocess.run(["sh", "-c", command], check=True)
    with Journal() as fresh:
        emit_run(fresh)
    assert len(list_runs()) == 1
    moved = list(own_data_folder.glob("damaged-*/journal.db"))
    assert [each.read_bytes() for each in moved] == [harmed]


def test_a_log_without_its_journal_is_not_played_into_a_new_one(own_data_folder: Path) -> None:
    own_data_folder.mkdir()
    (own_data_folder / "journal.db-wal").write_bytes(b"frames")
    for use in (Journal().open, list_runs):
        with pytest.raises(JournalCorrupt, match="gone"):
            use()


def test_no_flipped_byte_is_passed_over_in_silence(own_data_folder: Path) -> None:
    with Journal() as journal:
        runs = [emit_run(journal).run for _ in range(60)]  # most pages hold something
    whole = journal.path.read_bytes()
    expected = [(summary, show_run(summary.id)) for summary in list_runs(100)]
    assert len(expected) == len(runs)
    dice = random.Random(7)
    found = 0
    for _ in range(50):
        at = dice.randrange(len(whole))
        journal.path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << dice.randrange(8))]) + whole[at + 1 :])
        for suffix in ("-wal", "-shm"):
            journal.path.with_name(f"journal.db{suffix}").unlink(missing_ok=True)
        try:
            if verify(journal.path).problems:
                found += 1
                continue
            assert [(summary, show_run(summary.id)) for summary in list_runs(100)] == expected
        except StoreError:
            found += 1
    assert found > 10


def test_a_newer_journal_is_refused_and_untouched(own_data_folder: Path) -> None:
    with Journal() as journal:
        emit_run(journal)
    with sqlite3.connect(journal.path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    before = journal.path.read_bytes()
    for use in (Journal().open, list_runs):
        with pytest.raises(JournalTooNew, match="99"):
            use()
    assert journal.path.read_bytes() == before


def test_an_older_journal_is_migrated_by_whoever_opens_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal() as journal:
        run = emit_run(journal).run
    newer = (*MIGRATIONS, ("ALTER TABLE runs ADD COLUMN colour TEXT NOT NULL DEFAULT 'red'",))
    monkeypatch.setattr(database, "MIGRATIONS", newer)
    monkeypatch.setattr(database, "migrate", functools.partial(migrate, migrations=newer))
    assert [summary.id for summary in list_runs()] == [run]
    with sqlite3.connect(journal.path) as db:
        assert db.execute("SELECT colour FROM runs").fetchall() == [("red",)]
        assert db.execute("PRAGMA user_version").fetchone() == (len(newer),)
    db.close()


def test_a_migration_that_fails_half_way_changes_nothing(own_data_folder: Path) -> None:
    with Journal() as journal:
        emit_run(journal)
    db = sqlite3.connect(journal.path, isolation_level=None)
    schema = db.execute("SELECT sql FROM sqlite_master").fetchall()
    steps = (*MIGRATIONS, ("CREATE TABLE half (x)", "CREATE TABLE nonsense"))
    with pytest.raises(sqlite3.OperationalError):
        migrate(db, steps)
    assert db.execute("SELECT sql FROM sqlite_master").fetchall() == schema
    assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    db.close()
