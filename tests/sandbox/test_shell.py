"""One-shot commands and the stateful bash, against a real bubblewrap sandbox."""

from __future__ import annotations

import pytest

from terraphim_rlm import Sandbox
from terraphim_rlm.core.errors import InvalidArgument

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]


async def test_a_command_gives_output_and_exit_code(box: Sandbox) -> None:
    result = await box.sh("echo $((6*7)); echo no >&2; exit 3")

    assert (
        result.stdout, result.stderr, result.exit_code, result.status,
    ) == ("42\n", "no\n", 3, "exit_nonzero")  # fmt: skip


@pytest.mark.parametrize("code", [0, 1, 124, 137, 143, 255])
async def test_exit_codes_are_never_mistaken_for_something_else(box: Sandbox, code: int) -> None:
    result = await box.sh(f"exit {code}")

    assert (code, "ok" if code == 0 else "exit_nonzero") == (result.exit_code, result.status)


async def test_shell_and_python_share_files(box: Sandbox) -> None:
    await box.sh("echo hello > note")

    assert (await box.run("open('note').read()")).stdout == "'hello\\n'\n"


async def test_a_command_past_its_time_is_killed_with_its_children(box: Sandbox) -> None:
    result = await box.sh("echo start; (setsid sleep 4321 &); sleep 60", timeout=0.3)
    left = await box.sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")

    assert (result.status, result.exit_code, result.stdout) == ("timeout", None, "start\n")
    assert "4321" not in left.stdout


async def test_what_a_command_leaves_running_is_killed_and_said(box: Sandbox) -> None:
    result = await box.sh("sleep 1000 & echo done")

    assert (result.status, result.stdout) == ("ok", "done\n")
    assert result.notes == ("What the command left running was killed.",)


async def test_stdin_reaches_a_command_even_when_it_reads_little(box: Sandbox) -> None:
    result = await box.sh("head -c1", stdin=b"a" * 50_000_000)

    assert (result.stdout, result.status) == ("a", "ok")


async def test_bash_keeps_folder_variables_and_functions(box: Sandbox) -> None:
    await box.run("cd /usr; a=5; f() { echo f$a; }", "bash")
    result = await box.run("pwd; f; false", "bash")

    assert (result.stdout, result.exit_code, result.state_after) == ("/usr\nf5\n", 1, "kept")


async def test_exit_restarts_bash_and_says_that_its_state_is_lost(box: Sandbox) -> None:
    await box.run("a=5", "bash")
    ended = await box.run("exit 4", "bash")
    after = await box.run("echo [$a]", "bash")

    assert (ended.exit_code, ended.state_after, after.stdout) == (4, "lost", "[]\n")


async def test_a_long_script_reaches_bash_whole(box: Sandbox) -> None:
    result = await box.run("x='" + "y" * 1_000_000 + "'; echo ${#x}", "bash")

    assert result.stdout == "1000000\n"


async def test_nul_bytes_in_a_command_are_refused(box: Sandbox) -> None:
    with pytest.raises(InvalidArgument):
        await box.sh("echo \0")
