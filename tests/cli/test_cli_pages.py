"""What the pages say of the command line is what it does."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from cli_kit import trlm

ROOT = Path(__file__).resolve().parents[2]
ENDS = {"ollama": ("E205", 6), "openai": ("E205", 6), "openrouter": ("E203", 5), "built-in": ("E202", 3)}
INPUTS = ("/usr/lib/python3.11", "PATH")


def test_the_page_of_commands_is_what_the_commands_say() -> None:
    printed = subprocess.run(
        [sys.executable, ROOT / "scripts/lib/cli-page"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert printed == page, "run scripts/lib/cli-page"


def _shown(command: str) -> list[str]:
    """The tutorial's lines of one command, without prompt and folder."""
    tutorial = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    return re.findall(rf"^\$ (?:[A-Z_]+=\S+ )?\.venv/bin/trlm ({command}\b[^\n]*)$", tutorial, re.MULTILINE)


@pytest.mark.sandbox
def test_the_tutorials_code_runs_in_the_sandbox_with_the_outcome_that_it_shows(tmp_path: Path) -> None:
    done = [trlm(*shlex.split(line), data=tmp_path) for line in _shown("exec")]
    assert [(each.stdout, each.stderr, each.returncode) for each in done] == [
        ("42\n", "", 0),
        ("42\n", "", 3),
    ]


@pytest.mark.parametrize("line", _shown("ask"))
def test_each_question_of_the_tutorial_is_understood(line: str, tmp_path: Path) -> None:
    """Without the weights, a server or a key, each ends with the error that says just that."""
    (tmp_path / "input.txt").write_text("words")
    words = [str(tmp_path / "input.txt") if word in INPUTS else word for word in shlex.split(line)]
    provider = next((each for each in ENDS if f" {each}/" in line), "built-in")
    away = ["--base-url=http://127.0.0.1:1"] if provider in ("ollama", "openai") else []
    done = trlm(*words, *away, data=tmp_path / "data")
    code, exits = ENDS[provider]
    assert f"[{code}]" in done.stderr
    assert done.returncode == exits
