"""The journal: what it keeps, in what order, for whom, and what it says when it cannot."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from terraphim_rlm.core.clock import ManualClock
from terraphim_rlm.core.errors import DiskFull, InternalError, JournalUnavailable, StoreError
from terraphim_rlm.core.events import Event, EventLog
from terraphim_rlm.core.ids import new_id
from terraphim_rlm.core.ledger import Ledger
from terraphim_rlm.core.values import Limits, Usage
from terraphim_rlm.store.journal import Journal
from terraphim_rlm.store.leases import JournalLeases
from terraphim_rlm.store.shown import Shown

pytestmark = pytest.mark.anyio


def rows(path: Path, query: str, *values: Any) -> list[Any]:
    with sqlite3.connect(path) as db:
        found = db.execute(query, values).fetchall()
    db.close()
    return found


def start_run(journal: Journal) -> tuple[EventLog, str]:
    log, node = EventLog(new_id("run"), [journal.sink], ManualClock()), new_id("node")
    log.emit("run.started", node, None, question="What?", model="scripted")
    return log, node


async def test_what_was_committed_is_in_the_file_while_the_journal_is_open(own_data_folder: Path) -> None:
    with Journal() as journal:
        log, node = start_run(journal)
        await journal.commit()
        found = rows(journal.path, "SELECT run, node, seq, type FROM events")
        assert found == [(log.run, node, 1, "run.started")]
        assert journal.path == own_data_folder / "journal.db"


def test_making_a_journal_touches_no_disk(own_data_folder: Path) -> None:
    Journal().close()
    assert not own_data_folder.exists()


async def test_a_commit_with_nothing_new_costs_no_transaction() -> None:
    with Journal() as journal:
        start_run(journal)
        await journal.commit()
        before = journal.statistics()
        await journal.commit()
        assert journal.statistics() == before


async def test_many_waiters_share_a_commit() -> None:
    with Journal() as journal:

        async def run() -> None:
            start_run(journal)
            await journal.commit()

        await asyncio.gather(*(run() for _ in range(200)))
        assert journal.statistics().durable == 200
        assert journal.statistics().syncs <= 20


def test_closing_writes_what_is_pending_and_is_idempotent() -> None:
    journal = Journal()
    start_run(journal)
    journal.close()
    journal.close()
    assert rows(journal.path, "SELECT count(*) FROM events") == [(1,)]


async def test_a_closed_journal_says_so_and_counts_what_it_drops() -> None:
    journal = Journal()
    journal.close()
    start_run(journal)
    with pytest.raises(JournalUnavailable, match="closed"):
        await journal.commit()
    assert journal.statistics().dropped == 1


async def test_data_is_private_whatever_the_umask(own_data_folder: Path) -> None:
    before = os.umask(0)
    try:
        with Journal() as journal:
            log, node = start_run(journal)
            log.emit("cell.finished", node, None, execution_id="exec-1", stdout="x" * 100_000)
            await journal.commit()
            modes = {p.stat().st_mode & 0o777 for p in own_data_folder.rglob("*") if p.is_file()}
            folders = {p.stat().st_mode & 0o777 for p in own_data_folder.rglob("*") if p.is_dir()}
    finally:
        os.umask(before)
    assert (modes, folders, own_data_folder.stat().st_mode & 0o777) == ({0o600}, {0o700}, 0o700)


async def test_the_tables_follow_the_events() -> None:
    with Journal() as journal:
        log, node = start_run(journal)
        usage = Usage(tokens_in=10, tokens_out=5, calls=1, microdollars=3)
        log.emit("turn.reply", node, None, turn=1, text="FINAL(4)", usage=usage)
        log.emit("cell.started", node, None, turn=1, execution_id="exec-1", language="python", code="1")
        log.emit("cell.finished", node, None, execution_id="exec-1", status="ok", stdout="")
        log.emit("call.finished", new_id("node"), node, call_id="c", ok=True, usage=usage)
        log.emit("answer", node, None, text="4", confidence="unverified", termination="final", partial=False)
        await journal.commit()
        assert rows(journal.path, "SELECT status, turns, answer, termination FROM runs") == [
            ("running", 1, "4", "final")
        ]
        assert rows(journal.path, "SELECT tokens_in, tokens_out, calls, microdollars FROM ledger") == [
            (20, 10, 2, 6)
        ]
        assert rows(journal.path, "SELECT id, status FROM executions") == [("exec-1", "ok")]
        log.emit("run.finished", node, None, status="done", termination="final", usage=usage, seconds=2.5)
        await journal.commit()
        assert rows(journal.path, "SELECT status, seconds FROM runs") == [("done", 2.5)]
        assert rows(journal.path, "SELECT tokens_in, calls FROM ledger") == [(10, 1)]


async def test_a_finished_run_stays_finished() -> None:
    with Journal() as journal:
        log, node = start_run(journal)
        log.emit("run.finished", node, None, status="cancelled", termination="cancelled")
        log.emit("run.finished", node, None, status="done", termination="final")
        await journal.commit()
        assert rows(journal.path, "SELECT status, termination FROM runs") == [("cancelled", "cancelled")]


async def test_events_cannot_be_rewritten() -> None:
    with Journal() as journal:
        start_run(journal)
        await journal.commit()
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            rows(journal.path, "UPDATE events SET data = '{}'")


async def test_a_lease_is_in_the_file_before_anything_is_spent_against_it() -> None:
    with Journal() as journal:
        log, node = start_run(journal)
        ledger = Ledger(Limits(tokens=8_000), lease=JournalLeases(journal, log, node))
        await journal.commit()
        syncs = journal.statistics().syncs
        for _ in range(79):
            hold = ledger.root.reserve(tokens=100)
            leased = rows(journal.path, "SELECT leased_tokens FROM ledger")[0][0]
            assert ledger.usage.tokens + hold.tokens <= leased
            hold.settle(Usage(tokens_in=100))
        assert journal.statistics().syncs - syncs <= 16


async def test_a_bug_in_the_writer_is_told_to_every_waiter_and_blamed_on_us(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    journal = Journal()
    journal.open()
    monkeypatch.setattr("terraphim_rlm.store.writer.encode", broken)
    start_run(journal)
    found = await asyncio.gather(*(journal.commit() for _ in range(3)), return_exceptions=True)
    assert [type(error) for error in found] == [InternalError] * 3
    assert len({id(error) for error in found}) == 3
    with pytest.raises(InternalError):
        journal.close()


async def test_a_machine_without_a_thread_to_spare_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", no_thread)
    journal = Journal()
    start_run(journal)
    with pytest.raises(JournalUnavailable, match="thread") as caught:
        await journal.commit()
    assert "ulimit" in caught.value.fix
    assert journal.statistics().dropped == 1


async def test_a_journal_that_never_gets_space_gives_up_instead_of_filling_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object, **__: object) -> None:
        raise DiskFull("full")

    monkeypatch.setattr("terraphim_rlm.store.journal.MAX_PENDING", 2)
    journal = Journal()
    journal.open()
    monkeypatch.setattr("terraphim_rlm.store.writer.Writer.write", full)
    for _ in range(5):
        start_run(journal)
        with pytest.raises(DiskFull):
            await journal.commit()
    assert journal.statistics().appended == 3
    assert journal.statistics().dropped == 2
    with pytest.raises(DiskFull):
        journal.close()


async def test_a_cancelled_wait_leaves_the_journal_whole() -> None:
    with Journal() as journal:
        start_run(journal)
        task = asyncio.create_task(journal.commit())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        start_run(journal)
        await journal.commit()
        assert journal.statistics().durable == 2


async def test_a_face_is_shown_an_event_when_it_is_stored_and_a_record_when_it_is_durable(
    tmp_path: Path,
) -> None:
    seen: list[tuple[str, bool, bool]] = []
    with Journal(tmp_path / "journal.db") as journal:

        def sink(event: Event) -> None:
            with contextlib.closing(sqlite3.connect(tmp_path / "journal.db")) as db:
                stored = db.execute("SELECT 1 FROM events WHERE id = ?", (event.id,)).fetchone()
            seen.append((event.type, stored is not None, journal.durable >= event.seq))

        with Shown(journal, [sink]) as shown:
            log = EventLog(new_id("run"), [shown])
            log.emit("cell.output", "node-1", None)
            assert seen == []
            await journal.commit()
            log.emit("cell.finished", "node-1", None)
            while len(seen) < 2:
                await asyncio.sleep(0)
            log.emit("cell.output", "node-1", None)
    assert [each[0] for each in seen] == ["cell.output", "cell.finished", "cell.output"]
    assert seen[:2] == [("cell.output", True, True), ("cell.finished", True, True)]


async def test_faces_are_shown_what_a_broken_journal_could_not_store_when_the_run_ends(
    tmp_path: Path,
) -> None:
    (tmp_path / "journal.db").write_bytes(b"no journal" * 50)
    seen: list[str] = []
    journal = Journal(tmp_path / "journal.db")
    with Shown(journal, [lambda event: seen.append(event.type)]) as shown:
        EventLog(new_id("run"), [shown]).emit("run.started", "node-1", None)
        with pytest.raises(StoreError):
            await journal.commit()
        assert seen == []
    assert seen == ["run.started"]
