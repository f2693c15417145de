"""Named states: taken whole or refused by name, listed, compared, forgotten."""

from __future__ import annotations

import asyncio

from terraphim_rlm.core.errors import (
    InvalidArgument,
    SandboxLost,
    SnapshotLimit,
    SnapshotLost,
    SnapshotNotFound,
    SnapshotRefused,
)
from terraphim_rlm.testing.conformance.checks import holds, like, refused, same, within
from terraphim_rlm.testing.conformance.model import Box, Group

SNAPSHOTS = Group("snapshots", "files:python")
DIFF = Group("differences", "files:python")
HELD = {
    "a thread": "import threading\ne = threading.Event()\nt = threading.Thread(target=e.wait, name='bob'); t.start()",
    "a child": "import subprocess\np = subprocess.Popen(['sleep', '77777'])",
    "a socket": "import socket\ns = socket.socket()",
}
NAMED = {"a thread": "bob", "a child": "77777", "a socket": "socket"}


@SNAPSHOTS.fresh()
async def a_snapshot_says_what_it_is(box: Box) -> None:
    await box.run("alpha = 1; beta = [2]")
    kept = await box.snapshot("first")
    same((kept.name, kept.id.startswith("snap-"), kept.missing), ("first", True, ()), "the snapshot")
    holds({"alpha", "beta"} <= set(kept.variables), f"{kept.variables} lacks a variable")
    same(box.snapshots(), (kept,), "the list")


@SNAPSHOTS.fresh()
async def taking_a_snapshot_changes_nothing(box: Box) -> None:
    await box.run("import random; random.seed(5); f = open('log', 'w+'); _ = f.write('ab'); x = [1]; y = x")
    await box.run("v=1; cd /tmp", "bash")
    await box.snapshot("s")
    await box.snapshot("t")
    like(
        await box.run("_ = f.write('c'); f.flush(); y.append(2)\nprint(open('log').read(), x)"),
        stdout="abc [1, 2]\n",
    )
    like(await box.run("print(random.random())"), stdout="0.6229016948897019\n")
    like(await box.run("echo $v $PWD", "bash"), stdout="1 /tmp\n")


@SNAPSHOTS.fresh()
async def snapshots_are_listed_oldest_first_and_named_by_us_where_no_name_is_given(box: Box) -> None:
    names = [(await box.snapshot(name)).name for name in ("b", None, "a", None)]
    same([each.name for each in box.snapshots()], names, "the list")
    same(len(set(names)), 4, "the number of names")
    times = [each.created for each in box.snapshots()]
    same(times, sorted(times), "the times")


@SNAPSHOTS.fresh()
async def names_that_are_none_are_refused(box: Box) -> None:
    for name in ("", "A", "a b", "../x", "a/b", "x" * 65, "ü", "a\n", "a\0", 3):
        await refused(box.snapshot(name), InvalidArgument)
    for name in ("a", "0", ".", "a.b-c_d", "x" * 64):
        same((await box.snapshot(name)).name, name, "the name")


@SNAPSHOTS.fresh()
async def a_name_that_is_taken_is_refused_until_it_is_forgotten(box: Box) -> None:
    await box.run("x = 1")
    await box.snapshot("s")
    await box.run("x = 2")
    await refused(box.snapshot("s"), InvalidArgument)
    await box.rollback("s")
    like(await box.run("x"), stdout="1\n")
    await box.forget("s")
    await box.run("x = 3")
    await box.snapshot("s")
    await box.run("x = 4")
    await box.rollback("s")
    like(await box.run("x"), stdout="3\n")


@SNAPSHOTS.fresh(seconds=40)
async def there_are_ten_at_most_and_forgetting_one_makes_room(box: Box) -> None:
    for number in range(10):
        await box.run(f"x = {number}")
        await box.snapshot(f"s{number}")
    error = await refused(box.snapshot("more"), SnapshotLimit)
    holds("s0" in str(error) and "s9" in str(error), "the error lists what there is")
    await box.forget("s4")
    await box.snapshot("more")
    same(len(box.snapshots()), 10, "how many there are")
    await box.rollback("s3")
    like(await box.run("x"), stdout="3\n")


@SNAPSHOTS.fresh()
async def what_is_not_there_is_told_with_what_is(box: Box) -> None:
    await box.snapshot("here")
    for work in (box.rollback, box.forget, box.diff, lambda name: box.branch(1, name)):
        error = await refused(work("gone"), SnapshotNotFound)
        holds("here" in str(error) + getattr(error, "fix", ""), "the error names those there are")
    await refused(box.restore_files("gone", ["x"]), SnapshotNotFound)


@SNAPSHOTS.fresh()
async def a_snapshot_is_known_by_name_id_and_itself(box: Box) -> None:
    kept = await box.snapshot("s")
    for key in ("s", kept.id, kept):
        same((await box.rollback(key)).name, "s", "the name")
    await box.forget(kept.id)
    same(box.snapshots(), (), "the list")


async def _refused_for(box: Box, what: str) -> None:
    await box.run("x = 1\n" + HELD[what])
    error = await refused(box.snapshot("s"), SnapshotRefused)
    holds(NAMED[what] in str(error), f"{str(error)!r} does not name {what}")
    same(box.snapshots(), (), "the list")
    like(await box.run("x += 1\nprint(x)"), stdout="2\n", status="ok")


@SNAPSHOTS.fresh("interpreter:python")
async def a_thread_is_refused_by_its_name_and_nothing_is_harmed(box: Box) -> None:
    await _refused_for(box, "a thread")
    like(await box.run("e.set(); t.join(5); print(t.is_alive())"), stdout="False\n")
    await box.snapshot("s")


@SNAPSHOTS.fresh("interpreter:python")
async def a_child_process_is_refused_by_its_name(box: Box) -> None:
    await _refused_for(box, "a child")
    like(await box.run("p.kill(); p.wait()"), status="ok")
    await box.snapshot("s")


@SNAPSHOTS.fresh("interpreter:python")
async def a_socket_is_refused_by_its_kind(box: Box) -> None:
    await _refused_for(box, "a socket")
    await box.run("s.close()")
    await box.snapshot("s")


@SNAPSHOTS.fresh("interpreter:python")
async def a_partial_snapshot_names_what_it_leaves_out(box: Box) -> None:
    await box.run("x = 1\n" + HELD["a child"])
    kept = await box.snapshot("s", partial=True)
    holds(kept.partial and any("77777" in each for each in kept.missing), f"{kept.missing} names no child")
    await box.run("x = 2")
    await box.rollback("s")
    like(await box.run("x"), stdout="1\n")


@SNAPSHOTS.fresh("interpreter:python")
async def a_snapshot_that_code_destroyed_is_told_as_lost_and_nothing_else_changes(box: Box) -> None:
    await box.run("x = 1")
    await box.snapshot("s")
    await box.run(
        "import os\nx = 2\nopen('f', 'w').write('2')\nfor n in os.listdir('/proc'):\n"
        "    if n.isdigit() and int(n) not in (1, os.getpid()):\n"
        "        try: os.kill(int(n), 9)\n        except OSError: pass"
    )
    try:
        await box.rollback("s")
    except SnapshotLost:
        same(box.snapshots(), (), "the list")
        like(await box.run("print(x, open('f').read())"), stdout="2 2\n")
    else:
        like(await box.run("print(x)"), stdout="1\n")  # out of the code's reach: better still


@SNAPSHOTS.fresh()
async def snapshots_stand_in_the_queue_with_executions(box: Box) -> None:
    await box.run("x = 0")
    work = [box.run("x += 1"), box.snapshot("a"), box.run("x += 1"), box.snapshot("b"), box.run("x += 1")]
    await within(15, asyncio.gather(*work), "executions and snapshots")
    for name, value in (("a", 1), ("b", 2)):
        await box.rollback(name)
        like(await box.run("x"), stdout=f"{value}\n")


@SNAPSHOTS.opening()
async def a_closed_sandbox_refuses_snapshots_by_name(open_box: object) -> None:
    async with open_box() as box:  # type: ignore[operator]
        await box.snapshot("s")
        await box.close()
        for work in (box.snapshot, box.rollback, box.forget, box.diff):
            await within(5, refused(work("s"), SandboxLost), "a call on a closed sandbox")


_TREE = (
    "import os, shutil\nos.makedirs('d/e', exist_ok=True)\nfor n in 'abcd': open('d/' + n, 'w').write('1')"
)


@DIFF.fresh()
async def a_difference_names_added_changed_and_removed_paths(box: Box) -> None:
    await box.run(_TREE)
    await box.snapshot("one")
    await box.run(
        "open('d/a', 'w').write('2')\nos.remove('d/b')\nos.rmdir('d/e')\nopen('/tmp/new', 'w').close()"
    )
    await box.snapshot("two")
    await box.sh("touch later")
    found = await box.diff("one", "two")
    same(found.added, ("/tmp/new",), "what was added")
    same(found.changed, ("/work/d/a",), "what was changed")
    same(found.removed, ("/work/d/b", "/work/d/e"), "what was removed")
    same((await box.diff("two")).added, ("/work/later",), "what was added until now")


@DIFF.fresh()
async def a_difference_sees_content_that_keeps_size_and_time_and_modes(box: Box) -> None:
    await box.run("import os\nfor n in 'ab': open(n, 'w').write('1'); os.utime(n, (1, 1))")
    await box.snapshot("s")
    await box.run("open('a', 'w').write('2'); os.utime('a', (1, 1)); os.chmod('b', 0o600)")
    same((await box.diff("s")).changed, ("/work/a", "/work/b"), "what was changed")


@DIFF.fresh()
async def nothing_done_is_no_difference(box: Box) -> None:
    await box.run(_TREE + "\nz = 1")
    await box.snapshot("s")
    await box.run("for n in 'abcd': open('d/' + n).read()\nos.listdir('d')")
    found = await box.diff("s")
    same((found.added, found.changed, found.removed), ((), (), ()), "the difference")
    same((await box.diff("s", "s")).changed, (), "the difference to itself")


@DIFF.fresh("interpreter:python")
async def a_difference_names_variables(box: Box) -> None:
    await box.run("x = y = 1")
    await box.snapshot("s")
    await box.run("del y\nz = 1")
    found = await box.diff("s")
    same((found.variables_added, found.variables_removed), (("z",), ("y",)), "the variables")


@DIFF.fresh()
async def a_difference_shows_deletions_of_whole_folders(box: Box) -> None:
    await box.run(_TREE)
    await box.snapshot("s")
    await box.sh("rm -r d; mkdir made; touch made/x")
    found = await box.diff("s")
    holds(
        {"/work/d/a", "/work/d/d"} <= set(found.removed) or found.removed == ("/work/d",), f"{found.removed}"
    )
    holds("/work/made/x" in found.added or found.added == ("/work/made",), f"{found.added}")
