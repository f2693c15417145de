"""Time-outs: results and not errors, true about the state, and the end of all that was started."""

from __future__ import annotations

import time

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.testing.conformance.checks import begun, ends, holds, like, marker, raised, refused
from terraphim_rlm.testing.conformance.model import Box, Group, Work

TIMEOUTS = Group("time-outs")
_STUBBORN = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: time.sleep(1)"
_DAEMON = """
import os, subprocess, sys, time
subprocess.Popen(["sleep", "{mark}1"])
subprocess.Popen(["bash", "-c", "sleep {mark}2 & wait"])
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvp("sleep", ["sleep", "{mark}3"])
    os._exit(0)
print("started", flush=True)
"""


@TIMEOUTS.shared()
async def a_time_out_comes_in_time(box: Box) -> None:
    works: tuple[Work, ...] = (
        lambda: box.run(_STUBBORN, timeout=0.5),
        lambda: box.sh("trap '' INT TERM HUP; while :; do sleep 1; done", timeout=0.5),
        lambda: box.run("trap '' INT TERM HUP; while :; do sleep 1; done", "bash", timeout=0.5),
    )
    for work in works:
        began = time.monotonic()
        like(await work(), status="timeout")
        took = time.monotonic() - began
        holds(0.5 <= took < 5, f"a time-out of 0.5 s came after {took:.1f} s")


@TIMEOUTS.shared()
async def code_that_yields_to_the_interrupt_keeps_its_state(box: Box) -> None:
    result = await box.run("kept = 7\nprint('before')\nimport time; time.sleep(60)", timeout=0.3)
    like(result, status="timeout", exit_code=None, state_after="kept", stdout="before\n")
    like(await box.run("kept"), stdout="7\n", status="ok")


@TIMEOUTS.shared()
async def a_busy_loop_is_interrupted_too(box: Box) -> None:
    like(
        await box.run("kept = 8\nwhile True: pass", timeout=0.3),
        status="timeout",
        exit_code=None,
        state_after="kept",
    )
    like(await box.run("kept"), stdout="8\n")


@TIMEOUTS.shared()
async def code_that_ignores_the_interrupt_is_killed_and_its_state_said_lost(box: Box) -> None:
    await box.run("gone = 1")
    like(await box.run(_STUBBORN, timeout=0.3), status="timeout", exit_code=None, state_after="lost")
    raised(await box.run("gone"), "NameError")
    like(await box.run("1 + 1"), stdout="2\n", state_after="kept")


@TIMEOUTS.shared()
async def code_that_swallows_the_interrupt_is_killed(box: Box) -> None:
    code = "import time\nwhile True:\n    try: time.sleep(5)\n    except BaseException: pass"
    like(await box.run(code, timeout=0.3), status="timeout", state_after="lost")


@TIMEOUTS.shared()
async def a_command_past_its_time_is_killed_with_its_output_kept(box: Box) -> None:
    result = await box.sh("echo before; echo err >&2; sleep 60", timeout=0.3)
    like(result, status="timeout", exit_code=None, stdout="before\n", stderr="err\n")


@TIMEOUTS.shared()
async def a_command_past_its_time_takes_all_it_started_along(box: Box) -> None:
    mark = marker()
    script = f"sleep {mark}1 & (setsid sleep {mark}2 &) ; bash -c 'sleep {mark}3 & wait' & sleep {mark}4"
    like(await box.sh(script, timeout=0.4), status="timeout")
    await ends(box, mark)


@TIMEOUTS.shared()
async def killed_python_takes_children_and_daemons_along(box: Box) -> None:
    mark = marker()
    like(
        await box.run(_DAEMON.format(mark=mark) + _STUBBORN, timeout=0.6),
        status="timeout",
        state_after="lost",
        stdout="started\n",
    )
    await ends(box, mark)


@TIMEOUTS.shared()
async def an_interrupted_program_that_code_waits_for_ends_too(box: Box) -> None:
    mark = marker()
    like(
        await box.run(f"import subprocess; subprocess.run(['sleep', '{mark}'])", timeout=0.4),
        status="timeout",
        state_after="kept",
    )
    await ends(box, mark)


@TIMEOUTS.shared()
async def a_bash_past_its_time_is_ended_and_its_state_said_lost(box: Box) -> None:
    mark = marker()
    await box.run("gone=1", "bash")
    result = await box.run(f"echo before; sleep {mark}", "bash", timeout=0.3)
    like(result, status="timeout", exit_code=None, state_after="lost", stdout="before\n")
    like(await box.run("echo [$gone]", "bash"), stdout="[]\n", state_after="kept")
    await ends(box, mark)


@TIMEOUTS.shared()
async def a_bash_past_its_time_leaves_python_alone(box: Box) -> None:
    await box.run("beside = 3")
    like(await box.run("sleep 60", "bash", timeout=0.2), status="timeout")
    like(await box.run("beside"), stdout="3\n")


@TIMEOUTS.shared()
async def time_in_the_queue_does_not_count(box: Box) -> None:
    first = begun(box.run("import time; time.sleep(0.6)", timeout=5))
    second = begun(box.run("print('ran')", timeout=0.4))
    like(await first, status="ok")
    like(await second, status="ok", stdout="ran\n")


@TIMEOUTS.shared()
async def no_time_out_means_as_long_as_it_takes(box: Box) -> None:
    like(await box.run("import time; time.sleep(0.2)\nprint(1)", timeout=None), status="ok", stdout="1\n")
    like(await box.sh("sleep 0.2; echo 1", timeout=None), status="ok", stdout="1\n")


@TIMEOUTS.shared()
async def time_outs_that_are_none_are_refused(box: Box) -> None:
    for timeout in (0, -1, float("nan"), float("inf"), "5", True):
        await refused(box.run("1", timeout=timeout), InvalidArgument)
        await refused(box.sh("true", timeout=timeout), InvalidArgument)


@TIMEOUTS.shared()
async def ten_time_outs_in_a_row_leave_a_sandbox_that_works(box: Box) -> None:
    await box.run("count = 0")
    for _ in range(10):
        like(
            await box.run("count += 1\nwhile True: pass", timeout=0.05), status="timeout", state_after="kept"
        )
    like(await box.run("count"), stdout="10\n")
