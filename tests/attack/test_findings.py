"""What the attacks brought to light, each as the smallest case that shows it."""

from __future__ import annotations

import asyncio

import pytest

from terraphim_rlm.sandbox.link import execution
from terraphim_rlm.sandbox.link.calls import refuse
from terraphim_rlm.sandbox.link.channel import ChannelBroken, decode
from terraphim_rlm.sandbox.link.execution import CellEnd, Running
from terraphim_rlm.sandbox.link.guest import Exit

pytestmark = pytest.mark.anyio


class Owner:
    def __init__(self) -> None:
        self.killed = asyncio.Event()

    def send(self, kind: int, number: int, body: bytes) -> None: ...

    def interrupt(self) -> None: ...

    def kill(self) -> None:
        self.killed.set()

    def take_output(self, end: CellEnd) -> None: ...

    def settled(self, running: Running) -> None: ...


async def test_a_cell_that_yields_after_the_order_to_kill_it_counts_as_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(execution, "_GRACE", 0)
    owner = Owner()
    running = Running(owner, 1, None, refuse)
    running.stop("timeout")
    await owner.killed.wait()
    running.finish({})
    assert not running.done.done(), "the next cell would be given to a dying interpreter"
    running.lost(None, Exit(None, 9))
    assert running.end.cause == "timeout_killed"


@pytest.mark.parametrize("body", [b'{"value": 1e999}', b'{"value": [-1e400]}', b'{"value": Infinity}'])
def test_infinity_is_no_json_however_it_is_written(body: bytes) -> None:
    with pytest.raises(ChannelBroken):
        decode(body)


def test_the_largest_numbers_are_still_taken() -> None:
    assert decode(b'{"value": [1.7e308, -0.5]}') == {"value": [1.7e308, -0.5]}
