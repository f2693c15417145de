"""The owner's side of the zygote: made in the background when a second sandbox is wanted, given up when it cannot be."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

from terraphim_rlm.core.errors import RlmError
from terraphim_rlm.core.values import Resources
from terraphim_rlm.sandbox.backends.bubblewrap import argv, diagnosis, host, starting
from terraphim_rlm.sandbox.backends.bubblewrap.bundle import INSIDE
from terraphim_rlm.sandbox.keeper.client import Keeper, Kept
from terraphim_rlm.sandbox.link.room import is_full

_SCRIPT = "start.pyc"
_ATTEMPTS = 3


class Zygote:
    """The process that ordinary sandboxes of one owner are forked from, see `guest/zygote.py`.

    A sandbox made so costs a fifth, and one that is made alone costs nothing more: the first one of an owner is
    bubblewrap's, and so is each until this one stands.
    """

    def __init__(self, keeper: Callable[[], Keeper]) -> None:
        self._keeper = keeper
        self._kept: Kept | None = None
        self._making: asyncio.Task[None] | None = None
        self._attempts = _ATTEMPTS
        self._lacking = ""
        self._owner = os.getpid()

    @property
    def standing(self) -> Kept | None:
        """It, while it lives."""
        return None if self._kept is None or self._kept.is_over else self._kept

    def want(self, bwrap: str, machine: starting.Machine) -> None:
        """Begins to make it, if there is none and it has not failed."""
        if self.standing is None and self._attempts and (self._making is None or self._making.done()):
            self._making = asyncio.get_running_loop().create_task(self._make(bwrap, machine))

    async def settled(self) -> str:
        """Waits until it stands, or is given up: why, or nothing."""
        if self._making is not None:
            await asyncio.wait([self._making])
        return "" if self.standing is not None else self._lacking

    async def _make(self, bwrap: str, machine: starting.Machine) -> None:
        try:
            self._kept = await self._started(bwrap, machine)
        except diagnosis.Refused as refused:  # it would be again
            self._lacking, self._attempts = refused.said, 0
        except RlmError as error:
            self._lacking = error.message
        except OSError as error:
            if not is_full(error):
                raise
            self._lacking = str(error)

    async def _started(self, bwrap: str, machine: starting.Machine) -> Kept:
        guest = {f"{INSIDE}/{name}": data for name, data in machine.guest.items()}
        files = {**argv.ETC, **host.huge_pages(), **guest}
        root = host.root_folders()
        resources = Resources()
        plan = argv.Plan(bwrap, machine.python, resources, {}, root, (), tuple(files), _SCRIPT)
        with ExitStack() as theirs, ExitStack() as own:
            ends = starting.ends(theirs, own)
            launch = starting.launch(theirs, ends, argv.zygote(plan), files.values())
            launch = replace(launch, rlimits=starting.PER_PROCESS, uid=machine.uid, line=argv.LINE_FD)
            self._attempts -= 1  # only now: want of descriptors here says nothing of the next time
            kept = await self._keeper().launch(launch)
            own.pop_all()
        await starting.greeted(ends, kept, resources)
        ends.ours.close()
        self._attempts += 1
        return kept

    async def close(self) -> None:
        """Ends it where it is still being made; else the keeper does. A forked child has nothing to end."""
        if self._making is not None and self._owner == os.getpid():
            self._making.cancel()
            await asyncio.wait([self._making])
