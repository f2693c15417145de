"""The real command on a real terminal with the real engine and sandbox: the live tree, and Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_kit import TRLM, started, trlm

pytestmark = pytest.mark.sandbox
ENDLESS = "import time\nprint('\\x1b]0;owned\\x07here')\nwhile True:\n    time.sleep(0.01)"


class Terminal:
    """A command whose standard streams are a terminal."""

    def __init__(self, *arguments: str, data: Path, env: dict[str, str] | None = None) -> None:
        self.master, slave = pty.openpty()
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(data),
            "TRLM_DATA": str(data),
            "TERM": "xterm-256color",
        }
        self.child = subprocess.Popen(
            [str(TRLM), *arguments],
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            env={**environment, "COLUMNS": "100", "LINES": "30", **(env or {})},
            preexec_fn=lambda: _control(slave),  # noqa: PLW1509 - no other thread runs
        )  # fmt: skip
        os.close(slave)
        self.said = b""

    def until(self, pattern: bytes, timeout: float = 30.0) -> None:
        """Reads on until `pattern` was said, or the end."""
        deadline = time.monotonic() + timeout
        while not re.search(pattern, self.said):
            if time.monotonic() > deadline:
                self.child.kill()
                raise AssertionError(self.said)
            if not self._read():
                break

    def end(self, timeout: float = 30.0) -> int:
        self.until(b"(?!)", timeout)
        os.close(self.master)
        return self.child.wait(timeout)

    def press(self, key: bytes) -> None:
        os.write(self.master, key)

    def interrupt(self) -> None:
        """Ctrl-C, once it waits for a key: CPython's `input` overlooks a signal between its echo and its next wait."""
        while Path(f"/proc/{self.child.pid}/stat").read_text().rpartition(")")[2].split()[0] == "R":
            os.sched_yield()
        self.press(b"\x03")

    def _read(self) -> bool:
        if not select.select([self.master], [], [], 0.2)[0]:
            return True
        try:
            data = os.read(self.master, 65536)
        except OSError:  # the other end is closed
            return False
        self.said += data
        return bool(data)


def _control(slave: int) -> None:
    """Makes the terminal the child's own, so that Ctrl-C reaches it as a signal."""
    import fcntl
    import termios

    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)


def script(folder: Path, *replies: str) -> str:
    path = folder / "script.jsonl"
    path.write_text("".join(json.dumps({"reply": reply}) + "\n" for reply in replies))
    return f"scripted:{path}"


def big(folder: Path) -> str:
    path = folder / "input.txt"
    path.write_text("some words\n" * 20_000)
    return str(path)


def test_a_terminal_shows_the_tree_and_then_the_answer(tmp_path: Path) -> None:
    model = script(tmp_path, "```python\nprint(len(context))\n```", "FINAL(done)")
    terminal = Terminal("ask", "How long?", big(tmp_path), "--model", model, data=tmp_path / "data")
    assert terminal.end() == 0
    text = terminal.said.decode()
    assert "python 1  print(len(context))  ok" in text
    assert "done\r\n" in text
    assert re.search(r"cost \$0 · .* · \d", text)
    assert "\x1b[?25h" in text[text.rindex("\x1b[?25l") :], "the cursor comes back"


def test_ctrl_c_once_ends_cleanly_and_what_was_done_can_be_shown(tmp_path: Path) -> None:
    data = tmp_path / "data"
    terminal = Terminal(
        "ask",
        "How long?",
        big(tmp_path),
        "--model",
        script(tmp_path, f"```python\n{ENDLESS}\n```"),
        data=data,
    )
    terminal.until(rb"running code")
    terminal.press(b"\x03")
    assert terminal.end() == 130
    text = terminal.said.decode()
    assert "\x1b]" not in text
    kept = re.search(r"`trlm runs show (run-\w+)`", text)
    assert kept is not None, text
    shown = trlm("runs", "show", kept[1], data=data)
    assert shown.returncode == 0
    assert "cancelled" in shown.stdout
    assert "\x1b" not in shown.stdout
    assert [
        run["status"] for run in json.loads(trlm("runs", "list", "--json", data=data).stdout)["data"]["runs"]
    ] == ["cancelled"]


STUBBORN = """
import asyncio
from terraphim_rlm.core.errors import Cancelled
from terraphim_rlm.faces.cli.interrupt import Work
async def stubborn():
    while True:
        try:
            print("working", flush=True)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            print("stopping", flush=True)
            await asyncio.sleep(0)
Work(stubborn, lambda: Cancelled("Stopped.")).run()
"""


def test_ctrl_c_twice_leaves_at_once_however_long_the_clean_up_takes() -> None:
    with started(sys.executable, "-c", STUBBORN) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"working\n"
        child.send_signal(signal.SIGINT)
        assert child.stdout.readline() == b"stopping\n"
        child.send_signal(signal.SIGINT)
        assert child.communicate(timeout=10)[1] == b""
        assert child.returncode == 130


def test_a_command_that_dies_leaves_no_process_and_an_interrupted_run(tmp_path: Path) -> None:
    data = tmp_path / "data"
    model = script(tmp_path, f"```python\n{ENDLESS}\n```")
    terminal = Terminal("ask", "How long?", big(tmp_path), "--model", model, data=data)
    terminal.until(rb"running code")
    below = _below(terminal.child.pid)
    assert below
    terminal.child.kill()
    terminal.end()
    deadline = time.monotonic() + 10
    while alive := [pid for pid in below if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.02)
    (run,) = json.loads(trlm("runs", "list", "--json", data=data).stdout)["data"]["runs"]
    assert run["status"] == "interrupted"


def _below(ancestor: int) -> set[int]:
    """The process ids of all descendants."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found: set[int] = set()
    while more := {pid for pid, parent in parents.items() if parent in found | {ancestor}} - found:
        found |= more
    return found


def test_no_colour_means_none(tmp_path: Path) -> None:
    model = script(tmp_path, "```python\nprint(len(context))\n```", "FINAL(done)")
    terminal = Terminal(
        "ask", "How long?", big(tmp_path), "--model", model, data=tmp_path / "data", env={"NO_COLOR": "1"}
    )
    assert terminal.end() == 0
    assert not re.search(rb"\x1b\[[0-9;]*(3[0-9]|9[0-9])m", terminal.said)


def test_output_of_a_sandbox_cannot_steer_the_terminal(tmp_path: Path) -> None:
    code = "print('\\x1b]0;owned\\x07\\x9b2Jtext')"
    terminal = Terminal("exec", "-c", code, data=tmp_path / "data")
    assert terminal.end() == 0
    assert terminal.said == b"\\x1b]0;owned\\x07\\x9b2Jtext\r\n"


def test_two_questions_at_once_both_get_their_answer(tmp_path: Path) -> None:
    model = script(tmp_path, "```python\nprint(len(context))\n```", "FINAL(done)")
    command = ["ask", "How long?", big(tmp_path), "--model", model]
    one, other = (Terminal(*command, data=tmp_path / "data") for _ in range(2))
    assert (one.end(), other.end()) == (0, 0)
    listed = json.loads(trlm("runs", "list", "--json", data=tmp_path / "data").stdout)["data"]["runs"]
    assert [run["status"] for run in listed] == ["done", "done"]
