"""A hundred launches, killed at each moment of their set-up, leave nothing."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from terraphim_rlm.sandbox.keeper import orphans
from terraphim_rlm.testing.attack import kills
from terraphim_rlm.testing.attack.kills import WHOM, Launches, killed

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_hundred_launches_killed_at_each_moment_of_their_set_up_leave_nothing() -> None:
    found = await killed(102, seed=1)
    assert found["left"] == []
    for whom in WHOM:
        assert found["caught"][whom] >= 6, f"of 17 only {found['caught'][whom]} of {whom} were caught in time"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kills, "_LEFT_SECONDS", 0.3)


async def test_a_process_that_lost_its_parent_is_found_and_so_is_a_descriptor(impatient: None) -> None:
    async with Launches(1) as launches:
        subprocess.run(["/bin/sh", "-c", "sleep 61.5 >/dev/null 2>&1 &"], check=True)
        kept = os.open("/dev/null", os.O_RDONLY)
        found = await launches.kill("task", 0.5)
        assert "sleep 61.5" in found
        assert "+1 descriptors" in found
        os.close(kept)
        (orphan,) = set(orphans.children()) - launches.known
        os.kill(orphan, signal.SIGKILL)
        os.waitpid(orphan, 0)
        assert await launches.kill("task", 0.5) == ""


async def test_a_group_that_stays_is_found(impatient: None) -> None:
    async with Launches(1) as launches:
        if "memory" not in await launches.modes():
            pytest.skip("this user may make no control groups")
        homes = [
            Path(folder, name)
            for folder, names, _files in os.walk("/sys/fs/cgroup")
            for name in names
            if name.startswith("trlm-") and f".{os.getpid()}." in name
        ]
        planted = homes[0] / "planted"
        planted.mkdir()
        assert "planted" in await launches.kill("task", 0.5)
        planted.rmdir()
        assert await launches.kill("task", 0.5) == ""
