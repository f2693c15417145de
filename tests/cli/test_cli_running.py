"""A run of one process, seen, stopped and gone on with from another one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cli_kit import TRLM, trlm

pytestmark = pytest.mark.sandbox

FIRST = "```python\nanswer['content'] = 'a draft'\nn = len(context)\nprint('seen', n)\n```"


def envelope(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout)
    return found


class Asked:
    """`trlm ask` in the background, its model played by files."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        self.model = folder / "model"
        self.text = folder / "text.txt"
        self.text.write_text("some text\n" * 10_000)  # too long to be sent whole
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "TRLM_DATA": str(self.data),
            "TRLM_CONFIG": str(folder / "none"),
        }
        self.process = subprocess.Popen(
            [str(TRLM), "ask", "How many?", str(self.text), "--model", f"manual:{self.model}", "--jsonl"],
            env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.lines: Iterator[str] = iter(self.process.stdout)
        self.run = ""

    def until(self, kind: str) -> dict[str, Any]:
        """Reads on to the next event of a type."""
        for line in self.lines:
            event: dict[str, Any] = json.loads(line)
            self.run = event.get("run", self.run)
            if event.get("type") == kind:
                return event
        raise AssertionError(f"it ended without {kind}")

    def reply(self, number: int, text: str) -> None:
        request = self.model / f"{number:04}.request.json"
        while not request.exists():  # it is numbered just after it is told
            os.sched_yield()
        beside = self.model / ".reply"
        beside.write_text(text)
        beside.replace(self.model / f"{number:04}.reply.txt")


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Asked]:
    found = Asked(tmp_path)
    try:
        yield found
    finally:
        found.process.kill()
        found.process.communicate()


@contextmanager
def watching(asked: Asked) -> Iterator[subprocess.Popen[str]]:
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(asked.data),
        "TRLM_DATA": str(asked.data),
        "TRLM_CONFIG": str(asked.data / "none"),
    }
    command = [str(TRLM), "runs", "watch", asked.run, "--jsonl"]
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def to_second_turn(asked: Asked) -> None:
    """Plays the first turn; the second one is asked and waits."""
    asked.until("turn.request")
    asked.reply(1, FIRST)
    asked.until("cell.finished")
    asked.until("turn.request")


def test_a_run_is_watched_without_a_gap_and_cancelled_from_another_process(asked: Asked) -> None:
    to_second_turn(asked)
    with watching(asked) as watcher:
        done = trlm("runs", "cancel", asked.run, "--json", data=asked.data)
        seen, _ = watcher.communicate(timeout=60)
    stopped = envelope(done)["data"]["run"]
    assert (stopped["status"], stopped["partial"], stopped["answer"]) == ("cancelled", True, "a draft")
    rest = [json.loads(line) for line in asked.lines]
    assert asked.process.wait() == 130
    assert rest[-1]["errors"][0]["code"] == "E130"
    answer = rest[-1]["data"]
    assert (answer["termination"], answer["partial"], answer["text"]) == ("cancelled", True, "a draft")

    events = [json.loads(line) for line in seen.splitlines()]
    assert [each["seq"] for each in events[:-1]] == list(range(1, len(events)))
    assert events[-2]["type"] == "run.finished"
    assert events[-1]["data"]["run"]["status"] == "cancelled"
    assert not list((asked.data / "run" / "runs").iterdir())


def test_a_run_that_was_killed_goes_on_in_another_process(asked: Asked) -> None:
    to_second_turn(asked)
    asked.process.send_signal(signal.SIGKILL)
    asked.process.wait()
    unreachable = trlm("runs", "cancel", asked.run, data=asked.data)
    assert "has ended already (interrupted)" in unreachable.stderr
    script = asked.folder / "script.jsonl"
    script.write_text(json.dumps({"reply": "FINAL_VAR(n)", "match": "Turn 2 "}) + "\n")
    done = trlm("runs", "resume", asked.run, "--model", f"scripted:{script}", "--json", data=asked.data)
    answer = envelope(done)["data"]
    assert (answer["value"], answer["run_id"], answer["partial"]) == (100_000, asked.run, False)

    replayed = envelope(trlm("runs", "replay", asked.run, "--json", data=asked.data))["data"]
    assert (replayed["same"], replayed["whole"], replayed["turns"]) == (True, True, 2)
    script.write_text(json.dumps({"reply": "FINAL(forked)", "match": "The user adds: Again"}) + "\n")
    options = ("--turn", "2", "--prompt", "Again", "--model", f"scripted:{script}", "--json")
    forked = envelope(trlm("runs", "fork", asked.run, *options, data=asked.data))["data"]
    assert (forked["value"], forked["run_id"] != asked.run) == ("forked", True)


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (("watch", "run-nothing"), 4, "there are no runs yet"),
        (("cancel", "run-nothing"), 4, "there are no runs yet"),
        (("resume", "run-nothing"), 4, "there are no runs yet"),
        (("fork", "run-nothing", "--turn", "0"), 4, "there are no runs yet"),
        (("replay", "run-nothing"), 4, "there are no runs yet"),
        (("resume", "run-nothing", "--tokens", "-1"), 2, "--tokens"),
    ],
)
def test_a_run_that_is_not_there_is_an_error_that_says_so(
    command: tuple[str, ...], code: int, said: str, tmp_path: Path
) -> None:
    done = trlm("runs", *command, data=tmp_path)
    assert done.returncode == code
    assert said in done.stderr
