"""The owner's side of a warden: calls of `keeper.views.Views`, one at a time, answers put together again."""

from __future__ import annotations

import asyncio
import marshal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from terraphim_rlm.core.errors import InternalError, SnapshotLost
from terraphim_rlm.sandbox.keeper.waiting import fail, settle

_STEP_SECONDS = 600.0
"""That one call may take: a difference may read the whole of a large disk."""
_GONE = "What kept the states of this sandbox's files has ended, and they with it; it takes no new ones."


@dataclass(frozen=True, slots=True)
class Place:
    """Where the states of a sandbox's files are kept."""

    roots: Sequence[str]
    """Folders of the sandbox whose files belong to a state."""
    size: int
    """Bytes that all changes since the first state may take."""
    uid: int | None
    """Whose the sandbox is; None = ours."""
    layered: bool = True
    """False: copy files even where this kernel could layer them."""


class FileStates:
    """Calls of one sandbox's warden, one at a time."""

    def __init__(self, send: Callable[[dict[str, Any]], Awaitable[None]], number: int) -> None:
        self._send = send
        self._number = number
        self._lock = asyncio.Lock()
        self._asked = 0
        self._answer: asyncio.Future[tuple[Any, ...]] | None = None
        self._pieces = bytearray()
        self._gone = False

    async def call(self, place: Place, name: str, *arguments: Any) -> Any:
        """See `Kept.file_states`. Not cut short when its caller is: the answer of one call is never another's."""
        work = asyncio.ensure_future(self._call(place, name, *arguments))
        work.add_done_callback(
            lambda done: done.cancelled() or done.exception()
        )  # told to nobody who has left
        return await asyncio.shield(work)

    async def _call(self, place: Place, name: str, *arguments: Any) -> Any:
        async with self._lock:
            if self._gone:
                raise SnapshotLost(_GONE)
            self._asked += 1
            self._answer = asyncio.get_running_loop().create_future()
            data = marshal.dumps((self._asked, name, arguments))
            where = {
                "roots": list(place.roots),
                "size": place.size,
                "uid": place.uid,
                "layered": place.layered,
            }
            await self._send({"op": "file_states", "id": self._number, "data": data, **where})
            number, ok, *rest = await self._answered(name)
        if number != self._asked:
            raise InternalError(f"A warden answered call {number} when call {self._asked} was asked.")
        if not ok:
            raise OSError(*rest)
        return rest[0]

    async def _answered(self, name: str) -> tuple[Any, ...]:
        assert self._answer is not None
        try:
            async with asyncio.timeout(_STEP_SECONDS):
                return await self._answer
        except TimeoutError:
            self._gone = True  # what it answers later must not be taken for another call's
            raise SnapshotLost(
                f"The step {name!r} with the sandbox's files was not over after {_STEP_SECONDS:.0f} seconds; "
                "the states are given up."
            ) from None

    def hear(self, data: bytes) -> None:
        """A piece of an answer; empty when the warden is gone."""
        self._pieces += data[1:]
        self._gone = self._gone or not data
        if data[:1] == b"\1" or self._answer is None:
            return
        pieces, self._pieces = self._pieces, bytearray()
        if data:
            settle(self._answer, marshal.loads(pieces))  # noqa: S302 - from the warden, a process of ours
        else:
            fail(self._answer, SnapshotLost(_GONE))
