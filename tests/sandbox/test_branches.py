"""Several lines of work in one sandbox: what one of them leaves running is its own, and so is its end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from terraphim_rlm import Sandbox, open_sandbox
from terraphim_rlm.core.errors import RlmError, SandboxLost, SnapshotLost, SnapshotRefused

pytestmark = [pytest.mark.sandbox, pytest.mark.anyio, pytest.mark.timeout(30)]
_QUIET = ">/dev/null 2>&1 </dev/null &"
_WRITER = f"(while :; do echo x >>/work/log; done) {_QUIET} until [ -s /work/log ]; do :; done"
_STATES = """
import os
def states(word):
    found = []
    for pid in os.listdir('/proc'):
        try:
            with open(f'/proc/{pid}/cmdline') as a, open(f'/proc/{pid}/stat') as b:
                if word in a.read().replace(chr(0), ' '):
                    found.append(b.read().rpartition(')')[2].split()[0])
        except OSError:
            pass
    return found
"""


@pytest.fixture(params=["layers", "copies"])
async def box(request: pytest.FixtureRequest) -> AsyncIterator[Sandbox]:
    """A sandbox whose kernel layers files, and one whose kernel cannot."""
    async with open_sandbox("bubblewrap") as sandbox:
        link: Any = sandbox.machine.guest.link  # type: ignore[attr-defined]
        link._place = replace(link._place, layered=request.param == "layers")
        await _said(sandbox, _STATES)
        machine: Any = sandbox.machine
        yield sandbox
        for each in list(machine._shared.members):
            await each.destroy()


async def _said(box: Sandbox, code: str, language: str = "python") -> str:
    result = await box.run(code, language)
    assert result.status == "ok", (result.stderr, result.error)
    return result.stdout.rstrip("\n")


async def _sh(box: Sandbox, command: str) -> str:
    result = await box.sh(command)
    assert (result.status, result.notes) == ("ok", ()), result
    return result.stdout.rstrip("\n")


async def _asleep(box: Sandbox) -> str:
    """Which of the `sleep 7N` there are, as one of them sees it who has the turn."""
    seen = await _said(box, "print([n for n in range(71, 76) if states(f'sleep {n}')])")
    return seen.strip("[]")


def _folders(box: Sandbox) -> set[str]:
    """What the states and views of its files lie in."""
    machine: Any = box.machine
    keeper = machine.guest.link.kept._keeper.statistics().pid
    children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
    (warden,) = [
        pid for pid in children if not Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"trlm-")
    ]
    return {path.name for path in Path(f"/proc/{warden}/cwd").iterdir()}


async def test_what_a_branch_left_running_stands_still_while_another_has_its_turn(box: Sandbox) -> None:
    (one,) = await box.branch()
    await _sh(one, _WRITER)
    await _said(
        one, f"import subprocess\np = subprocess.Popen('{_WRITER.partition(' until')[0]}', shell=True)"
    )
    assert await _said(box, "print(set(states('/work/log')), os.path.exists('/work/log'))") == "{'T'} False"
    await box.snapshot("s")  # nothing of the branch stands in its way
    assert await _said(box, "import time\ntime.sleep(0.05)\nprint(os.path.exists('/work/log'))") == "False"
    await box.rollback("s")
    grows = "size = os.stat('/work/log').st_size\nwhile os.stat('/work/log').st_size == size: pass"
    await _said(one, grows)
    await _said(one, "while 'T' in states('/work/log'): pass")  # they are woken one after another


async def test_a_process_that_was_stopped_before_is_not_woken_and_belongs_to_its_branch(box: Sandbox) -> None:
    (one,) = await box.branch()
    started = "until grep -qs sleep /proc/$!/comm; do :; done"
    stopped = "kill -STOP $!; until grep -qs 'State:.T' /proc/$!/status; do :; done"
    await _sh(one, f"sleep 71 {_QUIET} {started}; {stopped}")
    assert (await box.run("while True: pass", timeout=0.01)).status == "timeout"
    await box.run("import os\nos.kill(os.getpid(), 9)")
    assert await _said(one, "print(states('sleep 71'))") == "['T']"


async def test_the_end_of_a_branch_ends_what_it_left_behind_and_nothing_of_the_others(box: Sandbox) -> None:
    await box.snapshot("s")
    unused, one, two, three = await box.branch(4)
    for number, each in enumerate((box, one, two, three), 71):
        await _sh(each, f"sleep {number} {_QUIET}")
    assert await _asleep(box) == "71, 72, 73, 74"
    await unused.close()
    with pytest.raises(RlmError):
        await box.branch(1, "none")
    assert await _asleep(box) == "71, 72, 73, 74"
    await one.close()
    assert await _asleep(box) == "71, 73, 74"
    stuck = "import signal\nsignal.signal(2, signal.SIG_IGN)\nwhile True: pass"
    assert (await two.run(stuck, timeout=0.01)).state_after == "lost"
    assert await _asleep(box) == "71, 74"
    await box.rollback("s")
    assert await _asleep(box) == "74"
    assert await _asleep(three) == "74"
    await three.close()
    assert await _asleep(box) == ""


async def test_a_branch_that_cannot_be_made_harms_nothing_that_runs(box: Sandbox) -> None:
    await box.snapshot("s")
    await _sh(box, f"sleep 71 {_QUIET}")
    await _said(
        box,
        "import signal\nfor pid in os.listdir('/proc'):\n"
        "    if pid.isdigit() and int(pid) not in (1, os.getpid()) and 'sleep' not in open(f'/proc/{pid}/cmdline').read():\n"
        "        os.kill(int(pid), signal.SIGKILL)",
    )
    with pytest.raises(SnapshotLost):
        await box.branch(2, "s")
    assert box.snapshots() == (), "it is forgotten"
    assert await _asleep(box) == "71"


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("sh", "echo started; sleep 71; echo harm >/tmp/harm"),
        ("bash", "echo started; sleep 71; echo harm >/tmp/harm"),
        ("python", "import time\nprint('started', flush=True)\ntime.sleep(71)"),
    ],
)
async def test_a_branch_is_closed_while_its_code_runs_and_more_waits(
    box: Sandbox, language: str, code: str
) -> None:
    (one,) = await box.branch()
    started = asyncio.Event()
    running = asyncio.ensure_future(
        one.sh(code, on_output=lambda *_: started.set())
        if language == "sh"
        else one.run(code, language, on_output=lambda *_: started.set())
    )
    await started.wait()
    waiting = [asyncio.ensure_future(one.run("open('harm', 'w')")), asyncio.ensure_future(one.snapshot())]
    async with asyncio.timeout(10):
        await one.close()
        assert (await running).status == "killed"
        for each in waiting:
            with pytest.raises(SandboxLost):
                await each
    assert (
        await _said(box, "print(states('sleep 71'), os.listdir('/work'), os.listdir('/tmp'))") == "[] [] []"
    )


@pytest.mark.parametrize("language", ["python", "bash"])
async def test_nothing_starts_in_a_branch_that_was_closed_while_it_waited_for_what_was_cancelled(
    box: Sandbox, language: str
) -> None:
    (one,) = await box.branch()
    stuck = {
        "python": "import time\nprint(1, flush=True)\nwhile True:\n  try: time.sleep(71)\n  except BaseException: pass",
        "bash": "echo 1; sleep 71",
    }
    started = asyncio.Event()
    running = asyncio.ensure_future(one.run(stuck[language], language, on_output=lambda *_: started.set()))
    await started.wait()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    harm = {"python": "import time\ntime.sleep(72)", "bash": "sleep 72"}
    waiting = asyncio.ensure_future(one.run(harm[language], language))
    for _ in range(3):
        await asyncio.sleep(0)
    await one.close()
    with contextlib.suppress(SandboxLost):  # it had not begun
        assert (await waiting).status == "killed"
    left = "print(sorted(int(pid) for pid in os.listdir('/proc') if pid.isdigit() and int(pid) not in (1, os.getpid())))"
    assert await _said(box, left) == "[]"


@pytest.mark.parametrize("persistence", ["once", "again and again"])
async def test_whatever_is_cancelled_whenever_leaves_all_lines_of_work_usable(
    box: Sandbox, persistence: str
) -> None:
    (other,) = await box.branch()
    await _said(box, "x = 1\nopen('f', 'w').write('1')")
    await box.snapshot("s")
    await box.rollback("s")
    before = _folders(box)

    async def branch() -> None:
        for each in await box.branch(2, "s"):
            await each.close()

    async def snapshot() -> None:
        await box.forget(await box.snapshot("t"))

    acts: list[Callable[[], Awaitable[object]]] = [
        snapshot, branch, lambda: box.diff("s"), lambda: box.rollback("s"), lambda: other.run("x = 0"),
    ]  # fmt: skip
    for act in acts:
        for spins in (0, 1, 3, 6, 12, 25, 50, 100, 200, 400):
            await _said(box, "x = 2\nopen('f', 'w').write('2')")
            task = asyncio.ensure_future(act())
            for _ in range(spins):
                await asyncio.sleep(0)
            task.cancel()
            while not task.done():
                await asyncio.sleep(0)
                if persistence != "once":
                    task.cancel()
            if not task.cancelled():
                task.result()
            with contextlib.suppress(RlmError):
                await box.forget("t")
            assert await _said(box, "print(x, open('f').read(), os.getcwd())") in ("1 1 /work", "2 2 /work")
    await box.rollback("s")
    assert await _said(box, "print(x, open('f').read())") == "1 1"
    async with asyncio.timeout(20):  # what nobody waited for goes a moment later
        while len(_folders(box)) != len(before):
            await box.run("0")
    assert [each.name for each in box.snapshots()] == ["s"]


async def test_a_snapshot_that_was_lost_gives_up_its_files(box: Sandbox) -> None:
    await box.snapshot("first")
    await _said(box, "open('f', 'w').write('1')")
    await box.snapshot("second")
    await box.rollback("first")
    before = _folders(box)
    await _said(
        box,
        "import signal\nfor pid in os.listdir('/proc'):\n"
        "    if pid.isdigit() and int(pid) not in (1, os.getpid()): os.kill(int(pid), signal.SIGKILL)",
    )
    with pytest.raises(SnapshotLost):
        await box.rollback("second")
    assert _folders(box) < before


async def test_the_files_of_a_closed_branch_are_gone_at_the_next_turn_at_the_latest(box: Sandbox) -> None:
    await box.snapshot("s")
    before = _folders(box)
    one, two = await box.branch(2, "s")
    await _said(one, "open('f', 'w').write('1')")
    await _said(two, "open('f', 'w').write('2')")
    await one.close()  # parked
    assert len(_folders(box)) < len(before) + 2
    await two.close()  # shown
    assert await _said(box, "print(os.listdir('.'))") == "[]"
    assert _folders(box) == before


async def test_a_snapshot_whose_process_was_stopped_does_not_hold_up_the_end(box: Sandbox) -> None:
    (one,) = await box.branch()
    await one.close()
    await box.snapshot("s")
    await _said(
        box,
        "import signal\nfor pid in os.listdir('/proc'):\n"
        "    if pid.isdigit() and int(pid) not in (1, os.getpid()): os.kill(int(pid), signal.SIGSTOP)",
    )
    going = asyncio.ensure_future(box.rollback("s"))
    for _ in range(20):
        await asyncio.sleep(0)
    async with asyncio.timeout(5):  # half of what it would wait for the answer
        await box.close()
        with pytest.raises((SnapshotLost, SandboxLost)):
            await going


async def test_a_branch_whose_files_cannot_be_shown_leaves_the_turn_where_it_was(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one,) = await box.branch()
    await _sh(box, _WRITER)
    link: Any = box.machine.guest.link  # type: ignore[attr-defined]
    file_states = link.file_states

    async def failing(name: str, *arguments: object) -> object:
        if name == "show":
            raise OSError(5, "Input/output error")
        return await file_states(name, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(type(link), "file_states", staticmethod(failing))
        with pytest.raises(SnapshotRefused, match="Input/output"):
            await one.run("1")
        grows = "size = os.stat('/work/log').st_size\nwhile os.stat('/work/log').st_size == size: pass"
        await _said(box, grows)
    assert await _said(one, "print(os.listdir('/work'))") == "[]"


async def test_a_branch_of_now_brings_back_javascript_when_its_turn_comes(box: Sandbox) -> None:
    if "javascript" not in box.capabilities.languages:
        pytest.skip("no Node.js here")
    await _said(box, "let n = 1; require('fs').writeFileSync('f', 'once')", "javascript")
    one, two = await box.branch(2)
    for each in (one, two):
        see = "console.log(++n, require('fs').readFileSync('f', 'utf8'))"
        assert await _said(each, see, "javascript") == "2 once"
        await each.close()
    assert await _said(box, "console.log(n)", "javascript") == "1"
    machine: Any = box.machine
    assert machine._shared.states._frozen == set(), "what it came from is given up"


async def test_who_writes_since_an_earlier_turn_still_keeps_a_snapshot_from_being_taken(box: Sandbox) -> None:
    await _said(box, "x = 1")
    await box.snapshot("s")
    (one,) = await box.branch(1, "s")
    await _sh(
        box, f"(exec 5>/work/held; echo half >&5; exec sleep 74) {_QUIET} until [ -s /work/held ]; do :; done"
    )
    with pytest.raises(SnapshotRefused, match="/work/held open for writing"):
        await box.snapshot("now", partial=True)
    assert await _said(one, "print(x, os.path.exists('/work/held'))") == "1 False"
    with pytest.raises(SnapshotRefused, match="sleep 74"):
        await box.snapshot("then", partial=True)
    await _sh(
        box,
        "pid=$(grep -l 'sleep' /proc/[0-9]*/comm | head -1 | cut -d/ -f3); kill $pid; while [ -e /proc/$pid/exe ]; do :; done",
    )
    await box.snapshot("after")
    await box.rollback("after")
    assert await _said(box, "print(open('/work/held').read())") == "half"
