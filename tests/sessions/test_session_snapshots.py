"""Snapshots of sessions: every step is in the journal, and branches are sessions of their own."""

from __future__ import annotations

import asyncio

import pytest
from session_kit import house, new, said

from terraphim_rlm.core.errors import DiskFull, InvalidArgument, SessionLimit, SnapshotNotFound
from terraphim_rlm.service import session_records
from terraphim_rlm.service.sessions import Sessions
from terraphim_rlm.store.journal import Journal

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]


async def test_a_mistake_is_undone_and_the_history_keeps_it() -> None:
    async with house() as sessions:
        session = await new(sessions)
        await said(sessions, session, "x = 1; open('a', 'w').write('good')")
        async with sessions.using(session) as live:
            before = await live.snapshots.create("before")
        await said(sessions, session, "x = 2; open('a', 'w').write('bad'); open('b', 'w').write('new')")
        async with sessions.using(session) as live:
            changed = await live.snapshots.diff("before")
            assert (changed.added, changed.changed) == (("/work/b",), ("/work/a",))
            await live.snapshots.rollback("before")
        assert await said(sessions, session, "import os; print(x, open('a').read(), os.listdir())") == "1 good ['a']\n"  # fmt: skip
        (record,) = session_records.snapshots(session)
        assert (record.id, record.name, record.status, record.rollbacks) == (before.id, "before", "kept", 1)
        assert len(session_records.history(session)) == 3, "a rollback takes nothing out of the history"


async def test_single_files_come_back_and_forgotten_snapshots_do_not() -> None:
    async with house() as sessions:
        session = await new(sessions)
        await said(sessions, session, "for name in 'ab': open(name, 'w').write('old')")
        async with sessions.using(session) as live:
            await live.snapshots.create("s")
        await said(sessions, session, "for name in 'ab': open(name, 'w').write('new')")
        async with sessions.using(session) as live:
            assert await live.snapshots.restore_files("s", ["a", "nowhere"]) == ["/work/nowhere"]
        assert await said(sessions, session, "print(open('a').read(), open('b').read())") == "old new\n"
        async with sessions.using(session) as live:
            await live.snapshots.forget("s")
            with pytest.raises(SnapshotNotFound):
                await live.snapshots.rollback("s")
        assert [(each.status, each.rollbacks) for each in session_records.snapshots(session)] == [("forgotten", 1)]  # fmt: skip


async def test_branches_are_sessions_that_go_their_own_ways_and_outlive_their_origin() -> None:
    async with house() as sessions:
        session = await new(sessions, "origin")
        await said(sessions, session, "x = 10")
        async with sessions.using(session) as live:
            await live.snapshots.create("start")
        await said(sessions, session, "x = 99")
        made = await sessions.branch("origin", 3, "start")
        assert [(each.origin, each.snapshot, each.name) for each in made] == [(session, "start", None)] * 3
        await asyncio.gather(*(said(sessions, each.id, f"x += {n}") for n, each in enumerate(made)))
        await sessions.destroy("origin")
        assert [await said(sessions, each.id, "print(x)") for each in made] == ["10\n", "11\n", "12\n"]
        await sessions.destroy(made[0].id)
        assert await said(sessions, made[1].id, "print(x)") == "11\n"


@pytest.mark.parametrize("count", [0, -1, 65, True])
async def test_an_absurd_number_of_branches_is_refused(count: int) -> None:
    async with house() as sessions:
        session = await new(sessions)
        with pytest.raises(InvalidArgument):
            await sessions.branch(session, count)
        assert sessions.statistics().live == 1


async def test_branches_count_as_sessions() -> None:
    async with house(most=3) as sessions:
        session = await new(sessions)
        with pytest.raises(SessionLimit):
            await sessions.branch(session, 3)
        await sessions.branch(session, 2)
        assert sessions.statistics().live == 3


class NoRoom(Journal):
    full = False

    async def commit(self) -> None:
        if self.full:
            raise DiskFull("There is no space.")
        await super().commit()


async def test_a_snapshot_that_cannot_be_written_down_is_not_kept() -> None:
    with NoRoom() as journal:
        async with Sessions(journal) as sessions:
            session = await new(sessions)
            live = await sessions.living(session)
            journal.full = True
            with pytest.raises(DiskFull):
                await live.snapshots.create("s")
            journal.full = False
            assert live.box.snapshots() == ()
            await journal.commit()
            assert [each.status for each in session_records.snapshots(session)] == ["forgotten"]


async def test_the_snapshots_of_a_session_that_ended_are_lost() -> None:
    async with house() as sessions:
        session = await new(sessions)
        live = await sessions.living(session)
        await live.snapshots.create("s")
        await sessions.destroy(session)
        assert [each.status for each in session_records.snapshots(session)] == ["lost"]
