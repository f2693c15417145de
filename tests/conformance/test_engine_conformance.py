"""Our engine passes every case of the public suite; the suite is tested by engines that do one thing wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.testing.conformance import Case, Target, cases
from terraphim_rlm.testing.conformance.engine.lies import FAULTS, wrapped
from terraphim_rlm.testing.conformance.engine.targets import OURS
from terraphim_rlm.testing.conformance.faults import Fault, catch, faults
from terraphim_rlm.testing.conformance.model import EngineCapabilities, lacking
from terraphim_rlm.testing.conformance.runner import Conformance
from terraphim_rlm.testing.conformance.targets import opened

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]
CASES = cases("engine")
PAGE = Path(__file__).parents[2].joinpath("docs/conformance.md").read_text()


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def ours(anyio_backend: str) -> AsyncIterator[Target]:
    async with opened(OURS, "engine") as target:
        yield target


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_our_engine_behind_a_wrapper(ours: Target, case: Case) -> None:
    async with Conformance(wrapped(ours)) as conformance:
        outcome = await conformance.run(case)
    assert outcome.verdict == "passed", outcome.why


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_an_engine_fails_a_case_that(ours: Target, fault: Fault) -> None:
    caught = await catch(fault, ours, CASES)
    assert caught.failing, f"no case fails; {caught.errors} ended by errors, which proves nothing"


def test_there_are_forty_cases_each_with_its_source_a_quarter_from_the_trackers_of_others() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 40
    assert all(case.source for case in CASES)
    tracked = [case for case in CASES if case.source.startswith("https://github.com/")]
    assert len(tracked) * 4 >= len(CASES)


def test_there_are_twenty_faults_each_of_groups_that_there_are() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 20
    assert faults("engine") is FAULTS
    assert {group for fault in FAULTS for group in fault.groups} <= {case.group for case in CASES}


def test_a_case_is_left_out_only_for_what_an_engine_says_that_it_lacks() -> None:
    says = EngineCapabilities("mine", {"children": "it has none"})
    assert lacking("offers:children", says) == "it has none"
    assert lacking("offers:calls", says) == ""
    for case in CASES:
        for need in case.needs:
            assert lacking(need, EngineCapabilities("all", {})) == ""


async def test_an_engine_that_nobody_knows_is_refused_by_name() -> None:
    with pytest.raises(InvalidArgument, match="no engine 'x'"):
        async with opened("x", "engine"):
            pass


def test_the_page_says_how_many_cases_and_faults_there_are() -> None:
    assert f"| {OURS} | {len(CASES)} of {len(CASES)} |" in PAGE
    assert f"{len(FAULTS)} engines that do one thing wrong" in PAGE


def test_the_command_runs_an_engine_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from contextlib import asynccontextmanager\n"
        "from terraphim_rlm.testing.conformance import Target\n"
        "from terraphim_rlm.testing.conformance.model import EngineCapabilities\n"
        "class Mine:\n"
        "    capabilities = EngineCapabilities('mine', {'calls': 'none', 'children': 'none', 'fences': 'none'})\n"
        "    async def ask(self, script):\n"
        "        return {'answer': 41, 'error': None, 'seconds': 0.1, 'calls': 1, 'requests': []}\n"
        "@asynccontextmanager\n"
        "async def mine(**_): yield Mine()\n"
        "target = Target('mine', mine)\n"
    )
    done = subprocess.run(
        [Path(sys.executable).with_name("trlm"), "conform", "--kind", "engine", "--target", "mine:target", "--json"],
        env={"PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"], "TRLM_DATA": str(tmp_path / "data")},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == 1
    assert (found["target"], found["of"]) == ("mine", len(CASES))
    assert found["passed"] >= 1
    assert set(found["skipped"].values()) == {"none"}
    assert found["passed"] + len(found["failed"]) + len(found["skipped"]) == found["of"]
