"""A backend whose sandboxes start, end and fall silent when a test says so."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from terraphim_rlm.core.clock import ManualClock
from terraphim_rlm.core.errors import SandboxLost, SandboxStartFailed
from terraphim_rlm.sandbox.contract import SandboxSpec
from terraphim_rlm.sandbox.pool.config import PoolConfig
from terraphim_rlm.sandbox.pool.pool import Pool
from terraphim_rlm.sandbox.sandbox import Sandbox


class FakePython:
    def __init__(self, machine: FakeMachine) -> None:
        self._machine = machine
        self.warm = asyncio.Event()
        self.warm.set()

    async def start(self) -> None: ...

    async def ping(self, seconds: float) -> None:
        self._machine.pings.append(seconds)
        if self._machine.mute:
            self._machine.backend.unlucky.add(asyncio.current_task())
            raise SandboxLost("It says nothing.")


class FakeMachine:
    def __init__(self, backend: FakeBackend, born: float) -> None:
        self.backend = backend
        self.born = born
        self.is_open = True
        self.mute = False
        self.gone = False
        self.pings: list[float] = []
        self.python = FakePython(self)

    def die(self) -> None:
        self.is_open = False

    async def destroy(self) -> None:
        self.is_open = False
        if self.backend.slow_ends:
            end = asyncio.get_running_loop().create_future()
            self.backend.ends.append(end)
            await end
        self.gone = True


class FakeBackend:
    """`starts` holds the starts in flight, oldest first; with `at_once` there are none."""

    name = "fake"

    def __init__(self, clock: ManualClock, *, at_once: bool = False, slow_ends: bool = False) -> None:
        self.clock = clock
        self.at_once = at_once
        self.slow_ends = slow_ends
        self.starts: list[asyncio.Future[None]] = []
        self.ends: list[asyncio.Future[None]] = []
        self.machines: list[FakeMachine] = []
        self.began: list[float] = []
        """When each start began."""
        self.unlucky: set[Any] = set()
        """Tasks of callers who asked a sandbox that said nothing."""

    async def create(self, spec: SandboxSpec) -> Any:
        self.began.append(self.clock.now())
        if not self.at_once:
            start = asyncio.get_running_loop().create_future()
            self.starts.append(start)
            try:
                await start
            finally:
                self.starts.remove(start)
        machine = FakeMachine(self, self.clock.now())
        self.machines.append(machine)
        return machine

    def finish(self, which: int = 0) -> None:
        self._waiting()[which].set_result(None)

    def fail(self, which: int = 0, why: str = "There is no room.") -> None:
        self._waiting()[which].set_exception(SandboxStartFailed(why))

    def _waiting(self) -> list[asyncio.Future[None]]:
        return [start for start in self.starts if not start.done()]

    def living(self) -> list[FakeMachine]:
        return [machine for machine in self.machines if not machine.gone]

    def end_all(self) -> None:
        for end in self.ends:
            if not end.done():
                end.set_result(None)
        self.ends.clear()


def pool_of(backend: FakeBackend, **options: Any) -> Pool:
    async def make() -> Sandbox:
        box = Sandbox(backend, SandboxSpec())  # type: ignore[arg-type]
        await box.start()
        return box

    return Pool(make, PoolConfig(**options), clock=backend.clock)


async def spin(rounds: int = 30) -> None:
    """Lets everything happen that can happen now."""
    for _ in range(rounds):
        await asyncio.sleep(0)


async def later(pool: Pool, clock: ManualClock, seconds: float) -> None:
    """Time passes, and the pool's timer goes off."""
    clock.advance(seconds)
    pool.look()
    await spin()


async def left(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
