"""The benchmark of sandboxes: its rows, what it refuses to measure, and that it sees a sandbox which goes wrong."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from terraphim_rlm import Sandbox, open_sandbox
from terraphim_rlm.core.errors import BackendUnavailable
from terraphim_rlm.core.values import Snapshot
from terraphim_rlm.faces.cli.app import run
from terraphim_rlm.testing.bench import endurance, peers, sandbox, speed
from terraphim_rlm.testing.bench.rows import Goal, row, summary
from terraphim_rlm.testing.engines.leash import Leash

pytestmark = pytest.mark.anyio
SMALL = sandbox.Sizes(
    starts=2,
    handouts=2,
    handouts_long=6,
    commands=2,
    round_trips=5,
    seconds=0.3,
    idle=1,
    heap_mb=2,
    files=(5, 9),
    objects=50,
    states=2,
    branches=2,
    rollbacks=2,
    sessions=3,
)
KEYS = {"schema_version", "row", "unit", "p50", "p95", "p99", "goal", "met", "peers", "n", "why"}


@pytest.fixture
async def box() -> AsyncIterator[Sandbox]:
    async with open_sandbox("bubblewrap") as opened:
        yield opened


@pytest.mark.sandbox
async def test_every_row_is_measured_and_has_the_stable_shape() -> None:
    rows: list[dict[str, Any]] = []
    met = await sandbox.sandbox(rows.append, backend="bubblewrap", long=True, sizes=SMALL)
    assert met is all(one["met"] is not False for one in rows)
    for one in rows:
        assert set(one) == KEYS
        assert one["n"] > 0, one
        assert (one["met"] is None) is (one["goal"] is None), one
    names = [one["row"] for one in rows]
    assert len(set(names)) == len(names)
    for part in (
        "cold start", "hand-out from the pool", "round trip", "one-shot command", "idle memory of a sandbox",
        "independent executions, 1 at once", "independent executions, 16 at once",
        "executions a minute, warm", "snapshot, 2 MB + 5 files", "rollback, 2 MB + 9 files", "branch(2)",
        "switch of branches", "2 rollbacks in a row", "3 sandboxes at once: read back",
    ):  # fmt: skip
        assert part in names


async def test_where_no_sandbox_works_there_is_one_row_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def none(name: str) -> Any:
        raise BackendUnavailable("There is no bwrap here.")

    monkeypatch.setattr(sandbox, "choose", none)
    rows: list[dict[str, Any]] = []
    assert await sandbox.sandbox(rows.append, long=True, sizes=SMALL)
    (only,) = rows
    assert only["met"] is None
    assert only["n"] == 0
    assert only["why"] == "cannot run here: There is no bwrap here."


async def test_more_sandboxes_than_there_may_be_open_files_are_not_tried() -> None:
    rows = [one async for one in endurance.sessions("bubblewrap", 10**9)]
    assert {one["met"] for one in rows} == {None}
    assert all("open files, and the hard limit is" in one["why"] for one in rows)


class Wrong:
    """A sandbox whose rollbacks leave one thing as it was not."""

    def __init__(self, box: Sandbox, lie: str) -> None:
        self._box = box
        self._lie = lie

    async def rollback(self, snapshot: Snapshot) -> None:
        await self._box.rollback(snapshot)
        assert (await self._box.run(self._lie)).status == "ok"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._box, name)


@pytest.mark.sandbox
@pytest.mark.parametrize(
    ("lie", "what"),
    [
        ("heap[4097] ^= 1", "state"),
        ("state['of'].append(1)", "state"),
        ("with open('/work/many/3', 'ab') as file:\n    file.write(b'x')\ndel file", "state"),
        ("import os\nos.remove('/work/many/3')", "state"),
        ("next(counter)", "state"),
        ("numbers.readline()", "state"),
        ("numbers.close()\nnumbers = open('/work/many/0', 'rb')\nnumbers.seek(2)", "counters"),
    ],
)
async def test_a_rollback_that_leaves_anything_wrong_is_found_out(box: Sandbox, lie: str, what: str) -> None:
    wrong: Any = Wrong(box, lie)
    with pytest.raises(AssertionError, match=rf"after rollback 1 of 3 the {what} were"):
        await endurance.rollbacks(wrong, 3, 1, 5)


@pytest.mark.sandbox
async def test_a_rollback_that_does_nothing_is_found_out(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(snapshot: Snapshot) -> None: ...

    monkeypatch.setattr(box, "rollback", nothing)
    with pytest.raises(AssertionError, match="after rollback 1 of 1"):
        await endurance.rollbacks(box, 1, 1, 5)


@pytest.mark.sandbox
async def test_a_sandbox_that_holds_the_value_of_another_is_found_out(box: Sandbox) -> None:
    await box.run("value = 0")
    assert len(await endurance.read_back([box])) == 2
    with pytest.raises(AssertionError, match="printed '0"):
        await endurance.read_back([box, box])


@pytest.mark.sandbox
async def test_independent_executions_that_share_a_sandbox_are_found_out(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    @asynccontextmanager
    async def same(_backend: Any) -> AsyncIterator[Sandbox]:
        yield box

    monkeypatch.setattr(speed, "box_of", same)
    alone = speed.Alone(box)  # type: ignore[arg-type]
    await alone.once()
    with pytest.raises(AssertionError, match="canary"):
        await alone.once()
    await box.sh("rm /tmp/canary /work/canary /dev/shm/canary")
    alone._living.add(int((await box.sh("stat -Lc %i /proc/self/ns/pid")).stdout))
    with pytest.raises(AssertionError, match="shares its processes"):
        await alone.once()


@pytest.mark.sandbox
def test_a_peer_works_in_a_process_of_its_own_and_tells_its_version() -> None:
    for work in ("cold start", "round trip", "command", "idle memory", "independent", "warm"):
        with Leash() as leash:
            told = peers.worked("bwrap python3", sys.executable, work, 0.2, leash)
        assert told["p50"] > 0, (work, told)
        assert told["version"].count(".") == 2


def test_a_peer_that_cannot_run_gives_its_error_and_no_figure() -> None:
    for work in ("cold start", "independent"):
        with Leash() as leash:
            told = peers.worked("smolagents", sys.executable, work, 0.2, leash)
        assert set(told) == {"version", "error"}
        assert "smolagents" in told["error"]


async def test_a_peer_that_cannot_be_installed_gives_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    found = await peers.all_peers(0.2, [peers.Peer("absent", "terraphim-no-such-package==1")])
    told = (await found.beside("cold start"))["absent"]["error"]
    assert told.startswith("could not be installed: not_found")


def test_the_command_prints_a_row_with_its_peers_below_it_and_fails_for_a_missed_goal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {"slow": {"version": "1.2", **summary([3.0])}, "gone": {"version": None, "error": "no engine"}}

    async def measured(emit: Any, **asked: Any) -> bool:
        assert asked == {"backend": "auto", "long": True, "with_peers": True}
        emit(row("start", "ms", [2.0], 1, peers=told, why="of one"))
        return False

    monkeypatch.setattr(sandbox, "sandbox", measured)
    command = ["bench", "sandbox", "--long", "--with-peers"]
    assert run(command) == 1
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert lines[0][:7] == ["start", "2.0", "2.0", "2.0", "ms", "1", "NO"]
    assert lines[1][:3] == ["slow", "1.2", "3.0"]
    assert lines[2] == ["gone", "no", "engine"]
    assert run([*command, "--jsonl"]) == 1
    printed = json.loads(capsys.readouterr().out)
    assert (printed["row"], printed["met"], printed["peers"]) == ("start", False, told)


def test_a_rate_is_held_to_the_least_and_its_percentiles_are_of_the_slow_side() -> None:
    samples = [float(number) for number in range(1, 101)]
    random.Random(1).shuffle(samples)
    rate = row("rate", "/min", samples, Goal(51, least=True))
    assert (rate["p50"], rate["p95"], rate["p99"], rate["met"]) == (51, 6, 2, True)
    assert row("rate", "/min", samples, Goal(52, least=True))["met"] is False
    late = row("late", "ms", samples, Goal(99, at=0.99))
    assert (late["p50"], late["p95"], late["p99"], late["met"]) == (50, 95, 99, True)
    assert row("late", "ms", samples, Goal(98, at=0.99))["met"] is False
    assert row("none", "ms", [], 10)["met"] is None
