"""The harness is not blind where a row has a service, a network or a budget: I1, I8, I10 and I12."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import replace

import pytest

from terraphim_rlm.core.values import Limits, Usage
from terraphim_rlm.testing.attack import harm, service
from terraphim_rlm.testing.attack.conditions import overspent
from terraphim_rlm.testing.attack.harness import Harness
from terraphim_rlm.testing.attack.lab import Lab
from terraphim_rlm.testing.attack.model import Row
from terraphim_rlm.testing.attack.service import Service, unlike
from terraphim_rlm.testing.attack.stage import Stage

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]


async def calm(stage: Stage) -> None:
    session = await stage.service.session()
    assert (await stage.service.run(session, "print(42)"))["stdout"] == "42\n"


CALM = Row("A00", "P1", "does nothing by way of the service", act=calm, needs=("service",))


async def test_a_row_by_way_of_the_service_that_does_nothing_breaks_no_condition(harness: Harness) -> None:
    outcome = await harness.run_row(CALM)
    assert (outcome.verdict, outcome.why) == ("passed", "")


async def test_i1_sees_a_service_that_does_not_answer_in_time(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "HEALTH_SECONDS", 0.0)
    assert "I1: the service took" in (await harness.run_row(CALM)).why


async def test_i1_sees_a_service_that_a_row_ended(harness: Harness) -> None:
    async def ends(stage: Stage) -> None:
        os.kill(stage.service.pid, signal.SIGKILL)

    outcome = await harness.run_row(replace(CALM, act=ends))
    assert outcome.verdict == "failed"
    assert "Error" in outcome.why


async def test_i8_sees_an_answer_that_is_not_recorded_and_one_that_is_recorded_otherwise(
    harness: Harness,
) -> None:
    async def lies(stage: Stage) -> None:
        await calm(stage)
        (number,) = stage.service._told
        stage.service._told = {number: "timeout", "exec-lost": "ok"}

    why = (await harness.run_row(replace(CALM, act=lies))).why
    assert "was answered as timeout, and is recorded as ['ok']" in why
    assert "I8: exec-lost was answered as ok, and is recorded as None after a kill and a restart" in why


def test_i8_sees_two_records_of_one_execution_and_one_that_runs_for_ever() -> None:
    records = [{"id": "a", "status": "ok"}, {"id": "a", "status": "ok"}, {"id": "b", "status": "running"}]
    assert unlike({"a": "ok"}, records, "") == [
        "I8: a was answered as ok, and is recorded as ['ok', 'ok']",
        "I8: 1 executions are recorded as running",
    ]


async def test_i3_sees_what_a_service_leaves_behind(
    harness: Harness, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("terraphim_rlm.testing.attack.conditions._SETTLE", 0.1)
    left: list[subprocess.Popen[bytes]] = []

    async def leaves(_stage: Stage) -> None:
        left.append(subprocess.Popen(["sleep", "60"]))

    outcome = await harness.run_row(replace(CALM, act=leaves))
    for child in left:
        child.kill()
        child.wait()
    assert "I3: 1 processes of ours are left" in outcome.why


async def test_i10_counts_what_the_sinks_met_as_harm(harness: Harness, lab: Lab) -> None:
    class Met:
        def harm(self) -> list[str]:
            return ["TCP 8.8.8.8 port 53 was reached"]

    stage = Stage(replace(CALM, needs=(), act=None), harness.backend, lab, "mark")
    assert harm.harm_done(stage, Met()) == ["I10: TCP 8.8.8.8 port 53 was reached"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("usage", "found"),
    [
        (Usage(tokens_in=60, tokens_out=40, calls=5), []),
        (Usage(tokens_in=61, tokens_out=40, calls=5), ["I12: 101 of 100 tokens were spent"]),
        (Usage(calls=6), ["I12: 6 of 5 calls were spent"]),
    ],
)
def test_i12_sees_what_was_spent_past_the_budget(usage: Usage, found: list[str]) -> None:
    assert overspent(usage, Limits(tokens=100, calls=5)) == found


async def test_a_daemon_that_was_killed_is_started_again_over_its_history(lab: Lab) -> None:
    async with Service(lab) as daemon:
        session = await daemon.session()
        await daemon.run(session, "print(1)")
        daemon.kill()
        assert await daemon.breaches() == []
