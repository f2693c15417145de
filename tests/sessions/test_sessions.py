"""Sessions over real sandboxes: what they keep, how long, and what they say when they are gone."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from session_kit import house, new, said

from terraphim_rlm.core.clock import SYSTEM_CLOCK, ManualClock
from terraphim_rlm.core.errors import (
    BackendUnavailable,
    DiskFull,
    InvalidArgument,
    SandboxBusy,
    SessionExpired,
    SessionLimit,
    SessionLost,
    SessionNotFound,
)
from terraphim_rlm.core.values import Resources
from terraphim_rlm.service import session_records
from terraphim_rlm.service.execute import ExecuteRequest, execute
from terraphim_rlm.service.executions import Execution, check
from terraphim_rlm.service.sessions import NewSession, Sessions
from terraphim_rlm.store.journal import Journal
from terraphim_rlm.store.verify import verify

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]


async def test_a_session_keeps_variables_and_files_between_executions_and_from_other_sessions() -> None:
    async with house() as sessions:
        one, other = await new(sessions), await new(sessions)
        await said(sessions, one, "x = 41; open('note', 'w').write('mine')")
        assert await said(sessions, one, "print(x + 1, open('note').read())") == "42 mine\n"
        assert await said(sessions, one, "cat note", "sh") == "mine"
        result = await sessions.execute(other, Execution("import os; print('x' in globals(), os.listdir())"))
        assert result.stdout == "False []\n"


async def test_every_execution_is_in_the_history_when_its_result_is_returned() -> None:
    async with house() as sessions:
        session = await new(sessions)
        done = await sessions.execute(session, Execution("print('seen')"))
        failed = await sessions.execute(session, Execution("1/0"))
        found = session_records.history(session)
        assert [each.id for each in found] == [failed.execution_id, done.execution_id]
        assert (found[1].code, found[1].stdout, found[1].status) == ("print('seen')", "seen\n", "ok")
        assert found[0].error is not None
        assert found[0].error["type"] == "ZeroDivisionError"
        assert [each.id for each in session_records.history(session, failures=True)] == [failed.execution_id]


async def test_what_cannot_be_asked_for_leaves_no_record() -> None:
    async with house() as sessions:
        session = await new(sessions)
        for wrong in (
            Execution("1", "cobol"),
            Execution("1", env={"LD_PRELOAD": "x"}),
            Execution("1", wait=-1.0),
        ):
            with pytest.raises(InvalidArgument):
                await sessions.execute(session, wrong)
        assert session_records.history(session) == []


async def test_a_session_expires_after_half_an_hour_and_takes_its_sandbox_along() -> None:
    clock = ManualClock()
    async with house(clock) as sessions:
        session, other = await new(sessions), await new(sessions)
        live = await sessions.living(session)
        clock.advance(1799)
        await sessions.expire_due()
        assert live.box.is_open
        clock.advance(1)
        with pytest.raises(SessionExpired):
            await sessions.execute(session, Execution("1"))
        assert not live.box.is_open
        await sessions.expire_due()
        assert sessions.statistics().live == 0
        assert {each.status for each in session_records.list_sessions()} == {"expired"}
        with pytest.raises(SessionExpired, match=other):
            await sessions.extend(other)


async def test_a_session_is_extended_three_times_and_no_more() -> None:
    clock = ManualClock()
    async with house(clock) as sessions:
        session = await new(sessions)
        for count in (1, 2, 3):
            extended = await sessions.extend(session)
            assert (extended.extensions, extended.expires - extended.created) == (count, 1800.0 * (count + 1))
        with pytest.raises(SessionLimit, match="3 times"):
            await sessions.extend(session)
        clock.advance(4 * 1800 - 1)
        assert await said(sessions, session, "print(1)") == "1\n"
        clock.advance(1)
        with pytest.raises(SessionExpired):
            await sessions.living(session)


async def test_expiry_comes_by_itself() -> None:
    async with house(SYSTEM_CLOCK, seconds=0.3) as sessions:
        first = await sessions.living(await new(sessions))
        second = await sessions.living(await new(sessions))
        await asyncio.wait_for(asyncio.gather(first.ended.wait(), second.ended.wait()), 10)
        assert [each.status for each in session_records.list_sessions()] == ["expired", "expired"]


async def test_what_runs_when_a_session_ends_is_written_down_as_interrupted() -> None:
    async with house() as sessions:
        session = await new(sessions)
        begun = asyncio.Event()
        running = asyncio.ensure_future(
            sessions.execute(
                session,
                Execution("print('begun', flush=True)\nwhile True: pass"),
                on_output=lambda *_: begun.set(),
            )
        )
        await begun.wait()
        await sessions.destroy(session)
        result = await running
        assert (result.status, result.state_after, result.stdout) == ("interrupted", "lost", "begun\n")
        assert any("session ended" in note for note in result.notes)
        (record,) = session_records.history(session)
        assert (record.status, record.stdout) == ("interrupted", "begun\n")


async def test_a_stopped_execution_gives_its_result_and_the_session_goes_on() -> None:
    async with house() as sessions:
        session = await new(sessions)
        await said(sessions, session, "x = 7")
        ids: list[str] = []
        begun = asyncio.Event()
        running = asyncio.ensure_future(
            sessions.execute(
                session,
                Execution("print('begun', flush=True)\nwhile True: pass"),
                on_output=lambda *_: begun.set(),
                on_start=ids.append,
            )
        )
        await begun.wait()
        sessions.stop(ids[0])
        result = await running
        assert (result.status, result.stdout, result.execution_id) == ("cancelled", "begun\n", ids[0])
        assert await said(sessions, session, "print(x)") == "7\n"
        with pytest.raises(SessionNotFound, match="in flight"):
            sessions.stop(ids[0])
        assert [each.status for each in session_records.history(session)] == ["ok", "cancelled", "ok"]


async def test_an_execution_whose_caller_leaves_is_stopped_and_written_down() -> None:
    async with house() as sessions:
        session = await new(sessions)
        begun = asyncio.Event()
        running = asyncio.ensure_future(
            sessions.execute(
                session,
                Execution("print('begun', flush=True)\nwhile True: pass"),
                on_output=lambda *_: begun.set(),
            )
        )
        await begun.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert [each.status for each in session_records.history(session)] == ["cancelled"]
        assert await said(sessions, session, "print(1)") == "1\n"


async def test_a_busy_session_refuses_who_will_not_wait_and_says_so_in_its_history() -> None:
    async with house() as sessions:
        session = await new(sessions)
        begun = asyncio.Event()
        running = asyncio.ensure_future(
            sessions.execute(
                session,
                Execution("print(1, flush=True)\nwhile True: pass"),
                on_output=lambda *_: begun.set(),
            )
        )
        await begun.wait()
        with pytest.raises(SandboxBusy):
            await sessions.execute(session, Execution("2", wait=0))
        await sessions.destroy(session)
        await running
        assert [each.status for each in session_records.history(session)] == ["cancelled", "interrupted"]


async def test_a_sandbox_that_ends_by_itself_is_a_lost_session() -> None:
    async with house() as sessions:
        session, idle = await new(sessions), await new(sessions)
        live = await sessions.living(idle)
        kept: Any = live.box.machine
        os.kill(kept.guest.link.kept.pid, 9)
        await kept.guest.link.ended()
        with pytest.raises(SessionLost):
            await sessions.execute(idle, Execution("1"))
        assert await said(sessions, session, "print(1)") == "1\n"
        assert session_records.find_session(idle).status == "lost"


async def test_ids_names_and_unique_beginnings_are_understood() -> None:
    async with house() as sessions:
        session = await new(sessions, "work")
        other = await new(sessions)
        for word in ("work", session, session.lower(), session[5:], f"  {session}  "):
            assert (await sessions.living(word)).id == session
        with pytest.raises(InvalidArgument, match="Several") as caught:
            await sessions.living(session[:7])
        assert other in caught.value.message
        await sessions.destroy(other)
        assert (await sessions.living(session[:7])).id == session, "a living one wins over one that has ended"
        with pytest.raises(SessionNotFound) as missing:
            await sessions.living("wrok")
        assert "work" in missing.value.fix
        with pytest.raises(SessionNotFound, match="destroyed"):
            await sessions.living(other)


@pytest.mark.parametrize(
    "name", ["", "Work", "a b", "../x", "-a", "x" * 65, "sess-1", "a\n", "\ud800", "work"]
)
async def test_a_name_that_is_none_or_taken_is_refused(name: str) -> None:
    async with house() as sessions:
        await new(sessions, "work")
        with pytest.raises(InvalidArgument):
            await new(sessions, name)
        assert sessions.statistics().live == 1


async def test_a_name_is_free_again_when_its_session_has_ended_or_was_never_made() -> None:
    async def broken(name: str) -> Any:
        raise BackendUnavailable("none here")

    async with house() as sessions:
        await sessions.destroy(await new(sessions, "work"))
        again = await new(sessions, "work")
        assert session_records.find_session("work").id == again
    async with house(choose=broken) as sessions:
        for _ in range(2):
            with pytest.raises(BackendUnavailable):
                await new(sessions, "other")


async def test_a_name_stays_taken_when_the_caller_leaves_before_he_is_told_of_his_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with house() as sessions:

        async def left(_: str) -> Any:
            raise asyncio.CancelledError

        with monkeypatch.context() as patch:
            patch.setattr(sessions, "show", left)
            with pytest.raises(asyncio.CancelledError):
                await new(sessions, "work")
        assert sessions.statistics().live == 1
        with pytest.raises(InvalidArgument, match="There is a session called 'work'"):
            await new(sessions, "work")


async def test_there_are_no_more_sessions_than_allowed_even_when_they_are_made_at_once() -> None:
    async with house(most=2) as sessions:
        found = await asyncio.gather(*(new(sessions) for _ in range(4)), return_exceptions=True)
        assert sorted(type(each).__name__ for each in found) == ["SessionLimit", "SessionLimit", "str", "str"]
        await sessions.destroy(next(each for each in found if isinstance(each, str)))
        await new(sessions)


async def test_leaving_ends_every_sandbox_and_says_why() -> None:
    async with house() as sessions:
        lives = [await sessions.living(await new(sessions)) for _ in range(3)]
    assert not any(live.box.is_open for live in lives)
    assert {each.status for each in session_records.list_sessions()} == {"lost"}


async def test_two_who_destroy_a_session_at_once_both_return_when_it_is_gone() -> None:
    async with house() as sessions:
        session = await new(sessions)
        live = await sessions.living(session)
        found = await asyncio.gather(
            sessions.destroy(session), sessions.destroy(session), return_exceptions=True
        )
        assert not live.box.is_open
        assert [getattr(each, "status", "destroyed") for each in found] == ["destroyed", "destroyed"]


async def test_one_session_may_be_meant_without_a_name_and_several_are_listed() -> None:
    async with house() as sessions:
        with pytest.raises(SessionNotFound, match="none lives"):
            session_records.only_session()
        first = await new(sessions, "first")
        assert session_records.only_session().id == first
        await new(sessions, "second")
        with pytest.raises(InvalidArgument, match="2 live: second, first"):
            session_records.only_session()


class NoRoom(Journal):
    """A journal that cannot make anything durable from now on."""

    full = False

    async def commit(self) -> None:
        if self.full:
            raise DiskFull("There is no space.")
        await super().commit()


async def test_what_cannot_be_written_down_is_not_run_and_no_session_is_made_of_it() -> None:
    with NoRoom() as journal:
        async with Sessions(journal) as sessions:
            session = await new(sessions)
            journal.full = True
            with pytest.raises(DiskFull):
                await sessions.execute(session, Execution("open('done', 'w')"))
            with pytest.raises(DiskFull):
                await new(sessions)
            journal.full = False
            assert sessions.statistics().live == 1
            assert await said(sessions, session, "import os; print(os.listdir())") == "[]\n"
            await journal.commit()
            assert [each.status for each in session_records.history(session)] == ["ok", "cancelled"]
            assert [each.status for each in session_records.list_sessions()] == ["lost", "live"]


async def test_resources_are_the_sessions_own() -> None:
    async with house() as sessions:
        made = await sessions.create(NewSession(resources=Resources(disk_mb=8)))
        result = await sessions.execute(
            made.id, Execution("for name in 'ab': open(name, 'wb').write(bytes(5_000_000))")
        )
        assert result.status == "disk_full"
        assert made.resources["disk_mb"] == 8


async def test_code_run_without_a_session_is_in_the_history_too(own_data_folder: Path) -> None:
    result = await execute(ExecuteRequest(Execution("print(6 * 7)")))
    assert (result.status, result.stdout) == ("ok", "42\n")
    (record,) = session_records.history()
    assert (record.id, record.code, record.stdout) == (result.execution_id, "print(6 * 7)", "42\n")
    assert session_records.list_sessions() == []
    (session,) = session_records.list_sessions(once=True)
    assert (session.status, session.id) == ("destroyed", record.session)
    assert verify(own_data_folder / "journal.db").problems == ()


@pytest.mark.parametrize("seconds", [0.0, 1e300])
async def test_a_time_that_cannot_be_is_refused_with_both_bounds(seconds: float) -> None:
    with pytest.raises(InvalidArgument, match=r"more than 0 and at most 31,536,000 seconds, not "):
        check(Execution("1", timeout=seconds))


async def test_a_refused_number_of_sessions_is_named() -> None:
    async with house(most=2) as sessions:
        session = await new(sessions)
        with pytest.raises(SessionLimit, match="5 more sessions were asked for; there are 1, and 2 may live"):
            await sessions.branch(session, 5)
