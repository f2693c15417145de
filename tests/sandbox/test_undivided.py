"""Work that its caller cannot leave half done."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from terraphim_rlm.sandbox.undivided import undivided


@pytest.mark.parametrize("kind", ["once", "again and again", "by a scope"])
async def test_a_cancelled_caller_waits_for_the_end_and_for_the_undoing(kind: str) -> None:
    begun, go_on, told = asyncio.Event(), asyncio.Event(), []

    async def work() -> int:
        begun.set()
        await go_on.wait()
        told.append("done")
        return 7

    async def undo(result: int) -> None:
        await asyncio.sleep(0)
        told.append(f"undone {result}")

    scope = anyio.CancelScope()

    async def caller() -> None:
        with scope:
            try:
                await undivided(work(), undo=undo)
            finally:
                told.append("left")
            told.append("went on")

    task = asyncio.ensure_future(caller())
    await begun.wait()
    for _ in range(1 if kind == "once" else 3):
        scope.cancel() if kind == "by a scope" else task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert told == []
    go_on.set()
    await asyncio.wait({task})
    assert told == ["done", "undone 7", "left"]
    assert task.cancelled() is (kind != "by a scope")


async def test_what_the_work_raises_is_raised_and_nothing_is_undone() -> None:
    async def work() -> None:
        raise KeyError("no")

    async def undo(_: None) -> None:
        pytest.fail("it undid what was not done")

    with pytest.raises(KeyError):
        await undivided(work(), undo=undo)
