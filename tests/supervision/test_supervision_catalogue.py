"""Group L of the attack catalogue: what supervision holds against. The rest of it is in the suite beside this one."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from puppets import CRASH, NORMAL, Stage, states

from terraphim_rlm.core.errors import ChildError
from terraphim_rlm.supervision.children import Ignored, Link, Stopped, linked, process, task
from terraphim_rlm.supervision.reports import Report
from terraphim_rlm.supervision.spec import ChildSpec, Flags, Health
from terraphim_rlm.supervision.supervisor import Supervisor

SLEEPS = ["sleep", "1000"]
ENDS = {
    "normal return": (["true"], None),
    "shutdown": (SLEEPS, signal.SIGTERM),
    "failure": (["false"], None),
    "kill": (SLEEPS, signal.SIGKILL),
    "SIGSEGV": (SLEEPS, signal.SIGSEGV),
}
ABNORMAL = {"failure", "kill", "SIGSEGV"}


async def until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@pytest.mark.parametrize("end", ENDS)
async def test_l06_a_process_is_restarted_by_how_it_ended(end: str, restart: Any) -> None:
    argv, number = ENDS[end]
    reports: list[Report] = []
    spec = ChildSpec("p", process(argv), restart=restart)
    flags = Flags(intensity=3, period=600)
    again = restart == "permanent" or (restart == "transient" and end in ABNORMAL)
    async with Supervisor([spec], flags, on_report=reports.append) as supervisor:
        if number is not None:
            pid = supervisor.which_children()[0].pid
            assert pid is not None
            os.kill(pid, number)
        told = "restarting" if again else "exited"
        await until(lambda: any(each.what == told for each in reports))
        exits = [each.exit for each in reports if each.what == "exited" and each.exit]
        assert exits[0].is_abnormal == (end in ABNORMAL)
        if not again:
            await supervisor.settled()
            assert states(supervisor) == ({"p": "down"} if restart == "transient" else {})


@pytest.mark.parametrize("end", ["ours", "its own", "the guardian's"])
async def test_a_process_child_leaves_no_orphan_whichever_way_it_ends(tmp_path: Path, end: str) -> None:
    """Grandchildren in sessions of their own, whose parent is gone, included."""
    noted = tmp_path / "pids"
    script = f"for i in 1 2; do setsid sh -c 'sleep 1000 & echo $! >> {noted}; sleep 1000' & done; sleep 1000"
    spec = ChildSpec("p", process(["sh", "-c", script]), restart="temporary")
    async with Supervisor([spec]) as supervisor:
        await until(lambda: noted.exists() and len(noted.read_text().split()) == 2)
        pid = supervisor.which_children()[0].pid
        assert pid is not None
        if end == "its own":
            os.kill(pid, signal.SIGKILL)
            await until(lambda: not supervisor.which_children())
        elif end == "the guardian's":
            os.kill(int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]), signal.SIGKILL)
            await until(lambda: not supervisor.which_children())
    left = [pid, *map(int, noted.read_text().split())]
    await until(lambda: not any(map(alive, left)))


OWNER = """
import asyncio, sys
from terraphim_rlm.supervision.children import process
from terraphim_rlm.supervision.spec import ChildSpec
from terraphim_rlm.supervision.supervisor import Supervisor
async def main():
    script = f"setsid sleep 1000 & echo $! > {sys.argv[1]}; exec sleep 1000"
    async with Supervisor([ChildSpec("p", process(["sh", "-c", script]))]) as supervisor:
        print(supervisor.which_children()[0].pid, flush=True)
        await supervisor.wait()
asyncio.run(main())
"""


def test_processes_end_with_their_supervisors_process_even_when_that_is_killed(tmp_path: Path) -> None:
    noted = tmp_path / "pid"
    argv = [sys.executable, "-c", OWNER, str(noted)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as owner:
        try:
            assert owner.stdout is not None
            pids = [int(owner.stdout.readline())]
            deadline = time.monotonic() + 20
            while not (noted.exists() and noted.read_text().endswith("\n")) and time.monotonic() < deadline:
                time.sleep(0.01)
            pids.append(int(noted.read_text()))
        finally:
            owner.kill()
    deadline = time.monotonic() + 20
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(alive, pids))


async def test_a_program_that_cannot_be_executed_is_a_start_that_failed() -> None:
    supervisor = Supervisor([ChildSpec("p", process(["/nowhere/program"]))])
    with pytest.raises(ChildError, match="No such file"):
        await supervisor.start()


async def test_l03_a_process_that_ignores_sigterm_is_killed_when_its_time_is_over() -> None:
    reports: list[Report] = []
    script = "trap '' TERM; echo; while :; do sleep 1000; done"
    spec = ChildSpec("p", process(["sh", "-c", script]), shutdown=0.3)
    async with Supervisor([spec], on_report=reports.append):
        await asyncio.sleep(0.2)  # until the shell has set its trap; too early only ends it the quick way
        began = time.monotonic()
    assert 0.2 < time.monotonic() - began < 8
    assert [each.what for each in reports if each.exit] == ["shutdown_error"]


async def test_l05_a_task_that_swallows_its_cancellation_is_given_up_and_reported_and_the_stop_is_bounded() -> (
    None
):
    free = asyncio.Event()
    reports: list[Report] = []

    async def stubborn() -> None:
        while not free.is_set():
            with suppress(asyncio.CancelledError):
                await free.wait()

    specs = [ChildSpec(f"s{each}", task(stubborn), shutdown=0.1) for each in range(4)]
    supervisor = Supervisor(specs, on_report=reports.append)
    await supervisor.start()
    began = time.monotonic()
    await supervisor.stop()
    assert time.monotonic() - began < 4 * 0.1 + 1 + 3
    assert [each.child for each in reports if each.what == "abandoned"] == ["s3", "s2", "s1", "s0"]
    assert supervisor.statistics().abandoned == 4
    free.set()


async def test_l07_exactly_so_many_restarts_within_the_period_are_borne(stage: Stage) -> None:
    async with stage.supervisor(stage.spec("a"), intensity=3, period=10) as supervisor:
        for _ in range(3):
            stage.puppets["a"].end(CRASH)
            await supervisor.settled()
        stage.clock.advance(10)  # exactly a period old: it still counts
        assert supervisor.statistics().restarts_in_period == 3
        stage.clock.advance(1)
        for _ in range(3):
            stage.puppets["a"].end(CRASH)
            await supervisor.settled()
        assert states(supervisor) == {"a": "running"}
        stage.clock.advance(10)
        stage.puppets["a"].end(CRASH)
        assert (await supervisor.wait()).kind == "shutdown"


async def test_l07_the_window_slides_it_does_not_begin_anew_with_each_restart(stage: Stage) -> None:
    async with stage.supervisor(stage.spec("a"), intensity=2, period=10) as supervisor:
        for _ in range(20):
            stage.puppets["a"].end(CRASH)
            await supervisor.settled()
            stage.clock.advance(6)
        assert supervisor.statistics().restarts == 20


async def test_l07_a_jump_of_the_wall_clock_has_no_effect(stage: Stage) -> None:
    supervisor = stage.supervisor(stage.spec("a"), intensity=1, period=10)
    await supervisor.start()
    stage.puppets["a"].end(CRASH)
    await supervisor.settled()
    stage.clock._wall += 1e9
    stage.puppets["a"].end(CRASH)
    assert "reached_max" in (await supervisor.wait()).why


async def test_l07_with_intensity_0_the_first_crash_ends_it(stage: Stage) -> None:
    supervisor = stage.supervisor(stage.spec("a"), stage.spec("b", restart="temporary"), intensity=0)
    await supervisor.start()
    stage.puppets["b"].end(CRASH)
    await supervisor.settled()
    assert states(supervisor) == {"a": "running"}
    stage.puppets["a"].end(NORMAL)
    assert (await supervisor.wait()).kind == "shutdown"


async def test_l17_a_child_that_crashes_while_it_is_ended_is_reported_and_the_others_are_ended(
    stage: Stage,
) -> None:
    supervisor = stage.supervisor(*map(stage.spec, "abc"))
    await supervisor.start()
    stage.puppets["b"].last = CRASH
    await supervisor.stop()
    assert stage.took()[3:] == ["ask c", "ask b", "ask a"]
    assert [(each.child, str(each.exit)) for each in stage.told("shutdown_error")] == [
        ("b", "error: crashed")
    ]


async def test_l19_a_listener_that_raises_hurts_nobody(stage: Stage) -> None:
    def broken(report: Report) -> None:
        raise RuntimeError("no disk to log on")

    supervisor = Supervisor([stage.spec("a")], Flags(), on_report=broken)
    async with supervisor:
        stage.puppets["a"].end(CRASH)
        await supervisor.settled()
        assert states(supervisor) == {"a": "running"}
        assert supervisor.statistics().failed_reports >= 3


BLOCKED = """
import asyncio, ctypes, sys, time
from terraphim_rlm.supervision.watchdog import Watchdog
async def main():
    with Watchdog(0.5):
        await asyncio.sleep(1.2)
        print("in time", flush=True)
        {block}
asyncio.run(main())
"""


@pytest.mark.parametrize("block", ["time.sleep(60)", "ctypes.PyDLL(None).sleep(60)"])
def test_l18_a_process_whose_loop_stands_still_is_ended_also_when_code_holds_the_interpreter(
    block: str,
) -> None:
    began = time.monotonic()
    code = BLOCKED.format(block=block)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, done.stdout) == (1, "in time\n")
    assert "Timeout" in done.stderr
    assert "in main" in done.stderr
    assert time.monotonic() - began < 30


async def test_a_linked_task_holds_the_start_of_the_next_until_it_is_ready() -> None:
    log: list[str] = []

    async def first(link: Link) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        log.append("first ready")
        link.ready()
        await link.stop()
        log.append("first ended")

    async def second() -> None:
        log.append("second")
        await asyncio.Event().wait()

    async with Supervisor([ChildSpec("1", linked(first)), ChildSpec("2", task(second))]):
        await asyncio.sleep(0)
        assert log == ["first ready", "second"]
    assert log[-1] == "first ended"


async def test_a_linked_task_that_ends_before_it_is_ready_has_failed_to_start() -> None:
    async def raises(link: Link) -> None:
        raise RuntimeError("no socket")

    async def returns(link: Link) -> None: ...

    for work, words in ((raises, "no socket"), (returns, "before it was ready")):
        with pytest.raises(ChildError, match=words):
            await Supervisor([ChildSpec("a", linked(work))]).start()

    async def ignores(link: Link) -> None:
        raise Ignored

    async with Supervisor([ChildSpec("a", linked(ignores))]) as supervisor:
        assert states(supervisor) == {"a": "down"}


ENDINGS = [(Stopped("done"), False), (RuntimeError("broken"), True), (asyncio.CancelledError(), True)]


@pytest.mark.parametrize("restart", ["permanent", "transient"])
@pytest.mark.parametrize(
    ("raised", "abnormal"), ENDINGS, ids=["in good order", "a crash", "cancelled by somebody"]
)
async def test_a_task_is_restarted_by_how_it_ended(
    raised: BaseException, abnormal: bool, restart: Any
) -> None:
    runs = 0
    again = asyncio.Event()

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise raised
        again.set()
        await asyncio.Event().wait()

    async with Supervisor([ChildSpec("a", task(work), restart=restart)]) as supervisor:
        if abnormal or restart == "permanent":
            async with asyncio.timeout(10):
                await again.wait()
        else:
            await until(lambda: states(supervisor) == {"a": "down"})


async def test_a_cancelled_owner_leaves_no_child_behind() -> None:
    ended = asyncio.Event()
    inside = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def owner() -> None:
        async with Supervisor([ChildSpec("a", task(work)), ChildSpec("p", process(SLEEPS))]) as supervisor:
            pids.append(supervisor.which_children()[0].pid or 0)
            inside.set()
            await asyncio.Event().wait()

    pids: list[int] = []
    owning = asyncio.ensure_future(owner())
    await inside.wait()
    for _ in range(3):  # also while it is leaving
        owning.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await owning
    assert ended.is_set()
    assert not alive(pids[0])


async def test_a_start_that_hangs_does_not_hold_up_the_end() -> None:
    async def hangs(link: Link) -> None:
        await asyncio.Event().wait()

    supervisor = Supervisor([ChildSpec("a", linked(hangs))])
    starting = asyncio.ensure_future(supervisor.start())
    await asyncio.sleep(0)
    await supervisor.stop()
    with pytest.raises(ChildError):
        await starting


async def test_an_unhealthy_child_is_ended_and_counts_as_crashed(stage: Stage) -> None:
    answers: list[Any] = [True, False, True, False, RuntimeError("no answer"), True]
    ticks: list[float] = []

    async def check() -> bool:
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return bool(found)

    async def later(seconds: float) -> None:
        ticks.append(seconds)
        if not answers:
            await asyncio.Event().wait()
        await asyncio.sleep(0)

    spec = stage.spec("a", restart="transient", health=Health(check, every=30, failures=2))
    async with stage.supervisor(spec, later=later) as supervisor:
        await until(lambda: not answers)
        await supervisor.settled()
        assert stage.took() == ["start a", "ask a", "start a"]
        assert [str(each.exit) for each in stage.told("unhealthy")] == [
            "error: unhealthy: RuntimeError: no answer"
        ]
        assert supervisor.statistics().restarts == 1
        assert set(ticks) == {30}


async def test_l22_statistics_say_what_happened_and_which_children_how_they_stand(stage: Stage) -> None:
    async with stage.supervisor(
        stage.spec("a"), stage.spec("b", restart="temporary"), intensity=5
    ) as supervisor:
        stage.puppets["a"].end(CRASH)
        stage.puppets["b"].end(NORMAL)
        await supervisor.settled()
        found = supervisor.statistics()
        assert (found.state, found.starts, found.restarts, found.active) == ("running", 3, 1, 1)
        assert found.exits == {"error": 1, "normal": 1}
        assert [(each.id, each.restarts, each.last_exit) for each in found.children] == [
            ("a", 1, "error: crashed")
        ]
    assert supervisor.statistics().state == "over"
