"""The owner's side of what keeps the states of a sandbox's files."""

from __future__ import annotations

import asyncio
import gc
import marshal
from typing import Any

import pytest

from terraphim_rlm.core.errors import InternalError, SnapshotLost
from terraphim_rlm.sandbox.keeper import file_states
from terraphim_rlm.sandbox.keeper.file_states import FileStates, Place

PLACE = Place((), 0, None)


@pytest.mark.anyio
async def test_a_call_that_is_not_answered_is_given_up_and_with_it_the_states(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def send(_request: dict[str, Any]) -> None:
        return

    monkeypatch.setattr(file_states, "_STEP_SECONDS", 0.01)
    states = FileStates(send, 1)
    with pytest.raises(SnapshotLost, match="'freeze'"):
        await states.call(PLACE, "freeze", 0)
    states.hear(b"\0" + marshal.dumps((1, True, 7)))
    with pytest.raises(SnapshotLost, match="takes no new ones"):
        await states.call(PLACE, "diff", 1, 0, 0)


@pytest.mark.anyio
@pytest.mark.parametrize(("number", "right"), [(1, True), (2, False), (0, False)])
async def test_an_answer_is_taken_for_the_call_of_its_number_only(number: int, right: bool) -> None:
    async def send(_request: dict[str, Any]) -> None:
        states.hear(b"\0" + marshal.dumps((number, True, 7)))

    states = FileStates(send, 1)
    if right:
        assert await states.call(PLACE, "freeze", 0) == 7
    else:
        with pytest.raises(InternalError, match="call 1 was asked"):
            await states.call(PLACE, "freeze", 0)


@pytest.mark.anyio
async def test_a_call_whose_caller_left_fails_without_a_word() -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: complaints.append(about))
    sent = asyncio.Event()

    async def send(_request: dict[str, Any]) -> None:
        sent.set()

    states = FileStates(send, 1)
    call = asyncio.ensure_future(states.call(PLACE, "diff"))
    await sent.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.sleep(0)
    states.hear(b"")
    for _ in range(5):
        await asyncio.sleep(0)
    gc.collect()
    assert complaints == []
