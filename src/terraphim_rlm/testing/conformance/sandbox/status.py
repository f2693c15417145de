"""How executions end: statuses, exit codes, signals, errors."""

from __future__ import annotations

import asyncio
import json

from terraphim_rlm.testing.conformance.checks import holds, like, raised, same, within
from terraphim_rlm.testing.conformance.model import Box, Group

STATUS = Group("status")


@STATUS.shared()
async def code_that_ends_well_is_ok(box: Box) -> None:
    wanted = {"status": "ok", "exit_code": 0, "signal": None, "error": None, "state_after": "kept"}
    like(await box.run("x = 1"), **wanted)
    like(await box.run("x=1", "bash"), **wanted)
    like(await box.sh("true"), **wanted)


@STATUS.shared()
async def an_exception_is_told_by_type_message_and_line(box: Box) -> None:
    result = like(await box.run("a = 1\nb = {}\nb['key']"), status="exit_nonzero", exit_code=1, signal=None)
    error = raised(result, "KeyError")
    holds("key" in error.message, f"the message is {error.message!r}")
    holds("line 3" in error.traceback, "the traceback names the line")


@STATUS.shared()
async def a_syntax_error_is_an_error_of_the_code(box: Box) -> None:
    result = like(await box.run("x = (1\ny = 2"), status="exit_nonzero", exit_code=1, state_after="kept")
    raised(result, "SyntaxError")


@STATUS.shared()
async def every_exit_code_from_0_to_255_comes_back(box: Box) -> None:
    ends = await asyncio.gather(*(box.sh(f"exit {code}") for code in range(256)))
    same([end.exit_code for end in ends], list(range(256)), "the exit codes")
    same({end.status for end in ends[1:]}, {"exit_nonzero"}, "the status of a code that is not 0")
    same({end.signal for end in ends}, {None}, "the signal of a command that was not killed")


@STATUS.shared()
async def sys_exit_gives_its_code_and_keeps_the_state(box: Box) -> None:
    for said, code in (("", 0), ("None", 0), ("3", 3), ("124", 124), ("255", 255), ("'words'", 1)):
        status = "exit_nonzero" if code else "ok"
        like(
            await box.run(f"import sys; left = {code}; sys.exit({said})"),
            status=status,
            exit_code=code,
            state_after="kept",
        )
        like(await box.run("left"), stdout=f"{code}\n")


@STATUS.shared()
async def a_command_killed_by_a_signal_names_it(box: Box) -> None:
    for signal in (1, 2, 6, 9, 11, 15):
        like(await box.sh(f"kill -{signal} $$; sleep 9"), status="killed", signal=signal, exit_code=None)


@STATUS.shared()
async def an_early_death_by_signal_is_no_time_out(box: Box) -> None:
    like(await box.sh("kill -TERM $$; sleep 9", timeout=30), status="killed", signal=15)


@STATUS.shared()
async def a_python_that_kills_itself_is_killed_and_its_state_is_lost(box: Box) -> None:
    await box.run("gone = 1")
    like(
        await box.run("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"),
        status="killed",
        signal=11,
        exit_code=None,
        state_after="lost",
    )
    raised(await box.run("gone"), "NameError")


@STATUS.shared()
async def a_python_that_ends_itself_gives_its_code_and_loses_its_state(box: Box) -> None:
    like(
        await box.run("import os; print('last', flush=True); os._exit(7)"),
        status="exit_nonzero",
        exit_code=7,
        state_after="lost",
        stdout="last\n",
    )
    like(await box.run("1 + 1"), status="ok", stdout="2\n", state_after="kept")


@STATUS.shared()
async def the_end_of_python_is_told_at_once_though_a_child_lives_on(box: Box) -> None:
    code = "import os, time\nif os.fork() == 0: time.sleep(30)\nos._exit(3)"
    result = await within(8, box.run(code, timeout=25), "an execution that ended itself")
    like(result, status="exit_nonzero", exit_code=3, state_after="lost")
    like(await within(8, box.run("1 + 1"), "the next execution"), stdout="2\n")


@STATUS.shared()
async def an_interrupt_that_code_raises_itself_is_only_an_error(box: Box) -> None:
    await box.run("kept = 5")
    result = like(await box.run("raise KeyboardInterrupt"), status="exit_nonzero", state_after="kept")
    raised(result, "KeyboardInterrupt")
    like(await box.run("kept"), stdout="5\n")


@STATUS.shared()
async def an_error_of_any_class_is_told(box: Box) -> None:
    result = await box.run("class Odd(BaseException): pass\nraise Odd('why')")
    same(raised(result, "Odd").message, "why", "the message")
    result = await box.run("raise ExceptionGroup('both', [ValueError(1), KeyError(2)])")
    raised(like(result, status="exit_nonzero"), "ExceptionGroup")


@STATUS.shared()
async def recursion_without_end_is_an_error_and_keeps_the_state(box: Box) -> None:
    await box.run("kept = 6")
    result = await box.run("def f(): return f()\nf()")
    raised(like(result, status="exit_nonzero"), "RecursionError")
    like(await box.run("kept"), stdout="6\n")


@STATUS.shared()
async def a_command_that_is_not_there_is_127_and_one_that_is_no_program_126(box: Box) -> None:
    result = like(await box.sh("no-such-command-here"), status="exit_nonzero", exit_code=127)
    holds("no-such-command-here" in result.stderr, "stderr names the command")
    like(await box.sh("/etc/passwd"), status="exit_nonzero", exit_code=126)


@STATUS.shared()
async def every_execution_has_an_id_of_its_own(box: Box) -> None:
    ends = await asyncio.gather(*(box.sh("true") for _ in range(10)), *(box.run("1") for _ in range(10)))
    same(len({end.execution_id for end in ends}), 20, "the number of ids")
    holds(all(end.execution_id.startswith("exec-") for end in ends), "an id says that it is an execution's")


@STATUS.shared()
async def the_duration_is_the_time_it_ran(box: Box) -> None:
    for result in (await box.run("import time; time.sleep(0.3)"), await box.sh("sleep 0.3")):
        holds(300 <= result.duration_ms["run"] < 5000, f"{result.duration_ms} is not about 300 ms")


@STATUS.shared()
async def a_result_names_its_backend_and_how_each_limit_is_held(box: Box) -> None:
    for result in (await box.run("1"), await box.sh("true")):
        same(result.backend, box.capabilities.backend, "the backend")
        same(dict(result.limits_enforced), dict(box.capabilities.limits), "the limits")


@STATUS.shared()
async def a_result_is_json_by_the_same_names(box: Box) -> None:
    for code in ("print('x')", "raise ValueError('\\ud800')", "import os; _ = os.write(1, b'\\xff\\x00')"):
        result = await box.run(code)
        told = json.loads(json.dumps(result.to_json()).encode())
        same((told["status"], told["schema_version"]), (result.status, 1), "the JSON")
        same(told["stdout"], result.stdout, "stdout in JSON")
