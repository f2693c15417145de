"""What a caller of `Sandbox.run` may rely on, against a real bubblewrap sandbox."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from terraphim_rlm import Resources, Sandbox, open_sandbox
from terraphim_rlm.core.errors import InvalidArgument, SandboxLost
from terraphim_rlm.engine.context import make_context

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]


async def test_variables_live_on_between_cells(box: Sandbox) -> None:
    await box.run("x = 41")
    result = await box.run("x += 1\nprint(x)")

    assert (result.stdout, result.status, result.exit_code, result.state_after) == ("42\n", "ok", 0, "kept")


async def test_what_was_assigned_before_an_exception_stays(box: Sandbox) -> None:
    failed = await box.run("y = 5\n1 / 0")
    after = await box.run("print(y)")

    assert (failed.status, failed.exit_code) == ("exit_nonzero", 1)
    assert failed.error is not None
    assert failed.error.type == "ZeroDivisionError"
    assert 'File "<cell 1>", line 2' in failed.error.traceback
    assert "/trlm" not in failed.error.traceback
    assert after.stdout == "5\n"


async def test_the_last_expression_is_shown_and_await_works_at_the_top(box: Sandbox) -> None:
    result = await box.run("import asyncio\nawait asyncio.sleep(0)\n6 * 7")

    assert result.stdout == "42\n"


async def test_functions_see_later_globals(box: Sandbox) -> None:
    await box.run("limit = 1\ndef f(): return limit")
    result = await box.run("limit = 99\nf()")

    assert result.stdout == "99\n"


@pytest.mark.parametrize(
    ("code", "status", "exit_code"),
    [
        ("import sys; sys.exit()", "ok", 0),
        ("import sys; sys.exit(3)", "exit_nonzero", 3),
        ("import sys; sys.exit('text')", "exit_nonzero", 1),
        ("import sys; sys.exit(124)", "exit_nonzero", 124),
        ("import sys; sys.exit(256)", "ok", 0),
        ("raise KeyboardInterrupt", "exit_nonzero", 1),
        ("class E(BaseException): pass\nraise E('x')", "exit_nonzero", 1),
        ("raise MemoryError", "oom", 1),
        ("raise OSError(28, 'full')", "disk_full", 1),
    ],
)
async def test_every_way_to_leave_a_cell_keeps_the_state(
    box: Sandbox, code: str, status: str, exit_code: int
) -> None:
    await box.run("kept = 1")
    result = await box.run(code)

    assert (status, exit_code, "kept") == (result.status, result.exit_code, result.state_after)
    assert (await box.run("kept")).stdout == "1\n"


async def test_a_process_that_ends_itself_loses_the_state_and_says_so(box: Sandbox) -> None:
    await box.run("gone = 1")
    result = await box.run("import os; os._exit(7)")
    after = await box.run("gone")

    assert (result.status, result.exit_code, result.state_after) == ("exit_nonzero", 7, "lost")
    assert after.error is not None
    assert after.error.type == "NameError"


async def test_a_process_that_kills_itself_is_killed_by_that_signal(box: Sandbox) -> None:
    result = await box.run("import os; os.kill(os.getpid(), 11)")

    assert (
        result.status, result.exit_code, result.signal, result.state_after,
    ) == ("killed", None, 11, "lost")  # fmt: skip


async def test_a_cell_that_yields_to_the_interrupt_keeps_its_state(box: Sandbox) -> None:
    result = await box.run("z = 1\nprint('before', flush=True)\nimport time; time.sleep(60)", timeout=0.2)

    assert (
        result.status, result.exit_code, result.state_after, result.stdout,
    ) == ("timeout", None, "kept", "before\n")  # fmt: skip
    assert (await box.run("z")).stdout == "1\n"


async def test_a_cell_that_ignores_the_interrupt_is_killed_with_all_it_started(box: Sandbox) -> None:
    stubborn = (
        "import signal, subprocess, time\n"
        "subprocess.Popen(['setsid', 'sleep', '1234'])\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "while True: time.sleep(1)"
    )
    result = await box.run(stubborn, timeout=0.3)
    left = await box.sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")

    assert (result.status, result.state_after) == ("timeout", "lost")
    assert "1234" not in left.stdout
    assert (await box.run("1 + 1")).stdout == "2\n"


async def test_streams_do_not_mix_and_bytes_survive(box: Sandbox) -> None:
    code = "import os\n_ = os.write(1, bytes(range(256)) * 40)\n_ = os.write(2, b'err')"
    result = await box.run(code)

    assert hashlib.sha256(bytes(range(256)) * 40).digest() == hashlib.sha256(result.stdout_bytes).digest()
    assert result.stderr == "err"
    assert "\\xff" in result.stdout


async def test_output_comes_while_the_cell_runs() -> None:
    seen: list[tuple[str, str]] = []
    first = asyncio.Event()

    def on_output(stream: str, text: str) -> None:
        seen.append((stream, text))
        first.set()

    async with open_sandbox("bubblewrap") as box:
        running = asyncio.ensure_future(
            box.run("print('one')\nimport time\nwhile True: time.sleep(0.01)", timeout=5, on_output=on_output)
        )
        await asyncio.wait_for(first.wait(), 5)
        assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert seen[0] == ("stdout", "one\n")


async def test_output_past_the_cap_is_dropped_and_said() -> None:
    async with open_sandbox("bubblewrap", resources=Resources(output_bytes=1000)) as box:
        result = await box.run("print('x' * 5_000_000)")
        after = await box.run("print('ok')")

    assert (result.truncated, len(result.stdout), result.status) == (True, 1000, "ok")
    assert (after.truncated, after.stdout) == (False, "ok\n")


async def test_stdin_env_and_folder_hold_for_one_execution(box: Sandbox) -> None:
    code = "import os, sys\nprint(sys.stdin.read(), os.environ.get('A'), os.getcwd())"
    given = await box.run(code, stdin="in", env={"A": "b"}, cwd="/tmp")
    plain = await box.run(code)

    assert given.stdout == "in b /tmp\n"
    assert plain.stdout == " None /work\n"


async def test_a_cancelled_execution_leaves_a_usable_sandbox(box: Sandbox) -> None:
    started = asyncio.Event()
    running = asyncio.ensure_future(
        box.run("v = 3\nprint('go')\nimport time; time.sleep(60)", on_output=lambda *_: started.set())
    )
    await asyncio.wait_for(started.wait(), 5)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert (await box.run("v")).stdout == "3\n"


async def test_executions_of_many_tasks_run_one_after_another_in_order(box: Sandbox) -> None:
    await box.run("seen = []")
    await asyncio.gather(*(box.run(f"seen.append({n})") for n in range(20)))

    assert f"{list(range(20))}\n" == (await box.run("seen")).stdout


async def test_a_forked_child_cannot_answer_for_the_cell(box: Sandbox) -> None:
    result = await box.run("import os\npid = os.fork()\nif pid: os.waitpid(pid, 0); print('parent')")

    assert (result.stdout, result.status) == ("parent\n", "ok")
    assert (await box.run("1 + 1")).stdout == "2\n"


async def test_sub_calls_without_a_model_fail_by_name(box: Sandbox) -> None:
    result = await box.run("llm_query('hello')")

    assert result.error is not None
    assert result.error.type == "ModelCallError"
    assert "without a model" in result.error.message


@pytest.mark.parametrize(
    "options", [{"timeout": 0}, {"timeout": -1}, {"timeout": float("nan")}, {"env": {"LD_PRELOAD": "/x"}}, {"language": "cobol"}]
)  # fmt: skip
async def test_bad_options_are_refused_by_name(box: Sandbox, options: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        await box.run("1", **options)  # type: ignore[arg-type]


async def test_the_helpers_come_back_whatever_a_cell_did_to_them(box: Sandbox) -> None:
    await box.run("llm_query = grep = FINAL = print = None\n__builtins__ = None")
    result = await box.run("print(callable(llm_query), callable(grep), callable(FINAL))")

    assert result.stdout == "True True True\n"


async def test_a_first_cell_that_only_prints_waits_for_no_slow_module(box: Sandbox) -> None:
    result = await box.run("import sys\nprint({'json', 're', 'collections', 'enum'} & set(sys.modules))")

    assert result.stdout == "set()\n"


@pytest.mark.parametrize("imported", ["", "import json, re, collections"])
async def test_helpers_work_beside_modules_of_the_users_own_that_are_called_like_theirs(
    box: Sandbox, imported: str
) -> None:
    result = await box.run(
        "import sys\n"
        "for name in ('json', 're', 'collections'):\n"
        "    with open(f'{name}.py', 'w') as file: file.write('mine = True')\n"
        "sys.path_importer_cache.clear()\n"  # Python looks again only where a folder's time has changed, in ticks
        f"{imported}\n"
        "text = 'one\\ntwo'\n"
        "print(grep('two', text)[0].line, lines(2, 2, text))\n"
        "try: llm_query('hi')\n"
        "except ModelCallError as error: print(error.type)\n"
        "print([hasattr(sys.modules.get(name), 'mine') for name in ('json', 're', 'collections')])"
    )

    assert result.status == "ok", result.error
    assert result.stdout == f"2 two\nNotSupported\n{[bool(imported)] * 3}\n"


async def test_an_interpreter_that_nobody_asks_loads_what_a_later_call_would_wait_for(box: Sandbox) -> None:
    await box.python.start()
    await box.python.warm.wait()
    wanted = "{'json', 're', 'traceback', 'guest.errors', 'guest.views', 'guest.states'}"

    result = await box.run(f"import sys\nprint({wanted} - set(sys.modules))")

    assert result.stdout == "set()\n"


async def test_an_interpreter_that_ends_while_it_starts_is_an_error_with_a_name(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    await box.run("1")
    one, context = box.new_interpreter("/work/one"), make_context("its input")
    one.give(context.handover())
    fork = one._guest.fork

    async def killed(*about: object) -> object:
        child = await fork(*about)  # type: ignore[arg-type]
        child.kill()
        await child.ended()
        return child

    monkeypatch.setattr(one._guest, "fork", killed)
    with pytest.raises(SandboxLost, match="while it started"):
        await one.execute("1", timeout=5)
    monkeypatch.undo()
    assert (await one.execute("print(2)", timeout=5)).stdout == b"2\n"
    await one.close()
    context.close()


@pytest.mark.parametrize("spoken", ["python", "bash", "sh"])
async def test_which_files_an_execution_changed_is_told_to_who_asks(box: Sandbox, spoken: str) -> None:
    await box.files.write("kept.txt", "as it was")
    await box.files.write("old/gone.txt", "x")
    await box.files.write("edited.txt", "before")
    command = "echo new > made.txt; mkdir -p deep/er; echo 2 > deep/er/one.txt; echo changed > edited.txt; rm -r old"
    if spoken == "sh":
        result, again = await box.sh(command, changes=True), await box.sh("true", changes=True)
    else:
        code = f"_ = sh({command!r})" if spoken == "python" else command
        code = f"import subprocess\nsubprocess.run({command!r}, shell=True)" if spoken == "python" else code
        result = await box.run(code, spoken, changes=True)
        again = await box.run("1" if spoken == "python" else "true", spoken, changes=True)
    unasked = await box.run("open('unasked', 'w').close()")

    assert result.files_changed == (
        "deep",
        "deep/er",
        "deep/er/one.txt",
        "edited.txt",
        "made.txt",
        "old",
        "old/gone.txt",
    )
    assert (again.files_changed, unasked.files_changed) == ((), ())


async def test_of_very_many_changed_files_the_first_are_named(box: Sandbox) -> None:
    result = await box.run("for n in range(1100): open(f'{n:04d}', 'w').close()", changes=True)

    assert result.files_changed == tuple(f"{n:04d}" for n in range(1000))
    assert result.notes == ("It changed 1,100 files; the first 1,000 are named.",)


async def test_that_changes_are_not_known_is_said_and_costs_no_result(box: Sandbox) -> None:
    result = await box.run("import os\nprint('ran')\nos.chmod('/work', 0)", changes=True)

    assert (result.stdout, result.status, result.files_changed) == ("ran\n", "ok", ())
    assert result.notes[-1].startswith("Which files it changed is not known: ")
