"""Many callers at one sandbox: order, queue, cancellations."""

from __future__ import annotations

import asyncio

from terraphim_rlm.core.errors import InvalidArgument, SandboxBusy
from terraphim_rlm.core.values import ExecutionResult
from terraphim_rlm.testing.conformance.checks import (
    appears,
    begun,
    ends,
    holds,
    like,
    marker,
    refused,
    same,
    speaking,
    within,
)
from terraphim_rlm.testing.conformance.model import Box, Group, Opener, Work

CONCURRENCY = Group("concurrency")
_UNTIL = "import os, time\nprint('go', flush=True)\nwhile not os.path.exists('/tmp/{name}'): time.sleep(0.01)"


async def _started(box: Box, code: str, language: str = "python") -> asyncio.Future[ExecutionResult]:
    """An execution that has said something."""
    return await speaking(lambda hear: box.run(code, language, on_output=hear))


@CONCURRENCY.shared()
async def executions_run_in_the_order_of_their_calls(box: Box) -> None:
    await box.run("seen = []")
    await asyncio.gather(*(box.run(f"seen.append({n})") for n in range(50)))
    like(await box.run("seen"), stdout=f"{list(range(50))}\n")
    await box.run("seen=", "bash")
    await asyncio.gather(*(box.run(f"seen+={n},", "bash") for n in range(20)))
    like(await box.run("echo $seen", "bash"), stdout="".join(f"{n}," for n in range(20)) + "\n")


@CONCURRENCY.shared()
async def executions_of_one_language_do_not_overlap(box: Box) -> None:
    await box.run("active, most = 0, 0")
    code = "active += 1; most = max(most, active)\nimport time; time.sleep(0.01)\nactive -= 1"
    await asyncio.gather(*(box.run(code) for _ in range(10)))
    like(await box.run("most"), stdout="1\n")


@CONCURRENCY.shared()
async def python_bash_and_commands_run_side_by_side(box: Box) -> None:
    await box.sh("rm -f /tmp/side-*")
    python = await _started(box, _UNTIL.format(name="side-1"))
    bash = await _started(box, "echo go; until [ -e /tmp/side-1 ]; do sleep 0.01; done", "bash")
    like(await within(8, box.sh("touch /tmp/side-1; echo beside"), "a command"), stdout="beside\n")
    like(await within(8, python, "python"), status="ok")
    like(await within(8, bash, "bash"), status="ok")


@CONCURRENCY.shared(seconds=40)
async def forty_commands_at_once_do_not_mix(box: Box) -> None:
    async def one(n: int) -> None:
        result = await box.sh(
            f"cat; for i in 1 2 3; do echo {n}; echo e{n} >&2; done; exit {n}", stdin=f"in{n}\n"
        )
        like(result, stdout=f"in{n}\n" + f"{n}\n" * 3, stderr=f"e{n}\n" * 3, exit_code=n)

    await asyncio.gather(*(one(n) for n in range(1, 41)))


@CONCURRENCY.shared()
async def who_will_not_wait_is_refused_and_has_not_run(box: Box) -> None:
    await box.run("ran = 0")
    await box.sh("rm -f /tmp/busy")
    running = await _started(box, _UNTIL.format(name="busy"))
    await within(2, refused(box.run("ran += 1", wait=0), SandboxBusy), "a refusal")
    await within(5, refused(box.run("ran += 1", wait=0.1), SandboxBusy), "a refusal")
    await box.sh("touch /tmp/busy")
    like(await running, status="ok")
    like(await box.run("ran += 10", wait=0), status="ok")
    like(await box.run("ran"), stdout="10\n")


@CONCURRENCY.shared()
async def who_waits_a_while_gets_his_turn(box: Box) -> None:
    first = begun(box.run("import time; time.sleep(0.3)"))
    await asyncio.sleep(0)
    like(await box.run("print('turn')", wait=10), stdout="turn\n")
    like(await first, status="ok")
    for wait in (-1, float("nan"), "1"):
        await refused(box.run("1", wait=wait), InvalidArgument)


@CONCURRENCY.shared()
async def a_caller_that_leaves_the_queue_has_not_run(box: Box) -> None:
    await box.run("ran = []")
    await box.sh("rm -f /tmp/leave")
    running = await _started(box, _UNTIL.format(name="leave"))
    waiting = [begun(box.run(f"ran.append({n})")) for n in range(3)]
    await asyncio.sleep(0.05)
    waiting[1].cancel()
    await asyncio.gather(waiting[1], return_exceptions=True)
    await box.sh("touch /tmp/leave")
    await within(10, asyncio.gather(running, waiting[0], waiting[2]), "the queue")
    like(await box.run("ran"), stdout="[0, 2]\n")


@CONCURRENCY.shared()
async def a_cancelled_execution_stops_and_leaves_a_sandbox_that_works(box: Box) -> None:
    code = "v = 3\nprint('go', flush=True)\nimport time\nfor n in range(600): time.sleep(0.1)\nv = 4"
    running = await _started(box, code)
    running.cancel()
    await within(5, refused(running, asyncio.CancelledError), "the cancelled call")
    like(await within(5, box.run("v"), "the next execution"), stdout="3\n", status="ok")


@CONCURRENCY.shared()
async def a_cancelled_command_does_not_run_on(box: Box) -> None:
    mark = marker()
    await box.sh("rm -f /tmp/cancel-me")
    running = begun(box.sh(f"touch /tmp/cancel-me; sleep {mark}"))
    await appears(box, "/tmp/cancel-me")
    running.cancel()
    await within(5, refused(running, asyncio.CancelledError), "the cancelled call")
    await ends(box, mark)


@CONCURRENCY.shared()
async def cancelling_at_any_moment_leaves_a_sandbox_that_works(box: Box) -> None:
    works: tuple[Work, ...] = (
        lambda: box.run("1"),
        lambda: box.sh("true", stdin="x"),
        lambda: box.run("true", "bash"),
    )
    for work in works:
        for steps in range(8):
            task = begun(work())
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    like(await within(10, box.run("print(2)"), "python"), stdout="2\n")
    like(await within(10, box.run("echo 2", "bash"), "bash"), stdout="2\n")


@CONCURRENCY.opening(seconds=60)
async def eight_sandboxes_at_once_each_keep_their_own(open_box: Opener) -> None:
    async def one(n: int) -> None:
        async with open_box() as box:
            await box.run(f"own = {n}")
            await box.sh(f"echo {n} > own")
            for _ in range(5):
                like(await box.run("print(own, open('own').read(), end='')"), stdout=f"{n} {n}\n")

    await asyncio.gather(*(one(n) for n in range(8)))


@CONCURRENCY.shared()
async def a_deadline_of_the_callers_own_is_kept(box: Box) -> None:
    async def work() -> None:
        async with asyncio.timeout(0.3):
            await box.run("import time; time.sleep(60)", timeout=None)

    await within(5, refused(work(), TimeoutError), "a call under the caller's own time-out")
    like(await within(5, box.run("1 + 1"), "the next execution"), stdout="2\n")
    holds((await box.sh("echo fine")).status == "ok", "a command after it is fine")
    same((await box.run("echo x", "bash")).stdout, "x\n", "bash after it")
