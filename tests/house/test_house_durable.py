"""The page of durable runs shows what happens: each of its lines is run, and what it shows is compared with what comes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import page_kit
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "durable-runs.md").read_text(encoding="utf-8")
SECONDS = 280.0
LICENCES = Path("/usr/share/common-licenses")

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.skipif(not (LICENCES / "MPL-2.0").exists(), reason=f"there are no licences in {LICENCES}"),
]


@pytest.mark.timeout(SECONDS + 20)
def test_each_command_of_the_page_prints_what_the_page_shows(tmp_path: Path) -> None:
    path = f"{os.environ['PATH']}:{Path(sys.executable).parent}"  # for a checkout without a .venv
    env = {**os.environ, "PATH": path, "TRLM_DATA": str(tmp_path / "data"), "TMPDIR": str(tmp_path)}
    env.pop("XDG_RUNTIME_DIR", None)
    shown = page_kit.console(PAGE)
    assert page_kit.alike(page_kit.run(shown, ROOT, env, SECONDS)) == page_kit.alike(shown)


def test_each_line_of_the_pages_python_prints_what_stands_behind_it() -> None:
    program, shown = page_kit.program(PAGE)
    done = subprocess.run(
        [sys.executable, "-"], input=program, capture_output=True, text=True, timeout=100, check=False
    )
    assert shown
    assert (done.stdout.splitlines(), done.stderr) == (shown, "")


def test_the_page_has_no_block_that_nothing_runs() -> None:
    languages = [language for language, _ in page_kit.blocks(PAGE)]
    assert set(languages) == {"console", "python"}
    assert len(languages) * 2 == len(re.findall(r"^```", PAGE, re.MULTILINE))
