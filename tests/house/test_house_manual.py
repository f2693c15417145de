"""The page about playing the model shows what happens: each of its lines is run and compared."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import page_kit
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "manual.md").read_text(encoding="utf-8")
SECONDS = 100.0


@pytest.mark.sandbox
@pytest.mark.timeout(SECONDS + 20)
def test_a_person_can_play_the_model_through_a_run_with_a_child_as_the_page_shows(tmp_path: Path) -> None:
    path = f"{os.environ['PATH']}:{Path(sys.executable).parent}"
    env = {**os.environ, "PATH": path, "TRLM_DATA": str(tmp_path / "data"), "TMPDIR": str(tmp_path)}
    shown = page_kit.console(PAGE)
    assert page_kit.alike(page_kit.run(shown, ROOT, env, SECONDS)) == page_kit.alike(shown)
    assert len(list(tmp_path.glob("tmp.*/model/*.request.json"))) == 6


def test_the_page_has_no_block_that_nothing_runs() -> None:
    languages = [language for language, _ in page_kit.blocks(PAGE)]
    assert set(languages) == {"console"}
    assert len(languages) * 2 == len(re.findall(r"^```", PAGE, re.MULTILINE))
