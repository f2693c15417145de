"""What a supervisor does with its children: starting, restarting by the strategy, counting, ending.

Everything in here is called from the supervisor's one task, one call at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from terraphim_rlm.core.errors import ChildError
from terraphim_rlm.supervision.ending import Ending
from terraphim_rlm.supervision.inbox import Inbox
from terraphim_rlm.supervision.intensity import Intensity
from terraphim_rlm.supervision.reports import OnReport, Report, Slot, Tally, What
from terraphim_rlm.supervision.slots import Slots
from terraphim_rlm.supervision.spec import Child, Exit, Flags, Health, Later, check_spec
from terraphim_rlm.supervision.starting import started, unhealthy

GIVES_UP = "reached_max_restart_intensity"


class Keeping:
    """The children of one supervisor."""

    def __init__(
        self, name: str, slots: Slots, flags: Flags, intensity: Intensity, later: Later, on_report: OnReport
    ) -> None:
        self._name = name
        self._flags = flags
        self.slots = slots
        self.intensity = intensity
        self._later = later
        self._on_report = on_report
        self.tally = Tally()
        self.inbox = Inbox()
        self.stopping = asyncio.Event()
        """Nothing is started any more."""
        self.hurry = asyncio.Event()
        """Nobody is asked any more; who runs is killed."""
        self.reason: Exit | None = None
        """Set once it is decided that the supervisor ends by itself."""
        self._helpers: set[asyncio.Task[None]] = set()
        """Back-off, and asking after health."""

    async def start_all(self) -> None:
        for slot in self.slots.all():
            try:
                await self._start(slot)
            except Exception as error:
                raise ChildError(
                    f"The child {slot.id} of {self._name} could not be started: {error}.",
                    state="failed",
                    id=slot.id,
                ) from error

    async def end_all(self) -> None:
        ending = Ending(self._told, self.hurry)
        slots = self.slots.all()
        if self._flags.strategy == "simple_one_for_one":
            await ending.together(slots, self.slots.pattern.ends)
            return
        for slot in reversed(slots):
            await ending.one(slot)

    def let_go(self) -> None:
        """Kills without waiting: there is no time for anything else."""
        for slot in self.slots.all():
            if slot.child is not None:
                slot.child.kill()

    def close(self) -> None:
        for helper in self._helpers:
            helper.cancel()

    def _told(self, what: What, slot: Slot, exit: Exit | None = None) -> None:
        self.tally.abandoned += what == "abandoned"
        try:
            self._on_report(Report(what, self._name, slot.id, exit))
        except Exception:  # a supervisor must outlive whoever listens to it
            self.tally.failed_reports += 1

    async def _start(self, slot: Slot) -> None:
        """Raises what its start raised."""
        try:
            slot.child = await started(slot, self.stopping)
        except Exception as error:
            slot.last = Exit("error", f"could not be started: {type(error).__name__}: {error}", error)
            self._told("start_failed", slot, slot.last)
            raise
        slot.is_restarting = False
        if slot.child is not None:
            self._began(slot, slot.child)
        elif slot.spec.restart == "temporary" or self._flags.strategy == "simple_one_for_one":
            self.slots.remove(slot)

    def _began(self, slot: Slot, child: Child) -> None:
        self.tally.starts += 1
        child.ended.add_done_callback(
            lambda done: self.inbox.post(partial(self._exited, slot, child, done.result()))
        )
        if slot.spec.health is not None:
            slot.asking = self._help(self._ask_health(slot, child, slot.spec.health))
        self._told("started", slot)

    def _help(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        helper = asyncio.ensure_future(work)
        self._helpers.add(helper)
        helper.add_done_callback(self._helpers.discard)
        return helper

    # Ends and restarts.

    async def _exited(self, slot: Slot, child: Child, exit: Exit) -> None:
        if slot.child is not child:  # it was ended by us, and that is dealt with
            return
        slot.child, slot.last = None, exit
        if slot.asking is not None:
            slot.asking.cancel()
        self.tally.exits[exit.kind] += 1
        self._told("exited", slot, exit)
        restart = slot.spec.restart
        if restart == "permanent" or (restart == "transient" and exit.is_abnormal):
            await self._restart(slot)
        else:
            if restart == "temporary" or self._flags.strategy == "simple_one_for_one":
                self.slots.remove(slot)
            self._shut_down_by_itself(slot)

    def _shut_down_by_itself(self, slot: Slot) -> None:
        rule = self._flags.auto_shutdown
        if slot.spec.significant and (rule == "any_significant" or not self.slots.any_significant_alive()):
            self._told("auto_shutdown", slot, slot.last)
            self.reason = Exit("shutdown", f"auto_shutdown: {slot.id}")

    async def _restart(self, slot: Slot) -> None:
        """Counts a restart, and does it: now, or after the back-off."""
        slot.is_restarting = True
        if not self.intensity.restart():
            self._told("gives_up", slot, slot.last)
            self.reason = Exit("shutdown", f"{GIVES_UP}: {slot.id}: {slot.last}")
            return
        self.tally.restarts += 1
        slot.restarts += 1
        self._told("restarting", slot, slot.last)
        if self._flags.backoff is None:
            await self._restart_now(slot)
        else:
            self._help(self._wait_then_restart(slot, self._flags.backoff.seconds(self.intensity.count)))

    async def _wait_then_restart(self, slot: Slot, seconds: float) -> None:
        await self._later(seconds)
        self.inbox.post(partial(self._if_still, slot, self._restart_now))

    async def _if_still(self, slot: Slot, restart: Callable[[Slot], Awaitable[None]]) -> None:
        """Unless somebody has ended or restarted it meanwhile."""
        if slot.is_restarting and slot in self.slots:
            await restart(slot)

    async def _restart_now(self, slot: Slot) -> None:
        """By the strategy. Where a start fails, that child is tried again by a message, which counts once more."""
        others = self.slots.affected(slot)
        ending = Ending(self._told, self.hurry)
        for other in reversed(others):
            await ending.one(other)
            if other.spec.restart == "temporary" and other is not slot:
                self.slots.remove(other)
        slot.is_restarting = True
        for each in others:
            if each not in self.slots:
                continue
            try:
                await self._start(each)
            except Exception:
                slot.is_restarting = False
                each.is_restarting = True
                self.inbox.post(partial(self._if_still, each, self._restart))
                return

    async def _ask_health(self, slot: Slot, child: Child, health: Health) -> None:
        why = await unhealthy(health, self._later)
        self.inbox.post(partial(self._unhealthy, slot, child, why))

    async def _unhealthy(self, slot: Slot, child: Child, why: str) -> None:
        if slot.child is not child:
            return
        exit = Exit("error", f"unhealthy: {why}")
        self._told("unhealthy", slot, exit)
        slot.asking = None
        await Ending(self._told, self.hurry).one(slot)
        slot.child = child
        await self._exited(slot, child, exit)

    # Calls.

    async def start_child(self, what: tuple[Any, ...]) -> str | None:
        if self._flags.strategy == "simple_one_for_one":
            slot = self.slots.add_dynamic(what)
        else:
            (spec,) = what
            check_spec(spec, self._flags)
            slot = self.slots.add(spec)
        try:
            await self._start(slot)
        except Exception as error:
            self.slots.remove(slot)
            raise ChildError(
                f"The child {slot.id} could not be started: {error}.", state="failed", id=slot.id
            ) from error
        return slot.id if slot in self.slots else None

    async def terminate_child(self, id: str) -> None:
        slot = self.slots.get(id)
        await Ending(self._told, self.hurry).one(slot)
        if slot.spec.restart == "temporary" or self._flags.strategy == "simple_one_for_one":
            self.slots.remove(slot)

    async def restart_child(self, id: str) -> None:
        slot = self.slots.down(id)
        try:
            await self._start(slot)
        except Exception as error:
            raise ChildError(
                f"The child {id} could not be started: {error}.", state="failed", id=id
            ) from error

    async def delete_child(self, id: str) -> None:
        self.slots.remove(self.slots.down(id))
