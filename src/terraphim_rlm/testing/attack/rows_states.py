"""Group K, states: snapshots and rollbacks at the wrong moment, too many, and with processes in their files."""

from __future__ import annotations

import asyncio

from terraphim_rlm.core.errors import DiskFull, SnapshotLimit, SnapshotNotFound, SnapshotRefused
from terraphim_rlm.core.values import ExecutionResult
from terraphim_rlm.sandbox.sandbox import Sandbox
from terraphim_rlm.testing.attack.model import Row
from terraphim_rlm.testing.attack.stage import Stage

_STATE = "import hashlib, os\nprint(x, sorted(os.listdir('/work')), hashlib.sha256(open('/work/f', 'rb').read()).hexdigest())"
_SLOW = "import time\nprint('begun', flush=True)\nfor n in range(15):\n    open('/work/g%d' % n, 'w').write('x')\n    time.sleep(0.1)\nx = 2\nprint('over')"
_STORM = 120
_LOOKS = 40


async def _state(box: Sandbox) -> str:
    return (await box.run(_STATE)).stdout


async def rolls_back_at_any_time(stage: Stage) -> None:
    """K26: a rollback waits for what runs, can be had twice and at once, and leads nowhere but to a snapshot."""
    async with stage.box() as box:
        await box.run("x = 1\nopen('/work/f', 'wb').write(b'kept' * 1000)")
        wanted = await _state(box)
        await box.snapshot("a")
        for _ in range(3):
            running = await _begun(box)
            await box.rollback("a")
            result = await running
            if result.status != "ok":
                stage.harm(f"an execution was ended by a rollback: {result.status}")
            stage.expect(await _state(box) == wanted, "after a rollback the state is another")
        await asyncio.gather(box.rollback("a"), box.rollback("a"), box.run("x = 3"), box.rollback("a"))
        stage.expect(await _state(box) == wanted, "after several rollbacks at once the state is another")
        async with stage.box() as other:
            await other.run("pass")
            foreign = await other.snapshot("foreign")
            await box.forget("a")
            await box.run("x = 4")
            for name in ("a", "none", foreign, foreign.id, "../a", ""):
                try:
                    await box.rollback(name)
                    stage.expect(False, f"it was rolled back to {name!r}")
                except SnapshotNotFound:
                    continue
        stage.expect((await _state(box)).startswith("4 "), "a refused rollback changed the state")


async def _begun(box: Sandbox) -> asyncio.Future[ExecutionResult]:
    begun = asyncio.Event()
    running = asyncio.ensure_future(box.run(_SLOW, timeout=20, on_output=lambda *_: begun.set()))
    await asyncio.wait({running, asyncio.ensure_future(begun.wait())}, return_when="FIRST_COMPLETED")
    return running


async def is_kept_without_end(stage: Stage) -> None:
    """K27: snapshots until one is refused by name; then all goes on, and what is forgotten is free."""
    async with stage.box() as box:
        made = 0
        try:
            for made in range(_STORM):
                await box.run(f"import os\nopen('/work/f', 'wb').write(os.urandom(1 << 20))\nx = {made}")
                await box.snapshot(f"s{made}")
        except (SnapshotLimit, DiskFull, SnapshotRefused):
            pass
        stage.expect(0 < made < _STORM - 1, f"{made + 1} snapshots were kept")
        again = await box.run("print(40 + 2)")
        stage.expect(again.stdout == "42\n", f"the sandbox did not go on working: {again.status}")
        for each in box.snapshots():
            await box.forget(each)
        await box.run("import os\nfor name in os.listdir('/work'): os.path.isfile(name) and os.remove(name)")
        await box.snapshot("after")


async def is_rolled_back_under_a_child(stage: Stage) -> None:
    """K31: a snapshot with a running child is refused, or says that the child is not in it."""
    async with stage.box() as box:
        await box.run("import subprocess\nchild = subprocess.Popen(['sleep', '300'])")
        try:
            await box.snapshot("whole")
            stage.expect(False, "a child process was kept, which cannot be")
        except SnapshotRefused as refused:
            stage.expect("process" in refused.message, f"the refusal does not name it: {refused.message}")
        partial = await box.snapshot("partial", partial=True)
        stage.expect(any("process" in each for each in partial.missing), f"missing: {partial.missing}")
        back = await box.rollback("partial")
        stage.expect(
            any("process" in each for each in back.missing), "the rollback does not say what is missing"
        )
        left = await box.sh(
            "for d in /proc/[0-9]*; do tr '\\0' ' ' < $d/cmdline; echo; done | grep '^sleep 300'"
        )
        stage.expect(not left.stdout, "the child went on past the rollback")


async def writes_into_what_is_kept(stage: Stage) -> None:
    """K32: a process stays in the files of before, and writes there; what was kept never changes."""
    async with stage.box() as box:
        await box.sh("mkdir deep; echo first > deep/x")
        await box.run(
            "import subprocess\nwriter = subprocess.Popen(['sh', '-c', 'cd deep; while :; do echo more >> x; sleep 0.01; done'])"
        )
        for number in range(_LOOKS):
            try:
                await box.snapshot(f"s{number}", partial=True)
                break
            except SnapshotRefused:  # it was just writing
                await asyncio.sleep(0.01 * stage.random.random())
        else:
            return  # it always was, which is refused as well
        (branch,) = await box.branch(1, f"s{number}")
        async with branch:
            kept = await branch.files.read("deep/x")
            for _ in range(3):
                await box.run("import time; time.sleep(0.3)")
                if await branch.files.read("deep/x") != kept:
                    stage.harm("files of a snapshot were changed after it was taken")
            await box.rollback(f"s{number}")
            if await box.files.read("deep/x") != kept:
                stage.harm("a rollback gave other files than were kept")


ROWS = (
    Row("K26", "P0", "is rolled back while it runs, twice, and to what is gone", act=rolls_back_at_any_time, off=("one-after-another",)),
    Row("K27", "P1", "is kept without end", act=is_kept_without_end, most=120.0),
    Row("K31", "P1", "is rolled back under a running child", act=is_rolled_back_under_a_child),
    Row("K32", "P0", "keeps a process in the files of a snapshot, which then writes", act=writes_into_what_is_kept, off=("frozen-layers",)),
)  # fmt: skip
