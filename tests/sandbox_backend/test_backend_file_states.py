"""The owner's side of what keeps the states of a sandbox's files."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from terraphim_rlm.sandbox.keeper.file_states import FileStates, Place


@pytest.mark.anyio
async def test_a_call_whose_caller_left_fails_without_a_word() -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: complaints.append(about))
    sent = asyncio.Event()

    async def send(_request: dict[str, Any]) -> None:
        sent.set()

    states = FileStates(send, 1)
    call = asyncio.ensure_future(states.call(Place((), 0, None), "diff"))
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
