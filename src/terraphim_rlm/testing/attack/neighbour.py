"""A neighbour: an ordinary sandbox that prints each 100 ms, and tells when it was silenced (I9)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from types import TracebackType
from typing import Self

from terraphim_rlm.core.errors import RlmError
from terraphim_rlm.sandbox.contract import Backend, SandboxSpec
from terraphim_rlm.sandbox.sandbox import Sandbox
from terraphim_rlm.testing.attack.conditions import STALL
from terraphim_rlm.testing.attack.model import SMALL

_BEAT = "import time\nwhile True:\n    print('beat', flush=True)\n    time.sleep(0.1)"


class Neighbour:
    """An async context manager."""

    def __init__(self, backend: Backend) -> None:
        self._box = Sandbox(backend, SandboxSpec(resources=SMALL))
        self._last = 0.0
        self._longest = 0.0
        self._first = asyncio.Event()
        self._task: asyncio.Task[object] | None = None

    async def __aenter__(self) -> Self:
        await self._begin()
        return self

    async def _begin(self) -> None:
        self._first.clear()
        await self._box.start()
        self._task = asyncio.create_task(self._box.run(_BEAT, timeout=None, on_output=self._heard))
        await asyncio.wait_for(self._first.wait(), 10)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, RlmError):
                await self._task
        await self._box.close()

    def _heard(self, _stream: str, _text: str) -> None:
        now = time.monotonic()
        if self._last:
            self._longest = max(self._longest, now - self._last)
        self._last = now
        self._first.set()

    async def revive(self) -> None:
        """Replaces one that the last row ended."""
        if self._task is None or self._task.done():
            await self._end()
            await self._begin()

    def watch(self) -> None:
        """Begins a new watch."""
        self._longest = 0.0

    def breach(self) -> list[str]:
        """Whether it was silent for too long since `watch`, or has died."""
        if self._task is None or self._task.done():
            return ["I9: the neighbour was ended"]
        silence = max(self._longest, time.monotonic() - self._last)
        return [f"I9: the neighbour was silent for {silence:.1f} s"] if silence > STALL else []
