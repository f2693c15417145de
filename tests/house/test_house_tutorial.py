"""What the tutorial shows is what happens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

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
