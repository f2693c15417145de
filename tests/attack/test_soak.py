"""The soak is not blind: what grows or stays with each execution is found, and named."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import pytest

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.sandbox.contract import Backend, SandboxSpec
from terraphim_rlm.sandbox.sandbox import Sandbox
from terraphim_rlm.sandbox.selection import choose
from terraphim_rlm.testing.attack import conditions, soak_gauges
from terraphim_rlm.testing.attack import soak as soak_module
from terraphim_rlm.testing.attack.soak import RESOURCES, soak
from terraphim_rlm.testing.attack.soak_deeds import DEEDS, Deed, Worker, compute, reopen
from terraphim_rlm.testing.attack.soak_gauges import Sample

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]
CALM = {"compute": Deed(compute, 30), "reopen": Deed(reopen, 1, ends_sandbox=True)}
kept: list[Any] = []


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def emptied() -> Iterator[None]:
    yield
    for each in kept:
        if isinstance(each, int):
            os.close(each)
        elif isinstance(each, subprocess.Popen):
            each.kill()
            each.wait()
    kept.clear()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is planted does not go by waiting."""
    monkeypatch.setattr(conditions, "_SETTLE", 0.1)
    monkeypatch.setattr(soak_module, "_SETTLE", 0.1)


async def soaked(executions: int, deeds: Mapping[str, Deed]) -> dict[str, Any]:
    return await soak("bubblewrap", lambda _sample: None, executions=executions, deeds=deeds, launches=0)


def after(leak: Callable[[], Any]) -> Mapping[str, Deed]:
    """The calm deeds, of which each computation leaves what `leak` makes."""

    async def leaky(on: Worker) -> None:
        await compute(on)
        kept.append(leak())

    return {**CALM, "compute": Deed(leaky, 30)}


async def test_four_kilobytes_kept_with_each_execution_are_found() -> None:
    found = await soaked(1_500, after(lambda: os.urandom(4096)))
    assert found["failed"] == ["K29 memory of the owner"], found["why"]
    assert 3_000 < found["growth"]["owner"] < 6_000


async def test_without_a_leak_the_same_executions_pass() -> None:
    found = await soaked(1_500, CALM)
    assert (found["failed"], found["executions"]) == ([], 1_500), found["why"]
    assert found["passed"] == found["cases"] == 10


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("leak", "named"),
    [
        (lambda: os.open("/dev/null", os.O_RDONLY), "owner's descriptors"),
        (lambda: subprocess.Popen(["/bin/sleep", "60"]), "processes"),
        (lambda: open(f"{os.environ['TRLM_DATA']}/{len(kept)}", "w").close(), "files"),
    ],
)
async def test_what_stays_is_found_and_named(leak: Callable[[], Any], named: str) -> None:
    found = await soaked(60, after(leak))
    assert f"K29 {named}" in found["failed"], found["why"]
    assert "K29 memory" in found["not_run"], "sixty executions say nothing of growth"


@pytest.mark.usefixtures("impatient")
async def test_a_sandbox_that_is_never_closed_is_found() -> None:
    async def open_another(on: Worker) -> None:
        kept.append(on.box)
        await on.open()

    deeds = {"compute": Deed(compute, 10), "opens": Deed(open_another, 1, ends_sandbox=True)}
    found = await soaked(60, deeds)
    for box in kept:
        await box.close()
    assert {"K29 processes", "K29 keeper's descriptors"} <= set(found["failed"]), found["why"]


async def test_an_answer_that_is_wrong_is_found_and_the_soak_goes_on() -> None:
    async def doubts(on: Worker) -> None:
        await on.says("43", "print(6 * 7)")

    found = await soaked(60, {**CALM, "doubts": Deed(doubts, 1)})
    assert found["failed"] == ["K29 answers"]
    assert "printed was '42\\n', not '43\\n'" in found["why"]["K29 answers"]
    assert found["executions"] == 60


async def test_launches_are_killed_after_the_executions_and_counted() -> None:
    found = await soak("bubblewrap", lambda _sample: None, executions=20, deeds=CALM, launches=6)
    assert found["failed"] == found["p0_failed"] == [], found["why"]
    assert "K30" not in found["not_run"]
    assert sum(found["caught"].values()) >= 1


async def test_one_seed_makes_one_plan() -> None:
    deeds = {"one": Deed(compute, 1), "other": Deed(compute, 1)}
    first, again, other = [
        (await soak("bubblewrap", lambda _sample: None, executions=40, seed=seed, deeds=deeds, launches=0))[
            "deeds"
        ]
        for seed in (1, 1, 2)
    ]
    assert first == again
    assert first != other


@pytest.fixture(scope="module")
async def backend() -> AsyncIterator[Backend]:
    async with await choose("bubblewrap") as made:
        yield made


@pytest.mark.parametrize("name", [name for name in DEEDS if name not in ("rust", "go")])
async def test_each_deed_ends_as_it_says_time_and_again(backend: Backend, name: str) -> None:
    if DEEDS[name].language not in (await backend.probe()).languages:
        pytest.skip(f"nothing here runs {DEEDS[name].language}")
    spec = SandboxSpec(RESOURCES)
    worker = Worker(backend, spec, random.Random(3), Sandbox(backend, spec))
    await worker.open()
    for _ in range(3):
        await DEEDS[name].does(worker)
    await worker.close()


def test_one_late_sample_does_not_move_the_growth() -> None:
    samples = [_sample(number, 1_000_000 + 100 * number) for number in range(0, 1000, 50)]
    samples[-1] = _sample(950, 90_000_000)
    assert soak_gauges.growth(samples, "owner") == 100


def _sample(executions: int, owner: int) -> Sample:
    return Sample(executions, {"owner": owner, "keeper": 0}, {}, 0)


@pytest.mark.parametrize("asked", [{"executions": 0}, {"minutes": -1.0}])
async def test_a_soak_of_nothing_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="is none"):
        await soak("bubblewrap", lambda _sample: None, **asked)
