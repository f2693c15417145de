"""How children are ended: asked, waited for, killed, and at the very last given up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from terraphim_rlm.supervision.reports import Slot, What
from terraphim_rlm.supervision.spec import Exit, Shutdown

GRACE_SECONDS = 1.0
"""For all children of one ending together that do not die of being killed. They are then abandoned, and reported."""
_KILL_SECONDS = 10.0
"""Until the kernel has let go of a process."""

Tell = Callable[[What, Slot, Exit | None], None]


class Ending:
    """One ending of some or all children of a supervisor.

    Args:
        hurry: set when nobody may be asked any more: whoever ends the supervisor is killing it.
    """

    def __init__(self, tell: Tell, hurry: asyncio.Event) -> None:
        self._tell = tell
        self._hurry = hurry
        self._grace = GRACE_SECONDS

    async def one(self, slot: Slot) -> None:
        """Ends a child by its own shutdown; returns when it is over, or given up."""
        await self.together([slot], slot.spec.ends)

    async def together(self, slots: Sequence[Slot], ends: Shutdown) -> None:
        """Ends children at once, with one timer for all."""
        running = [slot for slot in slots if slot.child is not None]
        for slot in slots:
            slot.is_restarting = False
            if slot.asking is not None:
                slot.asking.cancel()
                slot.asking = None
        if running and ends != "brutal_kill" and not self._hurry.is_set():
            for slot in running:
                assert slot.child is not None
                slot.child.ask()
            await self._wait(running, None if ends == "infinity" else float(ends))
        await self._kill([slot for slot in running if not _is_over(slot)])
        for slot in running:
            self._settle(slot, ends)

    async def _wait(self, slots: Sequence[Slot], seconds: float | None) -> None:
        """Until they are over, the time is, or there is no time any more."""
        hurried = asyncio.ensure_future(self._hurry.wait())
        waiting = asyncio.ensure_future(_all_over(slots))
        try:
            await asyncio.wait({hurried, waiting}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hurried.cancel()
            waiting.cancel()

    async def _kill(self, slots: Sequence[Slot]) -> None:
        for slot in slots:
            assert slot.child is not None
            slot.child.kill()
        sure = [slot.child.ended for slot in slots if slot.child and slot.child.dies_when_killed]
        if sure:
            await asyncio.wait(sure, timeout=_KILL_SECONDS)
        unsure = [slot.child.ended for slot in slots if slot.child and not slot.child.ended.done()]
        if unsure:
            began = time.monotonic()
            await asyncio.wait(unsure, timeout=self._grace)
            self._grace = max(0.0, self._grace - (time.monotonic() - began))

    def _settle(self, slot: Slot, ends: Shutdown) -> None:
        child, slot.child = slot.child, None
        assert child is not None
        if not child.ended.done():
            slot.last = Exit("killed", "it was killed and is still there")
            self._tell("abandoned", slot, slot.last)
            return
        slot.last = child.ended.result()
        wanted = ("killed",) if ends == "brutal_kill" or self._hurry.is_set() else ("shutdown", "normal")
        fine = slot.last.kind in (*wanted, "shutdown", "normal")
        self._tell("ended" if fine else "shutdown_error", slot, slot.last)


def _is_over(slot: Slot) -> bool:
    return slot.child is None or slot.child.ended.done()


async def _all_over(slots: Sequence[Slot]) -> None:
    await asyncio.wait([slot.child.ended for slot in slots if slot.child is not None])
