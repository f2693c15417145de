"""The suite itself is tested: a sandbox that tells one lie fails a case of it, one that is only wrapped fails none."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from terraphim_rlm.testing.conformance import Case, Target, cases
from terraphim_rlm.testing.conformance.faults import FAULTS, Fault, catch, table, wrapped
from terraphim_rlm.testing.conformance.runner import Conformance
from terraphim_rlm.testing.conformance.targets import opened

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def target(anyio_backend: str) -> AsyncIterator[Target]:
    async with opened("bubblewrap") as honest:
        yield honest


@pytest.fixture(scope="module")
async def only_wrapped(target: Target) -> AsyncIterator[Conformance]:
    async with Conformance(wrapped(target)) as conformance:
        yield conformance


def test_there_are_at_least_twenty_faults_each_of_another_kind() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 20
    groups = {case.group for case in cases()}
    assert {group for fault in FAULTS for group in fault.groups} <= groups


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_a_sandbox_fails_a_case_that(target: Target, fault: Fault) -> None:
    caught = await catch(fault, target, cases())
    if not caught.failing and caught.skipped:
        pytest.skip(f"its cases need what this target lacks: {', '.join(caught.skipped)}")
    print(f"{fault.name}: {', '.join(caught.failing)}")
    assert caught.failing, f"no case fails; {caught.errors} ended by errors, which proves nothing"


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
async def test_a_wrapper_that_tells_no_lie_passes(only_wrapped: Conformance, case: Case) -> None:
    outcome = await only_wrapped.run(case)
    if outcome.verdict == "skipped":
        pytest.skip(outcome.why)
    assert outcome.verdict == "passed", outcome.why


async def test_a_fault_that_no_case_sees_is_told_as_missed(target: Target) -> None:
    unseen = Fault("does nothing wrong", ("capabilities",), wrapped)
    told = table("t", [await catch(unseen, target, cases())])
    assert told == {"target": "t", "caught": {}, "missed": ["does nothing wrong"], "unproven": {}, "of": 1}
