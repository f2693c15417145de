"""Ends that nobody planned: cancellations, callbacks that raise, machines that die, descriptors that stay."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from terraphim_rlm import Resources, Sandbox, open_sandbox
from terraphim_rlm.core.errors import InvalidArgument, SandboxLost
from terraphim_rlm.guest import frames
from terraphim_rlm.sandbox.link.channel import Channel

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]


def broken(*_: object) -> None:
    raise LookupError("the callback is broken")


def pid_of(box: Sandbox) -> int:
    """The host's pid of the sandbox's pid 1."""
    kept: Any = box.machine.guest.link
    return next(int(value) for value in (getattr(kept, "pid", 0), kept._kept.pid) if value)


async def test_an_output_callback_that_raises_ends_its_execution_and_nothing_else(box: Sandbox) -> None:
    for language in ("python", "bash"):
        code = {"python": "print('x'); v = 1", "bash": "echo x"}[language]
        with pytest.raises(LookupError):
            await asyncio.wait_for(box.run(code, language, on_output=broken), 10)
        assert (await asyncio.wait_for(box.run(code, language), 10)).status == "ok"
    with pytest.raises(LookupError):
        await asyncio.wait_for(box.sh("echo x", on_output=broken), 10)


async def test_the_killed_leftovers_of_a_command_are_really_gone(box: Sandbox) -> None:
    await box.sh("sleep 4711 & echo done")
    left = await box.sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")

    assert "sleep 4711" not in left.stdout


async def test_a_command_that_is_cancelled_while_it_starts_does_not_run_on(box: Sandbox) -> None:
    running = asyncio.ensure_future(box.sh("sleep 4712"))
    for _ in range(2):
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    left = await box.sh("sleep 0.1; cat /proc/[0-9]*/cmdline | tr '\\0' ' '")

    assert "sleep 4712" not in left.stdout


@pytest.mark.parametrize("moment", ["idle", "python", "bash", "sh", "starting", "fetch"])
async def test_a_machine_that_is_killed_is_told_and_never_waited_for(moment: str) -> None:
    async with open_sandbox("bubblewrap") as box:
        await box.run("x = 1")
        await box.run("x=1", "bash")
        go = asyncio.Event()
        work: Any = {
            "python": lambda: box.run(
                "print(1)\nwhile True: pass", timeout=None, on_output=lambda *_: go.set()
            ),
            "bash": lambda: box.run("echo; sleep 99", "bash", timeout=None, on_output=lambda *_: go.set()),
            "sh": lambda: box.sh("echo; sleep 99", timeout=None, on_output=lambda *_: go.set()),
            "starting": lambda: box.new_interpreter().execute("1", timeout=None),
            "fetch": lambda: box.python.fetch("x"),
        }.get(moment)
        task = asyncio.ensure_future(work()) if work else None
        if moment in ("python", "bash", "sh"):
            await asyncio.wait_for(go.wait(), 5)
        elif task:
            await asyncio.sleep(0)
        os.kill(pid_of(box), signal.SIGKILL)
        if task:
            done, _ = await asyncio.wait([task], timeout=5)
            assert done, "it hangs"
            if task.exception() is None and moment in ("python", "bash", "sh"):
                result = task.result()
                assert (result.status, result.state_after) == ("killed", "lost")
                assert not any("fresh" in note for note in result.notes)
            else:
                assert task.exception() is None or isinstance(task.exception(), SandboxLost)
        await asyncio.wait_for(box.machine.guest.link.ended(), 5)
        for again in (box.run("1"), box.run("1", "bash"), box.sh("true")):
            first_to_notice, error = (await asyncio.gather(again, return_exceptions=True))[0], None
            if isinstance(first_to_notice, SandboxLost):
                error = first_to_notice
                assert error.fix
            assert error or first_to_notice.status == "killed"  # type: ignore[union-attr]


async def test_an_interpreter_that_died_between_cells_is_said_to_be_a_new_one(box: Sandbox) -> None:
    await box.run(
        "import threading, time, os\nthreading.Thread(target=lambda: (time.sleep(0.05), os._exit(3))).start()"
    )
    await asyncio.sleep(0.3)
    result = await asyncio.wait_for(box.run("'x' in dir()"), 5)

    assert (result.status, result.stdout) == ("ok", "False\n")
    assert any("lost" in note for note in result.notes)


async def test_a_bash_that_closes_every_descriptor_still_obeys_its_time(box: Sandbox) -> None:
    script = 'for n in 3 4 10 11 12 13 14; do eval "exec $n>&-"; done; while :; do sleep 0.01; done'
    result = await asyncio.wait_for(box.run(script, "bash", timeout=0.3), 5)

    assert result.state_after == "lost"
    assert (await asyncio.wait_for(box.run("echo ok", "bash"), 5)).stdout == "ok\n"


async def test_a_bash_that_dies_under_a_background_copy_of_itself_is_noticed(box: Sandbox) -> None:
    result = await asyncio.wait_for(
        box.run("(while :; do sleep 1; done) & kill -9 $$", "bash", timeout=20), 5
    )

    assert (result.status, result.state_after) == ("killed", "lost")


@pytest.mark.parametrize(
    ("code", "options"),
    [
        ("#" + "x" * (65 << 20), {}),
        ("echo '\ud800'", {"language": "bash"}),
        ("1", {"env": {"A": "\ud800"}}),
        ("1", {"env": {"A": 1}}),
        ("1", {"cwd": "a\0b"}),
    ],
)
async def test_what_no_sandbox_can_take_is_refused_and_the_next_run_works(
    box: Sandbox, code: str, options: dict[str, Any]
) -> None:
    await box.run("kept = 1")
    with pytest.raises(InvalidArgument):
        await asyncio.wait_for(box.run(code, **options), 10)

    assert (await asyncio.wait_for(box.run("kept"), 5)).stdout == "1\n"


async def test_a_command_that_is_too_long_is_refused_by_its_size(box: Sandbox) -> None:
    with pytest.raises(InvalidArgument):
        await box.sh("#" * 300_000)
    with pytest.raises(InvalidArgument):
        await box.sh("echo '\ud800'")


async def test_a_folder_that_is_not_there_is_no_reason_to_work_in_another(box: Sandbox) -> None:
    result = await box.run("import os; os.getcwd()", cwd="/proc/nope")

    assert result.status == "exit_nonzero"
    assert result.error is not None
    assert result.error.type == "FileNotFoundError"
    assert (await box.run("import os; os.getcwd()")).stdout == "'/work'\n"


async def test_cancelling_at_any_moment_leaves_no_descriptor(tmp_path: Path) -> None:
    async with open_sandbox("bubblewrap") as box:
        await box.run("1")
        await box.run("true", "bash")
        await box.sh("true")
        before = sorted(os.listdir("/proc/self/fd"))
        for work in (
            lambda: box.run("1", stdin="x"),
            lambda: box.sh("true", stdin="x"),
            lambda: box.run("true", "bash"),
            lambda: box.new_interpreter().execute("1", timeout=5),
        ):
            for steps in range(0, 12):
                task = asyncio.ensure_future(work())
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        assert (await asyncio.wait_for(box.run("2"), 10)).stdout == "2\n"
        assert (await asyncio.wait_for(box.run("echo 2", "bash"), 10)).stdout == "2\n"
        assert len(os.listdir("/proc/self/fd")) <= len(before) + 4


async def test_two_closes_at_once_both_return_when_nothing_is_left() -> None:
    async with open_sandbox("bubblewrap") as box:
        await box.run("1")
        link = box.machine.guest.link
        running = asyncio.ensure_future(box.run("while True: pass", timeout=None))
        await asyncio.sleep(0.05)
        await asyncio.wait_for(asyncio.gather(box.close(), box.close()), 10)
        assert (await asyncio.wait_for(link.ended(), 0.01)) is not None
        assert (await asyncio.gather(running, return_exceptions=True))[0] is not None


async def test_a_thread_left_in_a_call_does_not_take_what_is_meant_for_the_next_cell(box: Sandbox) -> None:
    code = (
        "import threading, time\n"
        "for _ in range(4): threading.Thread(target=lambda: llm_query('x'), daemon=True).start()\n"
        "time.sleep(0.05)"
    )
    await box.python.execute(code, timeout=5, handler=lambda call: None)
    for n in range(20):
        result = await asyncio.wait_for(box.run(f"print({n})", timeout=3), 5)
        assert result.stdout == f"{n}\n"
    assert (await asyncio.wait_for(box.python.fetch("n"), 5))["found"] is False


async def test_a_child_that_ran_out_of_memory_is_told_when_its_shell_goes_on() -> None:
    async with open_sandbox("bubblewrap", resources=Resources(memory_mb=128)) as box:
        if box.capabilities.limits.get("memory") != "kernel-group":
            pytest.skip("memory is not limited by a kernel group here")
        result = await box.sh("python3 -c 'x = bytearray(b\"a\" * 10**9)'; echo rest")

    assert (result.status, result.stdout) == ("ok", "rest\n")
    assert any("memory" in note for note in result.notes)


async def test_code_that_is_killed_for_memory_before_its_host_looks_again_is_told_as_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with open_sandbox("bubblewrap", resources=Resources(memory_mb=128)) as box:
        if box.capabilities.limits.get("memory") != "kernel-group":
            pytest.skip("memory is not limited by a kernel group here")
        await box.run("1")
        guest, send = box.python._guest, Channel.send

        def held_up(self: Channel, kind: int, *rest: Any) -> None:
            send(self, kind, *rest)
            deadline = time.monotonic() + 20
            while kind == frames.EXEC and not guest.link.oom_kills() and time.monotonic() < deadline:
                pass

        monkeypatch.setattr(Channel, "send", held_up)
        result = await box.run("x = bytearray(b'a' * 10**9)")

    assert (result.status, result.state_after) == ("oom", "lost")
