"""Every row of the attack catalogue's groups G, H and I is tried, in variations that have names of their own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

from rows import LEAST, ROWS

_TESTS = Path(__file__).parents[1]
_LISTED = """
import pytest, sys

class Lister:
    def pytest_collection_finish(self, session):
        for item in session.items:
            print("ROW", ",".join(dict(item.user_properties)["rows"]), item.nodeid.split("::", 1)[1].replace("\\n", " "))

sys.exit(pytest.main(["--collect-only", "-q", "-q", "-p", "no:cacheprovider", "-m", "row", *sys.argv[1:]], [Lister()]))
"""


def test_each_row_of_the_groups_has_named_variations() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LISTED, *(str(_TESTS / name) for name in ("engine", "llm", "replies"))],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    tried: dict[str, list[str]] = defaultdict(list)
    for line in done.stdout.splitlines():
        if line.startswith("ROW "):
            _, rows, name = line.split(" ", 2)
            for row in rows.split(","):
                tried[row].append(name)

    assert tried.keys() == ROWS.keys()
    assert {row: len(names) for row, names in tried.items() if len(names) < LEAST} == {}
    assert [name for names in tried.values() for name, times in Counter(names).items() if times > 1] == []
    numbered = [
        name for names in tried.values() for name in names if re.search(r"\[(?:.*-)?[a-z]+\d+\]$", name)
    ]
    assert numbered == []
