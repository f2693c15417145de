"""One row of each group holds, and its control does its harm.

The whole table is `trlm attack`, which CI runs as root and as an ordinary user: it takes minutes.
"""

from __future__ import annotations

import pytest

from terraphim_rlm.testing.attack.harness import Harness
from terraphim_rlm.testing.attack.model import Outcome, Row
from terraphim_rlm.testing.attack.owner import maker
from terraphim_rlm.testing.attack.stage import Stage
from terraphim_rlm.testing.attack.table import ROWS

_FIRST = {row.id[0]: row for row in reversed(ROWS.values()) if row.off}.values()
"""Of each group that has controls."""
pytestmark = [pytest.mark.anyio, pytest.mark.sandbox, pytest.mark.attack]


def judged(outcome: Outcome) -> None:
    if outcome.verdict == "not_run":
        pytest.skip(outcome.why)
    assert outcome.verdict == "passed", outcome.why


async def test_rows_attack_sandboxes_that_are_made_as_those_of_users_are(harness: Harness) -> None:
    if lacking := await harness.backend.zygote():  # type: ignore[attr-defined]
        pytest.skip(f"no zygote here: {lacking}")
    makers: list[str] = []

    async def act(stage: Stage) -> None:
        async with stage.box() as box:
            makers.append(maker(box))
        async with stage.box(binds={str(stage.lab.shared): "/input"}) as box:
            makers.append(maker(box))

    judged(await harness.run_row(Row("A20", "P1", "says who made it", act=act)))
    assert makers == ["zygote", "keeper"]


@pytest.mark.parametrize("row", _FIRST, ids=lambda row: row.id)
async def test_an_attack_does_no_harm_and_leaves_nothing(harness: Harness, row: Row) -> None:
    judged(await harness.row(row))


@pytest.mark.parametrize("row", _FIRST, ids=lambda row: row.id)
async def test_without_its_protection_the_same_attack_does_the_harm(harness: Harness, row: Row) -> None:
    judged(await harness.control(row))
