"""The scripts that judge are judged: each must be able to say no."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = "def half(text):\n    return text[: len(text) // 2]\n\n\nNAME = 'gestalt pattern matching'\n"


def _run(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, ROOT / "scripts" / script, *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)


def _judge(tmp_path: Path, said: str) -> int:
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr" / "names.py").write_text(SOURCE)
    log = tmp_path / "log"
    log.write_text(said)
    return _run("lib/check-answer", log, tmp_path, "/usr", "gestalt pattern matching").returncode


GOOD = """\
\x1b[1mGestalt pattern matching\x1b[0m
  names.py:5  "NAME = 'gestalt pattern matching'"
verified: the host found the quoted evidence in the input itself
cost free · 1,024 tokens · 3.2 s
"""


def test_a_true_answer_whose_quote_is_at_its_line_is_believed(tmp_path: Path) -> None:
    assert _judge(tmp_path, GOOD) == 0


def test_evidence_may_name_its_file_by_the_whole_path(tmp_path: Path) -> None:
    assert _judge(tmp_path, GOOD.replace("names.py", "/usr/names.py")) == 0


@pytest.mark.parametrize(
    ("true", "false"),
    [
        ("names.py:5", "names.py:1"),
        ("names.py:5", "names.py:99"),
        ("names.py:5", "others.py:5"),
        ("NAME = 'gestalt", "NAME = 'hyperbolic"),
        ("  names.py:5", "names.py"),
        ("Gestalt pattern", "Ratcliff pattern"),
        ("3.2 s", "soon"),
    ],
)
def test_an_answer_with_one_lie_is_refused(tmp_path: Path, true: str, false: str) -> None:
    assert _judge(tmp_path, GOOD.replace(true, false)) == 1


@pytest.mark.parametrize("number", [1, 2])
def test_the_readme_block_that_is_tried_is_the_one_that_is_shown(number: int) -> None:
    block = _run("lib/readme-block", str(number)).stdout
    assert block.strip()
    assert f"```sh\n{block}```" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_page_of_errors_is_what_the_table_says() -> None:
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert _run("lib/error-page").stdout == page, "run scripts/lib/error-page"


LONG = "def long():\n" + "".join(f"    call_number_{n}()\n" for n in range(41))
WIDE = "def wide(a, b, c, d, e, f, g, h):\n    return a\n"
FINE = "def fine(self, a, b, c, d, e, f, g):\n" + "".join(f"    other_call_{n}()\n" for n in range(39))


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"a.py": LONG}, "a.py:long lines: 42 lines"),
        ({"a.py": WIDE}, "a.py:wide parameters: 8 parameters"),
        ({"a.py": "value = 12345\n" * 401}, "a.py lines: 401 lines"),
        ({"a.py": FINE, "b.py": FINE.replace("fine", "same")}, "repeats"),
        ({"a.py": FINE}, None),
    ],
)
def test_the_size_report_names_what_grew(tmp_path: Path, files: dict[str, str], found: str | None) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    done = _run("size-report", "--root", tmp_path, ".")
    assert (done.returncode == 1) == (found is not None)
    assert (found or "0 too large") in done.stdout


def test_an_allowance_needs_a_reason_and_must_still_be_needed(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(LONG)
    (tmp_path / "scripts").mkdir()
    listed = tmp_path / "scripts" / "size-allowed.txt"
    listed.write_text("a.py:long lines | one table, read top to bottom\n")
    assert _run("size-report", "--root", tmp_path, ".").returncode == 0
    listed.write_text("a.py:long lines |\n")
    assert "no reason" in _run("size-report", "--root", tmp_path, ".").stderr
    listed.write_text("a.py:long lines | a table\nb.py lines | gone\n")
    assert "no longer occurs" in _run("size-report", "--root", tmp_path, ".").stdout


def _setup(tmp_path: Path, interpreter: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`scripts/setup` with an interpreter that refuses; it must fail before it touches .venv."""
    fake = tmp_path / "fake-python"
    fake.write_text("#!/bin/sh\n" + interpreter)
    fake.chmod(0o755)
    return subprocess.run(
        [ROOT / "scripts" / "setup", *arguments],
        env={"PATH": "/usr/bin:/bin", "PYTHON": str(fake)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(
    ("interpreter", "arguments", "code", "said"),
    [
        ('[ "$1" = --version ] && echo "Python 3.9.2"; exit 1', (), 1, "Python 3.9.2 is too old"),
        ('case "$2" in *ensurepip*) exit 1;; esac; exit 0', (), 1, "apt install python3-venv"),
        ("exit 0", ("--frobnicate",), 2, "unknown option --frobnicate"),
    ],
)
def test_set_up_that_cannot_be_names_the_fix(
    tmp_path: Path, interpreter: str, arguments: tuple[str, ...], code: int, said: str
) -> None:
    done = _setup(tmp_path, interpreter, *arguments)
    assert done.returncode == code
    assert said in done.stderr
