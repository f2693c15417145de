"""Each limit is what the probe found when it ran into it, and what is not held is said."""

from __future__ import annotations

import pytest
from backend_kit import opened

from terraphim_rlm.core.values import Resources
from terraphim_rlm.sandbox.backends.bubblewrap import limits
from terraphim_rlm.sandbox.backends.bubblewrap.backend import Bubblewrap
from terraphim_rlm.sandbox.contract import SandboxSpec
from terraphim_rlm.sandbox.keeper.client import Kept
from terraphim_rlm.sandbox.link.execution import Running
from terraphim_rlm.sandbox.link.streams import Stream
from terraphim_rlm.sandbox.sandbox import Sandbox

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]
FILL = "import os\nfor n in range(20_000): os.close(os.open(f'/work/{n}', os.O_CREAT | os.O_WRONLY))"


async def test_the_probe_finds_every_limit_held_or_names_it_as_missing() -> None:
    async with Bubblewrap() as backend:
        found = await backend.probe()
        groups = backend.statistics().control_groups
    assert [*found.limits] == [*limits.BEST]
    lacking = [name for name, held in found.limits.items() if held != limits.BEST[name]]
    assert [phrase.partition(":")[0] for phrase in found.not_enforced] == lacking
    assert set(lacking) == {name for name in limits.WITHOUT_GROUP if name not in groups}


async def test_what_is_expected_of_a_sandbox_is_what_the_probe_finds() -> None:
    async with Bubblewrap() as backend:
        link = await opened(backend)
        expected = link.capabilities
        await link.destroy()
        found = await backend.probe()
    assert (expected.limits, expected.not_enforced) == (found.limits, found.not_enforced)


async def test_the_probe_says_so_when_nobody_bounds_the_number_of_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def not_at_all(kept: Kept, *_: object) -> None:
        kept.bounded.set_result(True)

    monkeypatch.setattr(Kept, "bound", not_at_all)
    async with Bubblewrap() as backend:
        found = await backend.probe()
    assert found.limits["inodes"] == "none"
    assert "inodes: held by nothing that this machine has" in found.not_enforced


async def test_the_probe_says_so_when_nobody_cuts_output_or_ends_what_is_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = Stream.__init__
    monkeypatch.setattr(Stream, "__init__", lambda self, name, limit: made(self, name, 10 * limit))
    stop = Running.stop

    def once_done(running: Running, why: str) -> None:
        stop(running, "cancelled" if why == "timeout" else why)

    monkeypatch.setattr(Running, "stop", once_done)
    async with Bubblewrap() as backend:
        found = await backend.probe()
    assert (found.limits["output"], found.limits["time"]) == ("none", "none")


async def test_a_sandbox_whose_files_could_not_be_bounded_does_not_claim_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ask = Kept.bound

    async def elsewhere(kept: Kept, places: tuple[str, ...], most: int, uid: int | None) -> None:
        await ask(kept, (*places, "/etc"), most, uid)

    monkeypatch.setattr(Kept, "bound", elsewhere)
    async with Bubblewrap() as backend:
        link = await opened(backend)
        assert not await link.kept.bounded
        assert link.capabilities.limits["inodes"] == "none"
        assert [phrase.partition(":")[0] for phrase in link.capabilities.not_enforced][-1] == "inodes"
        await link.destroy()


async def test_the_bound_of_files_holds_after_a_snapshot_too() -> None:
    async with Bubblewrap() as backend, Sandbox(backend, SandboxSpec(Resources(disk_mb=4))) as box:
        if box.capabilities.supports_snapshots["python"] == "none":
            pytest.skip("this kernel lets no states of files be taken")
        await box.snapshot("before")
        result = await box.run(FILL, timeout=60)
        assert result.status == "disk_full"
        await box.rollback("before")
        assert (await box.run("import os; len(os.listdir('/work'))")).stdout == "0\n"
        assert (await box.run(FILL, timeout=60)).status == "disk_full"
