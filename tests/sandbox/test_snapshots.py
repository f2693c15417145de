"""Going back after a mistake: files and interpreter together, as often as wanted, or told why not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from terraphim_rlm import Resources, Sandbox, open_sandbox
from terraphim_rlm.core.errors import (
    InvalidArgument,
    SandboxLost,
    SnapshotLimit,
    SnapshotLost,
    SnapshotNotFound,
    SnapshotRefused,
)
from terraphim_rlm.sandbox.keeper import child

pytestmark = [pytest.mark.sandbox, pytest.mark.anyio]


@pytest.fixture(params=["layers", "copies"])
async def box(request: pytest.FixtureRequest) -> AsyncIterator[Sandbox]:
    """A sandbox whose kernel layers files, and one whose kernel cannot."""
    async with open_sandbox("bubblewrap") as sandbox:
        link: Any = sandbox.machine.guest.link  # type: ignore[attr-defined]
        link._place = replace(link._place, layered=request.param == "layers")
        yield sandbox


async def _said(box: Sandbox, code: str) -> str:
    result = await box.run(code)
    assert result.status == "ok", (result.stderr, result.error)
    return result.stdout.rstrip("\n")


async def test_a_rollback_brings_back_variables_files_folder_and_what_was_open(box: Sandbox) -> None:
    await _said(
        box,
        "import itertools, os, random\nos.makedirs('a/b')\nos.chdir('a')\nos.environ['MODE'] = 'first'\n"
        "counter = itertools.count()\nnext(counter)\nlog = open('log', 'w+')\nlog.write('one\\n')\nlog.flush()\n"
        "source = open('/usr/lib/os-release')\nsource.readline()\nrandom.seed(7)\nopen('/tmp/t', 'w').write('1')",
    )
    kept = await box.snapshot("before")
    see = (
        "print(next(counter), os.getcwd(), os.environ['MODE'], log.write('two\\n') and log.flush(), log.tell(),"
        " open('log').read().split(), source.tell(), random.random(), sorted(os.listdir('.')), open('/tmp/t').read())"
    )
    first = await _said(box, see)
    for _ in range(3):
        await _said(
            box,
            "os.chdir('/')\nos.environ['MODE'] = 'later'\ndel counter\nsource.read()\nlog.close()\n"
            "os.remove('/work/a/log')\nos.rmdir('/work/a/b')\nopen('/work/new', 'w')\nopen('/tmp/t', 'w').write('2')",
        )
        assert (await box.rollback(kept)).name == "before"
        assert await _said(box, see) == first
        assert (await box.sh("ls /work; ls /work/a; cat /tmp/t")).stdout == "a\nb\nlog\n1"
    assert kept.languages == {"python": "kept"}
    assert {"counter", "log", "source"} <= set(kept.variables)
    assert kept.missing == ()


async def test_an_interpreter_that_was_killed_comes_back_with_its_state(box: Sandbox) -> None:
    await _said(box, "x = 'kept'")
    await box.snapshot("s")
    assert (await box.run("import os\nos._exit(3)")).state_after == "lost"
    await box.rollback("s")
    assert await _said(box, "print(x)") == "kept"
    assert (
        await box.run("while True:\n  try:\n    while True: pass\n  except BaseException: pass", timeout=0.1)
    ).status == "timeout"
    await box.rollback("s")
    assert await _said(box, "print(x)") == "kept"


async def test_snapshots_of_snapshots_go_back_to_each_in_any_order(box: Sandbox) -> None:
    for number in range(6):
        await _said(box, f"x = {number}\nopen('f', 'w').write('{number}')\nopen('only{number}', 'w')")
        await box.snapshot(f"s{number}")
    for number in (3, 5, 0, 3, 1, 4):
        await box.rollback(f"s{number}")
        assert await _said(box, "import os\nprint(x, open('f').read(), len(os.listdir('.')))") == (
            f"{number} {number} {number + 2}"
        )
    assert [each.name for each in box.snapshots()] == [f"s{number}" for number in range(6)]


HELD = [
    ("import threading, time\nt = threading.Thread(target=time.sleep, args=(60,), name='bob', daemon=True)\nt.start()", "the thread bob"),
    ("import socket\ns = socket.socket()", "a socket"),
    ("import os\nr, w = os.pipe()", "a pipe"),
    ("import mmap\nm = mmap.mmap(-1, 4096)", "shared memory"),
    ("import asyncio\nasync def f(): await asyncio.sleep(60)\nasync def main():\n    global t\n    t = asyncio.create_task(f(), name='tick')\nawait main()", "the asyncio task tick"),
    ("import subprocess\np = subprocess.Popen(['sleep', '61'])", "(sleep 61)"),
    ("open('/dev/shm/x', 'w').close()", "files in /dev/shm"),
    ("f = open('gone', 'w')\nimport os\nos.remove('gone')", "has no name any more"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "named"), HELD, ids=[named for _, named in HELD])
async def test_what_cannot_be_kept_is_refused_by_its_name_and_nothing_is_harmed(
    box: Sandbox, code: str, named: str
) -> None:
    await _said(box, "x = 1\nlog = open('log', 'a')\n" + code)
    with pytest.raises(SnapshotRefused) as refusal:
        await box.snapshot("s")
    assert named in refusal.value.message
    assert box.snapshots() == ()
    assert (
        await _said(box, "x += 1\nprint(x, log.write('still open'), __import__('os').getcwd())")
        == "2 10 /work"
    )


async def test_what_cannot_be_kept_is_left_out_by_name_where_that_is_asked_for(box: Sandbox) -> None:
    await _said(box, "import subprocess\nx = 1\np = subprocess.Popen(['sleep', '61'])")
    kept = await box.snapshot("s", partial=True)
    assert kept.partial
    assert any("sleep 61" in each for each in kept.missing)
    await _said(box, "x = 2")
    await box.rollback("s")
    assert await _said(box, "print(x)") == "1"
    running = await box.sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert "start.py" in running.stdout
    assert "sleep 61" not in running.stdout, "what ran since is gone after a rollback"


async def test_a_file_that_another_process_writes_refuses_even_a_partial_snapshot(box: Sandbox) -> None:
    await box.sh(
        "(exec 5>/work/held; exec sleep 62) >/dev/null 2>&1 </dev/null & until [ -e /work/held ]; do :; done"
    )
    with pytest.raises(SnapshotRefused, match=r"sleep 62\), which has /work/held open for writing"):
        await box.snapshot("s", partial=True)


async def test_a_file_that_is_written_by_a_mapping_alone_refuses_even_a_partial_snapshot(
    box: Sandbox,
) -> None:
    await _said(box, "with open('f', 'w') as file: file.write('a' * 4096)")
    await box.snapshot("s")
    await _said(
        box,
        """
import ctypes, os
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
fd = os.open('f', os.O_RDWR)
where = libc.mmap(None, ctypes.c_size_t(4096), 3, 1, fd, ctypes.c_long(0))
os.close(fd)
assert where != ctypes.c_void_p(-1).value
""",
    )
    with pytest.raises(SnapshotRefused, match="/work/f"):
        await box.snapshot("later", partial=True)
    await _said(box, "libc.munmap(ctypes.c_void_p(where), ctypes.c_size_t(4096))")
    await box.snapshot("later")


async def test_files_in_shared_memory_are_gone_after_a_rollback(box: Sandbox) -> None:
    await box.snapshot("s")
    await _said(
        box,
        """
import os
os.makedirs('/dev/shm/a/b')
os.symlink('/work', '/dev/shm/a/link')
with open('/dev/shm/a/b/c', 'w') as file: file.write('left')
os.chmod('/dev/shm/a/b', 0)
""",
    )
    await box.rollback("s")
    assert await _said(box, "import os; print(os.listdir('/dev/shm'))") == "[]"


async def test_a_library_that_ends_its_own_threads_at_a_fork_does_not_stand_in_the_way(box: Sandbox) -> None:
    code = """
import _thread, os, time
stop, gone = [], []
def spin():
    while not stop:
        time.sleep(0.001)
    gone.append(1)
_thread.start_new_thread(spin, ())
def end():
    stop.append(1)
    while not gone or len(os.listdir('/proc/self/task')) > 1:
        time.sleep(0.001)
os.register_at_fork(before=end)
x = 5
"""
    await _said(box, code)
    await box.snapshot("s")
    await _said(box, "x = 6")
    await box.rollback("s")
    assert await _said(box, "print(x)") == "5"


async def test_names_are_checked_unique_found_by_id_too_and_limited_to_ten(box: Sandbox) -> None:
    for bad in ("", "A", "a b", "../x", "x" * 65, "ü"):
        with pytest.raises(InvalidArgument):
            await box.snapshot(bad)
    first = await box.snapshot()
    assert (first.name, first.id[:5]) == ("snapshot-1", "snap-")
    with pytest.raises(InvalidArgument, match="already"):
        await box.snapshot("snapshot-1")
    assert await box.rollback(first.id) == first
    for number in range(9):
        await box.snapshot(f"n{number}")
    with pytest.raises(SnapshotLimit, match="at most 10"):
        await box.snapshot("eleventh")
    await box.forget("n4")
    await box.snapshot("eleventh")
    with pytest.raises(SnapshotNotFound) as missing:
        await box.rollback("n4")
    assert "eleventh" in missing.value.fix


async def test_a_snapshot_that_code_ended_is_reported_as_lost_and_nothing_else_changes(box: Sandbox) -> None:
    await _said(box, "x = 1")
    await box.snapshot("s")
    await _said(
        box,
        "import os, signal\nx = 2\nopen('f', 'w').write('2')\nfor pid in os.listdir('/proc'):\n"
        "    if pid.isdigit() and int(pid) not in (1, os.getpid()):\n        os.kill(int(pid), signal.SIGKILL)",
    )
    with pytest.raises(SnapshotLost):
        await box.rollback("s")
    assert box.snapshots() == ()
    assert await _said(box, "print(x, open('f').read())") == "2 2"


async def test_code_can_neither_read_nor_change_the_interpreter_of_a_snapshot(box: Sandbox) -> None:
    await _said(box, "import ctypes, os\nx = 1")
    await box.snapshot("s")
    reach = (
        "libc, reached, seen = ctypes.CDLL(None, use_errno=True), [], 0\n"
        "for pid in (int(name) for name in os.listdir('/proc') if name.isdigit()):\n"
        "    if pid in (1, os.getpid()): continue\n"
        "    seen += 1\n"
        "    for name, flags in (('mem', os.O_RDWR), ('environ', os.O_RDONLY), ('maps', os.O_RDONLY)):\n"
        "        try: os.close(os.open(f'/proc/{pid}/{name}', flags)); reached.append(name)\n"
        "        except OSError: pass\n"
        "    try: os.listdir(f'/proc/{pid}/fd'); reached.append('fd')\n"
        "    except OSError: pass\n"
        "    fd = libc.syscall(438, os.pidfd_open(pid), 0, 0)\n"  # pidfd_getfd
        "    if fd >= 0: reached.append('its socket')\n"
        "print(seen, reached)"
    )
    assert await _said(box, reach) == "1 []"
    await box.rollback("s")
    assert await _said(box, "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))") == "1"  # PR_GET_DUMPABLE


async def test_what_keeps_the_files_may_die_and_the_sandbox_goes_on_without_its_snapshots(
    box: Sandbox,
) -> None:
    await _said(box, "x = 1\nopen('f', 'w').write('1')")
    await box.snapshot("s")
    await _said(box, "x = 2")
    kept = box.machine.guest.link.kept  # type: ignore[attr-defined]
    keeper = kept._keeper.statistics().pid
    wardens = [
        int(pid)
        for pid in Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
        if int(pid) != kept.pid
    ]
    assert len(wardens) == 1
    os.kill(wardens[0], signal.SIGKILL)
    with pytest.raises(SnapshotLost):
        await box.rollback("s")
    assert await _said(box, "print(x, open('f').read())") == "2 1"


async def test_a_difference_names_files_and_variables(box: Sandbox) -> None:
    await _said(
        box,
        "import os\nx = y = 1\nos.makedirs('d/e')\nfor n in 'abc': open(f'd/{n}', 'w').write('1')\nopen('/tmp/t', 'w')",
    )
    await box.snapshot("one")
    await _said(
        box,
        "z = 1\ndel y\nopen('d/a', 'w').write('2')\nos.remove('d/b')\nos.chmod('d/c', 0o600)\nos.rmdir('d/e')\nopen('/tmp/u', 'w')",
    )
    await box.snapshot("two")
    await _said(box, "open('later', 'w')")
    found = await box.diff("one", "two")
    assert found.added == ("/tmp/u",)
    assert found.changed == ("/work/d/a", "/work/d/c")
    assert found.removed == ("/work/d/b", "/work/d/e")
    assert (found.variables_added, found.variables_removed) == (("z",), ("y",))
    assert (await box.diff("two")).added == ("/work/later",)
    assert (await box.diff("one")).added == ("/work/later", "/tmp/u")


async def test_folders_too_deep_to_compare_or_copy_are_refused_by_that_name(box: Sandbox) -> None:
    await _said(
        box, "import os\nfor _ in range(600):\n    os.mkdir('d')\n    os.chdir('d')\nos.chdir('/work')"
    )

    async def compare() -> None:
        await box.snapshot("s")  # refused where states are copies
        await box.diff("s")

    with pytest.raises(SnapshotRefused, match="in folders more than 400 deep"):
        await compare()
    assert (await box.sh("rm -r d")).status == "ok"
    await box.snapshot("after")
    assert (await box.diff("after")).added == ()


async def test_content_that_keeps_its_size_and_time_is_still_seen_as_changed(box: Sandbox) -> None:
    await _said(box, "import os\nopen('f', 'w').write('1')\nos.utime('f', (1, 1))")
    await box.snapshot("s")
    await _said(box, "open('f', 'w').write('2')\nos.utime('f', (1, 1))")
    assert (await box.diff("s")).changed == ("/work/f",)


async def test_single_paths_come_back_and_all_else_stays(box: Sandbox) -> None:
    await _said(
        box,
        "import os\nx = 1\nos.makedirs('d')\nopen('d/a', 'w').write('old')\nopen('b', 'w').write('old')\nos.chmod('d/a', 0o640)",
    )
    await box.snapshot("s")
    await _said(
        box,
        "import shutil\nx = 2\nshutil.rmtree('d')\nopen('b', 'w').write('new')\nos.makedirs('made/since')",
    )
    assert await box.restore_files("s", ["d/a", "/work/made", "never"]) == ["/work/never"]
    see = "print(x, open('d/a').read(), oct(os.stat('d/a').st_mode & 0o777), open('b').read(), sorted(os.listdir('.')))"
    assert await _said(box, see) == "2 old 0o640 new ['b', 'd']"
    for bad in ("/etc/passwd", "../../etc", "/work", "/work/..", "a\0b"):
        with pytest.raises(InvalidArgument):
            await box.restore_files("s", [bad])


async def test_a_link_that_code_planted_does_not_lead_what_is_put_back_out_of_the_files(box: Sandbox) -> None:
    await _said(box, "import os\nos.makedirs('d')\nopen('d/f', 'w').write('old')")
    await box.snapshot("s")
    await _said(
        box,
        "import shutil\nshutil.rmtree('d')\nos.makedirs('/tmp/elsewhere')\nos.symlink('/tmp/elsewhere', 'd')",
    )
    with pytest.raises(SnapshotRefused):
        await box.restore_files("s", ["d/f"])
    assert await _said(box, "print(os.listdir('/tmp/elsewhere'))") == "[]"


async def test_branches_share_a_past_and_nothing_else(box: Sandbox) -> None:
    await _said(
        box, "import random, os\nx = 0\nopen('f', 'w').write('0')\nos.makedirs('sub')\nos.chdir('sub')"
    )
    await box.snapshot("s")
    await _said(box, "x = 100")
    boxes = await box.branch(4, "s")

    async def work(number: int, one: Sandbox) -> tuple[str, str]:
        code = f"x += {number}\nopen('/work/f', 'a').write('{number}')\nprint(x, open('/work/f').read(), os.getcwd())"
        said = await _said(one, code)
        assert (await one.sh("cat /work/f")).stdout == f"0{number}"
        return said, await _said(one, "print(random.random())")

    seen = await asyncio.gather(*(work(number, one) for number, one in enumerate(boxes)))
    assert [said for said, _ in seen] == [f"{n} 0{n} /work/sub" for n in range(4)]
    assert len({number for _, number in seen}) == 4, "random numbers go their own ways"
    assert await _said(box, "print(x, open('/work/f').read())") == "100 0"
    await boxes[0].close()
    with pytest.raises(SandboxLost):
        await boxes[0].run("1")
    await boxes[1].snapshot("own")
    await _said(boxes[1], "x = 'later'")
    await boxes[1].rollback("own")
    assert await _said(boxes[1], "print(x, open('/work/f').read())") == "1 01"
    assert await _said(boxes[2], "print(x, open('/work/f').read())") == "2 02"
    for one in boxes[1:]:
        await one.close()
    assert await _said(box, "print(x, open('/work/f').read())") == "100 0"


async def test_a_branch_may_outlive_what_it_came_from(box: Sandbox) -> None:
    await _said(box, "x = 1")
    (one,) = await box.branch()
    await box.close()
    assert await _said(one, "x += 1\nprint(x)") == "2"
    await one.close()


async def test_executions_wait_while_a_snapshot_is_taken(box: Sandbox) -> None:
    await _said(box, "x = 0")
    work = [box.run("x += 1"), box.snapshot("a"), box.run("x += 1"), box.snapshot("b"), box.run("x += 1")]
    await asyncio.gather(*map(asyncio.ensure_future, work))
    for name, value in (("a", "1"), ("b", "2")):
        await box.rollback(name)
        assert await _said(box, "print(x)") == value


async def test_layers_cannot_be_reached_from_inside(box: Sandbox) -> None:
    await _said(
        box,
        "import os\nopen('f', 'w').write('1')\nhere = os.open('.', os.O_RDONLY)\nabove = os.open('/', os.O_RDONLY)",
    )
    await box.snapshot("s")
    assert await _said(
        box,
        "bad = []\nfor fd in (here, above):\n"
        "    try: os.open('work/f' if fd == above else 'f', os.O_WRONLY, dir_fd=fd)\n"
        "    except OSError as error: bad.append(error.errno)\n"
        "print(bad, [line.split()[4] for line in open('/proc/self/mountinfo') if 'layers' in line])",
    ) in ("[] []", "[30] []")
    await _said(box, "open('f', 'w').write('2')")
    await box.rollback("s")
    assert await _said(box, "print(open('f').read())") == "1"


async def test_what_keeps_the_files_runs_no_module_that_code_put_where_ours_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keeper's modules lie below `/tmp` here, where a sandbox has files of its own, and one looks for another late."""
    keeper = shutil.copytree(child._SCRIPT.parent, tmp_path / "keeper")
    views = keeper / "views.py"
    views.write_text(
        views.read_text().replace(
            "    def set_read_only(self",
            "    def set_read_only(self, view):\n        import planted\n        self.really(view)\n\n    def really(self",
        )
    )
    monkeypatch.setattr(child, "_SCRIPT", keeper / "start.py")
    async with open_sandbox("bubblewrap") as box:
        await _said(
            box,
            f"import os\nos.makedirs({str(tmp_path)!r})\n"
            f"open({str(tmp_path / 'planted.py')!r}, 'w').write('open(\"/tmp/harm\", \"w\").close()')",
        )
        with pytest.raises(SnapshotRefused):
            await box.snapshot()
        assert await _said(box, "print(os.path.exists('/tmp/harm'))") == "False"


async def test_after_many_snapshots_the_layers_are_copied_into_one_and_all_still_holds(box: Sandbox) -> None:
    await _said(box, "import os\nos.makedirs('d')\nfor n in range(20): open(f'd/{n}', 'w').write('0')")
    for number in range(30):
        await _said(box, f"open('d/{number % 20}', 'w').write('{number}')\nos.symlink('d', 'l{number}')")
        await box.snapshot("s")
        if number < 29:
            await box.forget("s")
    await _said(box, "import shutil\nshutil.rmtree('d')")
    await box.rollback("s")
    assert await _said(
        box, "print([open(f'l29/{n}').read() for n in (9, 10, 19)], len(os.listdir('.')))"
    ) == ("['29', '10', '19'] 31")


async def test_a_cancelled_snapshot_leaves_nothing_and_its_name_free(box: Sandbox) -> None:
    await _said(box, "x = 1\nopen('f', 'w').write('1')")
    for rounds in range(12):
        task = asyncio.ensure_future(box.snapshot("s"))
        for _ in range(rounds):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
            await box.forget("s")
        assert box.snapshots() == ()
    assert await _said(box, "x += 1\nprint(x, open('f').read(), __import__('os').getcwd())") == "2 1 /work"
    look = """
import os, select
def others():
    return [pid for pid in os.listdir('/proc') if pid.isdigit() and int(pid) not in (1, os.getpid())]
for _ in range(300):  # what was killed may take a moment to be gone
    if not others(): break
    select.select([], [], [], 0.01)
print(others())"""
    assert await _said(box, look) == "[]", "a frozen interpreter is left"


async def test_without_room_for_a_process_nothing_is_lost() -> None:
    async with open_sandbox("bubblewrap", resources=Resources(pids=12)) as box:
        await _said(box, "x = 1")
        await box.snapshot("s")
        full = "import os, time\nfull = []\nwhile True:\n    try: pid = os.fork()\n    except OSError: break\n    if pid == 0: time.sleep(99)\n    full.append(pid)\nx = 2"
        await _said(box, full)
        with pytest.raises(SnapshotRefused, match="no room"):
            await box.rollback("s")
        with pytest.raises(SnapshotRefused, match="no room"):
            await box.snapshot("t", partial=True)
        assert [each.name for each in box.snapshots()] == ["s"]
        await _said(box, "for pid in full: os.kill(pid, 9)\nfor pid in full: os.waitpid(pid, 0)")
        await box.rollback("s")
        assert await _said(box, "print(x)") == "1"


async def test_bash_comes_back_with_variables_functions_and_folder(box: Sandbox) -> None:
    await box.run(
        "mkdir -p d; cd d; x=1; export Y='a b'; z=(1 2 3); f() { echo f$x; }; alias l=ls; set -u", "bash"
    )
    kept = await box.snapshot("s")
    assert kept.languages["bash"] == "kept"
    see = "f; echo $Y ${z[2]} $PWD $-; alias l"
    before = await box.run(see, "bash")
    await box.run("cd /; x=2; unset Y z; f() { :; }; set +u; rm -r /work/d", "bash")
    await box.rollback("s")
    after = await box.run(see, "bash")
    assert after.stdout == before.stdout
    assert "f1\na b 3 /work/d" in after.stdout
    (one,) = await box.branch(1, "s")
    assert (await one.run("x=7; f; pwd", "bash")).stdout == "f7\n/work/d\n"
    assert (await box.run("f", "bash")).stdout == "f1\n"
    await one.close()


async def test_javascript_comes_back_by_its_cells_and_does_nothing_to_files_twice(box: Sandbox) -> None:
    if "javascript" not in box.capabilities.languages:
        pytest.skip("no Node.js here")
    assert (
        await box.run("let n = 1; const fs = require('fs'); fs.appendFileSync('log', 'once')", "javascript")
    ).status == "ok"
    await box.run("n += 1; function twice() { return n * 2 }", "javascript")
    await _said(box, "x = 5")
    kept = await box.snapshot("s")
    assert kept.languages == {"python": "kept", "javascript": "replayed"}
    await box.run("n = 100; fs.writeFileSync('log', 'spoilt')", "javascript")
    await box.rollback("s")
    assert (
        await box.run("console.log(n, twice(), fs.readFileSync('log', 'utf8'))", "javascript")
    ).stdout == "2 4 once\n"
    assert await _said(box, "print(x, open('log').read(), __import__('os').getcwd())") == "5 once /work"
    (one,) = await box.branch(1, "s")
    assert (
        await one.run("n += 5; console.log(n, fs.readFileSync('log', 'utf8'))", "javascript")
    ).stdout == "7 once\n"
    assert (await box.run("console.log(n)", "javascript")).stdout == "2\n"
    await one.close()
