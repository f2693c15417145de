"""`trlm shell` on a real terminal, and without one, over a daemon that it started itself."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_kit import trlm
from test_cli_terminal import Terminal

pytestmark = pytest.mark.sandbox
CTRL_C, CTRL_D, UP = b"\x03", b"\x04", b"\x1b[A"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder; the daemon that a command starts for it is ended."""
    found = tmp_path_factory.mktemp("shell") / "data"
    try:
        yield found
    finally:
        ended = trlm("serve", "--stop", data=found)
    assert ended.returncode == 0, ended.stderr


@pytest.fixture
def data(folder: Path) -> Iterator[Path]:
    """A data folder with one session, called `work`."""
    assert trlm("session", "new", "--name", "work", data=folder).returncode == 0
    yield folder
    trlm("session", "destroy", "work", data=folder)


def typed(shell: Terminal, line: bytes, answer: bytes) -> None:
    """Types a line once there is a prompt, and waits for the answer."""
    shell.until(PROMPT)
    shell.said = b""
    shell.press(line + b"\r")
    shell.until(answer)


PROMPT = rb"work [a-z]+> $"


@contextlib.contextmanager
def opened(data: Path, *words: str) -> Iterator[Terminal]:
    shell = Terminal("shell", *words, data=data, env={"TERM": "dumb"})
    try:
        yield shell
    finally:
        shell.child.kill()
        shell.child.wait(10)


def test_code_runs_as_it_is_typed_and_what_it_leaves_stays(data: Path) -> None:
    with opened(data) as shell:
        typed(shell, b"x = 41", PROMPT)
        typed(shell, b"x + 1", rb"\r\n42\r\n")
        typed(shell, b"1/0", rb"ZeroDivisionError: division by zero")
        shell.until(PROMPT)
        shell.press(b"def f():\r")
        shell.until(rb"work python\. $")
        shell.press(b"    return x * 2\r\r")
        shell.until(PROMPT)
        typed(shell, b"f()", rb"\r\n82\r\n")
        typed(shell, b"print('no end', end='')", rb"\r\nno end\r\n")
        shell.until(PROMPT)
        shell.press(b"exit\r")
        assert shell.end() == 0
    assert trlm("exec", "--session", "work", "-c", "print(x)", data=data).stdout == "41\n"


def test_ctrl_c_stops_the_code_and_neither_the_shell_nor_the_state(data: Path) -> None:
    with opened(data, "work") as shell:
        typed(shell, b"x = 1", PROMPT)
        typed(shell, b"print('be' + 'gun', flush=True); exec('while True: pass')", rb"begun\r\n")
        shell.press(CTRL_C)
        shell.until(rb"the session work goes on")
        typed(shell, b"x + 1", rb"\r\n2\r\n")
        shell.until(PROMPT)
        shell.press(b"half a line")
        shell.until(rb"half a line$")
        shell.interrupt()
        shell.until(rb"half a line[^>]*work python> $")
        typed(shell, b"x + 2", rb"\r\n3\r\n")
        shell.until(PROMPT)
        shell.press(CTRL_D)
        assert shell.end() == 0


def test_a_mistake_is_taken_back_at_the_prompt(data: Path) -> None:
    with opened(data) as shell:
        typed(shell, b"x = 'good'", PROMPT)
        typed(shell, b":snapshot s", rb"Kept as s\.")
        typed(shell, b"x = 'bad'", PROMPT)
        typed(shell, b":rolback s", rb"Did you mean :rollback\?")
        typed(shell, b":rollback t", rb"There are: s\.")
        typed(shell, b":rollback s", rb"Back at s\.")
        typed(shell, b"x", rb"\r\n'good'\r\n")
        typed(shell, b":help", rb":language L")
        typed(shell, b":language bash", rb"work bash> $")
        typed(shell, b"echo $((6*7)) \\\r  done", rb"\r\n42 done\r\n")
        shell.until(PROMPT)
        shell.press(b"exit\r")
        assert shell.end() == 0


def test_what_was_typed_is_there_in_the_next_shell_and_nobody_elses_to_read(data: Path) -> None:
    with opened(data) as shell:
        typed(shell, b"print(6 * 7)", rb"\r\n42\r\n")
        shell.until(PROMPT)
        shell.press(CTRL_D)
        assert shell.end() == 0
    assert stat.S_IMODE((data / "shell_history").stat().st_mode) == 0o600
    with opened(data) as again:
        typed(again, UP, rb"\r\n42\r\n")
        again.until(PROMPT)
        again.press(CTRL_D)
        assert again.end() == 0


def test_a_shell_whose_session_ends_says_so_and_leaves(data: Path) -> None:
    with opened(data) as shell:
        typed(shell, b"x = 1", PROMPT)
        assert trlm("session", "destroy", "work", data=data).returncode == 0
        typed(shell, b"x", rb"was destroyed\. \[E651\]")
        assert shell.end() == 4


def test_without_a_terminal_lines_of_standard_input_run_without_a_prompt(data: Path) -> None:
    (data / "shell_history").unlink(missing_ok=True)
    lines = "x = 1\nfor i in range(2):\n    print(i)\n\n:snapshot s\nprint(x + 1)\nimport sys; sys.exit(3)\n"
    said = trlm("shell", data=data, input=lines)
    assert (said.returncode, said.stdout, said.stderr) == (3, "0\n1\nKept as s.\n2\n", "")
    bash = trlm("shell", "work", "--language", "bash", data=data, input="cd /tmp\npwd")
    assert (bash.returncode, bash.stdout) == (0, "/tmp\n")
    assert not (data / "shell_history").exists()


def test_a_shell_that_cannot_be_opened_says_why(data: Path, tmp_path: Path) -> None:
    said = trlm("shell", "--language", "cobol", data=data, input="")
    assert (said.returncode, "python, javascript, bash" in said.stderr) == (2, True)
    assert trlm("shell", "wark", data=data, input="").returncode == 4
    none = trlm("shell", data=tmp_path / "none", input="")
    assert (none.returncode, "trlm session new" in none.stderr) == (4, True)
