"""Every row of the table holds, and every control does its harm."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from terraphim_rlm.testing.attack.harness import Harness
from terraphim_rlm.testing.attack.lab import Lab
from terraphim_rlm.testing.attack.model import Outcome
from terraphim_rlm.testing.attack.table import ROWS

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox, pytest.mark.attack]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


@pytest.fixture(scope="module")
async def harness(lab: Lab, anyio_backend: str) -> AsyncIterator[Harness]:
    async with Harness(lab) as made:
        yield made


def judged(outcome: Outcome) -> None:
    if outcome.verdict == "not_run":
        pytest.skip(outcome.why)
    assert outcome.verdict == "passed", outcome.why


@pytest.mark.parametrize("identity", ROWS)
async def test_an_attack_does_no_harm_and_leaves_nothing(harness: Harness, identity: str) -> None:
    judged(await harness.row(ROWS[identity]))


@pytest.mark.parametrize("identity", [row.id for row in ROWS.values() if row.off])
async def test_without_its_protection_the_same_attack_does_the_harm(harness: Harness, identity: str) -> None:
    judged(await harness.control(ROWS[identity]))
