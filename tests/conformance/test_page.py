"""The page about conformance: its example runs, and its figures are those of the suite."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from terraphim_rlm.testing.conformance import cases, run_all
from terraphim_rlm.testing.conformance.faults import FAULTS

PAGE = Path(__file__).parents[2].joinpath("docs/conformance.md").read_text()
ROW = re.compile(r"^\| ([a-z, -]+) \| (\d+) \|", re.MULTILINE)


@pytest.mark.sandbox
@pytest.mark.anyio
async def test_the_target_of_the_page_passes_cases() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    made: dict[str, Any] = {}
    exec(compile(code, "mine.py", "exec"), made)
    some = [each for each in cases() if each.group in ("callback", "capabilities")]
    outcomes = await run_all(made["target"], some)
    assert [each.why for each in outcomes if each.verdict != "passed"] == []
    assert len(outcomes) == len(some) > 0


def test_the_figures_of_the_page_are_those_of_the_suite() -> None:
    rows = {tuple(groups.split(", ")): int(count) for groups, count in ROW.findall(PAGE)}
    assert {group for groups in rows for group in groups} == {each.group for each in cases()}
    for groups, count in rows.items():
        assert sum(each.group in groups for each in cases()) == count, groups
    assert f"{len(FAULTS)} sandboxes that tell one lie" in PAGE
    assert f"| {len(cases())} of {len(cases())} |" in PAGE
    assert f"{len(FAULTS)} of {len(FAULTS)} caught" in PAGE
