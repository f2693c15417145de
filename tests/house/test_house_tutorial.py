"""What the tutorial shows is what happens."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.sandbox
def test_the_python_of_the_tutorial_runs_as_it_stands(tmp_path: Path) -> None:
    tutorial = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(.*?\n)^```$", tutorial, re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-"],
        input=program,
        env={**os.environ, "TRLM_DATA": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def _command_lines() -> list[str]:
    """Every `trlm` command line that our pages show, in blocks and in sentences."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    blocks = re.findall(r"^```(?:sh|console)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    in_blocks = re.findall(r"(?:\.venv/bin/|^\$ )trlm ([^&\n]+)", "\n".join(blocks), re.MULTILINE)
    return sorted({*in_blocks, *(" ".join(words.split()) for words in re.findall(r"`trlm ([^`.]+)`", text))})


@pytest.mark.parametrize("line", _command_lines())
def test_every_command_that_a_page_shows_exists_with_its_options(line: str) -> None:
    from typer.main import get_command

    from terraphim_rlm.faces.cli.app import build

    command: Any = get_command(build([]))
    words = shlex.split(line)
    while words and not words[0].startswith("-") and hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    assert {word.partition("=")[0] for word in words if word.startswith("-") and word != "-"} <= known
