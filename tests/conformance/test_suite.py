"""The suite as anybody uses it: its names, its runner, its limits, its command."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.core.values import ExecutorCapabilities
from terraphim_rlm.testing.conformance import Case, Target, cases, run_all, summary
from terraphim_rlm.testing.conformance.model import lacking
from terraphim_rlm.testing.conformance.targets import opened

pytestmark = pytest.mark.anyio
CAPABILITIES = ExecutorCapabilities(
    "paper", "vm", {"python": "files"}, False, ("python",), {"pids": "watched"}, None, 1
)


class Paper:
    """A sandbox that does nothing."""

    capabilities = CAPABILITIES


@asynccontextmanager
async def open_paper(**_: Any) -> AsyncIterator[Paper]:
    yield Paper()


PAPER = Target("paper", open_paper)


def case(run: Any, **options: Any) -> Case:
    return Case(run.__name__, "group", run, **options)


def test_there_are_at_least_120_cases_each_with_a_sentence_of_its_own() -> None:
    names = [each.name for each in cases()]
    assert len(set(names)) == len(names) >= 120
    assert all(len(name.split()) >= 3 for name in names), "a name is a claim"


async def test_outcomes_are_passed_failed_and_skipped_and_one_failure_stops_no_other() -> None:
    async def good(box: Paper) -> None:
        assert isinstance(box, Paper)

    async def bad(box: Paper) -> None:
        raise AssertionError("it is paper")

    async def broken(box: Paper) -> None:
        raise LookupError("x")

    async def never(box: Paper) -> None:
        raise AssertionError("not to be run")

    async def opens(open_box: Any) -> None:
        async with open_box() as box:
            assert isinstance(box, Paper)

    all_of = [
        case(good), case(bad), case(broken), case(never, needs=("language:rust",)),
        case(opens, gets="opener"), case(good, gets="fresh"),
    ]  # fmt: skip
    outcomes = await run_all(PAPER, all_of)
    assert summary("paper", outcomes) == {
        "target": "paper",
        "passed": 3,
        "failed": ["bad", "broken"],
        "skipped": {"never": "paper has no rust here"},
        "of": 6,
    }
    assert [outcome.why for outcome in outcomes[1:3]] == ["it is paper", "LookupError: x"]


async def test_a_case_that_does_not_end_fails_in_its_time_and_what_it_began_ends_with_it() -> None:
    from terraphim_rlm.testing.conformance.checks import begun

    tasks = []

    async def hangs(box: Paper) -> None:
        tasks.append(begun(asyncio.sleep(1000)))
        await asyncio.sleep(1000)

    (outcome,) = await run_all(PAPER, [case(hangs, seconds=0.05)])
    assert (outcome.verdict, outcome.why) == ("failed", "TimeoutError: the case was not over after 0.05 s")
    assert tasks[0].cancelled()


@pytest.mark.parametrize(
    ("need", "why"),
    [
        ("language:python", ""),
        ("language:go", "paper has no go here"),
        ("limit:pids", ""),
        ("limit:memory", "memory is not limited here"),
        ("group:pids", "pids is not limited for a sandbox as a whole here (watched)"),
        ("files:python", ""),
        ("files:bash", "paper has no snapshots of bash here"),
        ("interpreter:python", "snapshots here hold no state of python (files)"),
    ],
)
def test_a_need_is_judged_by_the_capability_table_alone(need: str, why: str) -> None:
    assert lacking(need, CAPABILITIES) == why


def test_every_need_of_every_case_is_one_that_can_be_judged() -> None:
    for each in cases():
        for need in each.needs:
            lacking(need, CAPABILITIES)


async def test_a_target_of_ones_own_is_named_by_module_and_attribute() -> None:
    async with opened(f"{__name__}:PAPER") as target:
        assert target is PAPER
    for name in ("no.such.module:x", f"{__name__}:MISSING", f"{__name__}:case", "no-such-backend"):
        with pytest.raises(InvalidArgument):
            async with opened(name):
                pass


def test_the_core_of_the_suite_runs_without_pytest() -> None:
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "from terraphim_rlm.testing.conformance import cases, targets, faults\nassert cases()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_the_command_prints_the_bare_object_and_fails_when_a_case_does(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from contextlib import asynccontextmanager\n"
        "from terraphim_rlm import open_sandbox\n"
        "from terraphim_rlm.testing.conformance import Target\n"
        "class Empty:\n"
        "    def __init__(self, box): self.capabilities = box.capabilities\n"
        "    async def run(self, *a, **k): raise RuntimeError('empty')\n"
        "    sh = run\n"
        "    async def close(self): pass\n"
        "@asynccontextmanager\n"
        "async def mine(**_):\n"
        "    async with open_sandbox('bubblewrap') as box: yield Empty(box)\n"
        "target = Target('empty', mine)\n"
    )
    done = subprocess.run(
        [Path(sys.executable).with_name("trlm"), "conform", "--target", "mine:target", "--json"],
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin", "TRLM_DATA": str(tmp_path / "data")},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert set(found) == {"target", "passed", "failed", "skipped", "of"}
    assert (found["target"], found["of"]) == ("empty", len(cases()))
    assert found["passed"] + len(found["failed"]) + len(found["skipped"]) == found["of"]
    assert len(found["failed"]) > 100
