"""The page of sessions shows what happens: each of its lines is run, and what it shows is compared with what comes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import page_kit
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "sessions.md").read_text(encoding="utf-8")
SECONDS = 280.0


@pytest.fixture
def env(tmp_path: Path) -> Iterator[Mapping[str, str]]:
    """A shell's variables, with a daemon of its own that ends with the test."""
    folder = Path(sys.executable).parent
    path = f"{os.environ['PATH']}:{folder}"  # for a checkout without a .venv
    given = {**os.environ, "PATH": path, "TRLM_DATA": str(tmp_path / "data"), "TMPDIR": str(tmp_path)}
    given.pop("XDG_RUNTIME_DIR", None)
    yield given
    subprocess.run(
        [folder / "trlm", "serve", "--stop"], env=given, check=True, capture_output=True, timeout=60
    )


@pytest.mark.sandbox
@pytest.mark.timeout(SECONDS + 20)
def test_each_command_of_the_page_prints_what_the_page_shows(env: Mapping[str, str]) -> None:
    shown = page_kit.console(PAGE)
    assert page_kit.alike(page_kit.run(shown, ROOT, env, SECONDS)) == page_kit.alike(shown)


@pytest.mark.sandbox
def test_each_line_of_the_pages_python_prints_what_stands_behind_it() -> None:
    program, shown = page_kit.program(PAGE)
    done = subprocess.run(
        [sys.executable, "-"],
        input=program,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert shown
    assert (done.stdout.splitlines(), done.stderr) == (shown, "")


def test_the_page_has_no_block_that_nothing_runs() -> None:
    languages = [language for language, _ in page_kit.blocks(PAGE)]
    assert set(languages) == {"console", "python"}
    assert len(languages) * 2 == len(re.findall(r"^```", PAGE, re.MULTILINE))
    assert all(line.command for line in page_kit.console(PAGE))


@pytest.mark.parametrize(
    "wrong",
    [
        "$ echo one\n",
        "$ echo one\none\ntwo\n",
        "$ echo one\ntwo\n",
        "$ false\n",
        "$ nothing-of-this-name\n",
        "$ exit 3\n$ echo\n\n",
    ],
)
def test_a_page_that_shows_something_else_is_caught(wrong: str, tmp_path: Path) -> None:
    right = "$ cd /\n$ x=1\n$ echo $x $PWD\n1 /\n$ (exit 3)\n$ echo $?\n3\n"
    for text, same in ((right, True), (f"{right}{wrong}", False), (f"{wrong}{right}", False)):
        lines = page_kit.console(f"```console\n{text}```\n")
        found = page_kit.run(lines, tmp_path, os.environ, 10)
        assert (page_kit.alike(found) == page_kit.alike(lines)) is same
