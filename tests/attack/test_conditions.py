"""The harness is not blind: a fault planted behind each post-condition is found, and named by it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from terraphim_rlm.core.errors import InternalError
from terraphim_rlm.testing.attack import conditions, network, stage
from terraphim_rlm.testing.attack.harness import Harness
from terraphim_rlm.testing.attack.lab import Lab
from terraphim_rlm.testing.attack.model import Outcome, Row, Seen, Step
from terraphim_rlm.testing.attack.stage import Stage

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]
CALM = Row("A00", "P1", "does nothing", (Step("print('calm')"),))
Fault = Callable[[list[Seen], str], None]


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Callable[[Fault], None]:
    """Makes the product commit a fault at the end of every row."""
    monkeypatch.setattr(conditions, "_SETTLE", 0.1)
    real = Stage.play

    def planted(fault: Fault) -> None:
        async def play(self: Stage) -> None:
            await real(self)
            fault(self.seen, self.mark)

        monkeypatch.setattr(Stage, "play", play)

    return planted


async def found(harness: Harness) -> str:
    outcome = await harness.run_row(CALM)
    assert outcome.verdict == "failed"
    return outcome.why


async def test_a_row_that_does_nothing_breaks_no_condition(harness: Harness) -> None:
    assert await harness.run_row(CALM) == Outcome("A00", "row", "passed", "", pytest.approx(0, abs=3))


async def test_i2_sees_an_end_that_came_too_late(harness: Harness, plant: Callable[[Fault], None]) -> None:
    def late(seen: list[Seen], _mark: str) -> None:
        seen[0] = replace(seen[0], seconds=11.0)

    plant(late)
    assert "I2: step 1 took 11.0 s" in await found(harness)


async def test_i2_sees_a_status_that_is_none(harness: Harness, plant: Callable[[Fault], None]) -> None:
    def odd(seen: list[Seen], _mark: str) -> None:
        assert seen[0].result is not None
        seen[0] = replace(seen[0], result=replace(seen[0].result, status="fine"))  # type: ignore[arg-type]

    plant(odd)
    assert "which is no status" in await found(harness)


async def test_i2_sees_a_call_that_never_ends(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    async def forever(*_arguments: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(stage, "_execute", forever)
    monkeypatch.setattr(stage, "HANG", -stage.LATE - 4.9)
    assert "I2: a step was still running" in await found(harness)


async def test_i3_sees_a_child_left_running(harness: Harness, plant: Callable[[Fault], None]) -> None:
    left: list[subprocess.Popen[bytes]] = []
    plant(lambda _seen, _mark: left.append(subprocess.Popen(["sleep", "60"])))
    try:
        assert "I3: 1 processes of ours are left" in await found(harness)
    finally:
        for child in left:
            child.kill()
            child.wait()


async def test_i3_sees_a_daemon_that_is_nobodys_child(
    harness: Harness, plant: Callable[[Fault], None]
) -> None:
    left: list[int] = []

    def daemon(_seen: list[Seen], mark: str) -> None:
        code = (
            "import subprocess, sys; print(subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL).pid)"
        )
        env = {conditions.MARK: mark, "PATH": os.environ["PATH"]}
        left.append(int(subprocess.check_output([sys.executable, "-c", code], env=env)))

    plant(daemon)
    try:
        assert "I3: 1 processes with the case's mark" in await found(harness)
    finally:
        for pid in left:
            os.kill(pid, 9)


async def test_i4_sees_a_temporary_file_left(harness: Harness, plant: Callable[[Fault], None]) -> None:
    left: list[str] = []

    def forget(_seen: list[Seen], _mark: str) -> None:
        fd, path = tempfile.mkstemp()
        os.close(fd)
        left.append(path)

    plant(forget)
    assert "I4: files are left: tmp/" in await found(harness)
    Path(left[0]).unlink()


async def test_i4_sees_a_socket_left(harness: Harness, lab: Lab, plant: Callable[[Fault], None]) -> None:
    with contextlib.ExitStack() as stack:

        def listen(_seen: list[Seen], _mark: str) -> None:
            stack.enter_context(socket.socket(socket.AF_UNIX)).bind(f"\0{lab.root.name}-left")

        plant(listen)
        assert f"I4: left on the host: socket @{lab.root.name}-left" in await found(harness)


async def test_i4_sees_a_control_group_left(
    harness: Harness, lab: Lab, plant: Callable[[Fault], None]
) -> None:
    own = next((trace for trace in conditions._traces(lab) if trace.startswith("cgroup ")), None)
    if own is None:
        pytest.skip("no control groups for sandboxes here")
    left = Path(own.removeprefix("cgroup ")).with_name("left")
    plant(lambda _seen, _mark: left.mkdir())
    try:
        assert f"cgroup {left}" in await found(harness)
    finally:
        left.rmdir()


async def test_i5_sees_a_changed_canary(harness: Harness, lab: Lab, plant: Callable[[Fault], None]) -> None:
    plant(lambda _seen, _mark: lab.canary.write_text("changed"))
    assert "a host file was changed" in await found(harness)
    lab.renew()


async def test_i5_sees_the_secret_in_what_was_streamed(
    harness: Harness, lab: Lab, plant: Callable[[Fault], None]
) -> None:
    def leak(seen: list[Seen], _mark: str) -> None:
        seen[0] = replace(seen[0], streamed=f"so: {lab.secret}")

    plant(leak)
    assert "I5: the canary secret is in what step 1 put out" in await found(harness)


async def test_i5_sees_a_host_process_that_was_ended(
    harness: Harness, lab: Lab, plant: Callable[[Fault], None]
) -> None:
    def murder(_seen: list[Seen], _mark: str) -> None:
        assert lab.victim is not None
        lab.victim.kill()
        lab.victim.wait()

    plant(murder)
    assert "a host process was ended" in await found(harness)


async def test_i6_sees_descriptors_left_open(harness: Harness, plant: Callable[[Fault], None]) -> None:
    left: list[int] = []
    plant(lambda _seen, _mark: left.extend(os.dup(0) for _ in range(7)))
    assert "I6: +7 descriptors" in await found(harness)
    for fd in left:
        os.close(fd)


async def test_i6_sees_memory_that_is_kept(harness: Harness, plant: Callable[[Fault], None]) -> None:
    left: list[bytes] = []
    plant(lambda _seen, _mark: left.append(b"x" * (90 << 20)))
    assert "I6: the harness grew by" in await found(harness)


async def test_i7_sees_a_file_that_grew(harness: Harness, lab: Lab, plant: Callable[[Fault], None]) -> None:
    log = lab.root / "data" / "log"
    log.touch()
    plant(lambda _seen, _mark: log.write_bytes(b"x" * 10_000) and None)
    assert "I7: 12288 bytes more on disk" in await found(harness)
    log.unlink()


async def test_i9_sees_a_neighbour_that_was_silenced(
    harness: Harness, plant: Callable[[Fault], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("terraphim_rlm.testing.attack.neighbour.STALL", 0.4)
    plant(lambda _seen, _mark: time.sleep(0.8))
    assert "I9: the neighbour was silent" in await found(harness)


async def test_i11_sees_a_changed_setting_and_a_moved_clock(
    harness: Harness, plant: Callable[[Fault], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    setting = tmp_path / "core_pattern"
    setting.write_text("core")
    monkeypatch.setattr(conditions, "_SYSCTLS", (f"../../{setting}",))
    moved = conditions._clock() + 3600

    def change(_seen: list[Seen], _mark: str) -> None:
        setting.write_text("|/bin/evil")
        monkeypatch.setattr(conditions, "_clock", lambda: moved)

    plant(change)
    why = await found(harness)
    assert "I11: the machine is not as it was" in why
    assert "I11: the clock was moved" in why


async def test_a_row_whose_payload_got_nowhere_is_not_a_pass(harness: Harness) -> None:
    row = replace(CALM, steps=(Step("if False: tried(1)"),))
    assert "did not come to its end" in (await harness.run_row(row)).why


async def test_a_row_that_never_ends_is_given_up_and_told_as_hung(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forever(_stage: Stage) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Row, "deadline", 0.2)
    outcome = await harness.run_row(replace(CALM, steps=(), act=forever))
    assert (outcome.verdict, outcome.hung) == ("failed", True)
    assert "I2: it was not over after" in outcome.why


async def test_a_row_that_breaks_is_told_as_failed_and_stops_nothing(harness: Harness) -> None:
    async def broken(_stage: Stage) -> None:
        raise ValueError("no such thing")

    outcome = await harness.run_row(replace(CALM, steps=(), act=broken))
    assert (outcome.verdict, outcome.why) == ("failed", "ValueError: no such thing")
    assert (await harness.run_row(CALM)).verdict == "passed"


async def test_what_an_act_finds_wrong_or_got_fails_its_row(harness: Harness, lab: Lab) -> None:
    async def finds(stage: Stage) -> None:
        stage.expect(False, "that is not so")
        stage.saw(f"it says {lab.secret}", "a file")

    why = (await harness.run_row(replace(CALM, steps=(), act=finds))).why
    assert why.startswith("that is not so; the canary came out by a file")


def test_the_network_of_a_machine_is_never_taken_for_the_harness_own() -> None:
    with pytest.raises(InternalError, match="no network namespace of the harness"):
        network.close_off()
