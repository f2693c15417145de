"""Rows about one sandbox in use, and many short-lived ones: starts, round trips, commands, rates, idle memory."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

from terraphim_rlm.sandbox.contract import Backend
from terraphim_rlm.sandbox.opening import open_sandbox
from terraphim_rlm.sandbox.sandbox import Sandbox
from terraphim_rlm.testing.bench.boxes import Row, box_of, expect, said
from terraphim_rlm.testing.bench.peers import AT_ONCE, Peers
from terraphim_rlm.testing.bench.processes import Unreadable, descendants, processor_ms, pss_mb
from terraphim_rlm.testing.bench.rows import Goal, row

if TYPE_CHECKING:
    from terraphim_rlm.testing.bench.sandbox import Sizes

_WARM_UP = 20
_WRITABLE = ("/tmp", "/work", "/dev/shm")  # noqa: S108 - inside
_ALONE = f"""
import os
print(os.stat('/proc/self/ns/pid').st_ino)
print([os.listdir(folder) for folder in {_WRITABLE}], sum(name.isdigit() for name in os.listdir('/proc')) <= 3)
for folder in {_WRITABLE}:
    open(folder + '/canary', 'w').close()
"""
_AT_ONCE = (1, 2, AT_ONCE, 8, 16)


async def rows(backend: Backend, sizes: Sizes, peers: Peers) -> AsyncIterator[Row]:
    """Each row as soon as it is measured."""
    yield row(
        "cold start",
        "ms",
        await _starts(lambda: box_of(backend), sizes.starts),
        40,
        peers=await peers.beside("cold start"),
        why="a new sandbox, until it has answered print(1)",
    )
    yield row(
        "cold start, keeper too",
        "ms",
        await _starts(lambda: open_sandbox(backend.name), sizes.starts),
        None,
        why="the same by open_sandbox(): the process that keeps this owner's sandboxes starts as well",
    )
    yield await _start_work(backend, sizes.starts)
    async with box_of(backend) as box:
        yield row(
            "round trip",
            "ms",
            await _repeated(lambda: expect(box, "print(1)", "1\n"), sizes.round_trips),
            0.25,
            peers=await peers.beside("round trip"),
            why="print(1) in a living interpreter",
        )
        yield row(
            "one-shot command",
            "ms",
            await _repeated(lambda: _command(box), sizes.commands),
            None,
            peers=await peers.beside("command"),
            why="sh('echo 1') in a living sandbox",
        )
    yield await _idle(backend, sizes.idle, peers)
    async for one in _rates(backend, sizes.seconds, peers):
        yield one


async def _rates(backend: Backend, seconds: float, peers: Peers) -> AsyncIterator[Row]:
    for count in _AT_ONCE:
        alone = Alone(backend)
        yield row(
            f"independent executions, {count} at once",
            "/min",
            await rate([alone.once] * count, seconds),
            Goal(4_000, least=True) if count == AT_ONCE else None,
            peers=await peers.beside("independent") if count == AT_ONCE else None,
            why="a sandbox each, in processes of its own; each finds no file and no process of another",
        )
    async with AsyncExitStack() as stack:
        boxes = [await stack.enter_async_context(box_of(backend)) for _ in range(AT_ONCE)]
        for box in boxes:
            await expect(box, "print(1)", "1\n")
        yield row(
            "executions a minute, warm",
            "/min",
            await rate([partial(expect, box, "print(1)", "1\n") for box in boxes], seconds),
            Goal(200_000, least=True),
            peers=await peers.beside("warm"),
            why=f"print(1) in {AT_ONCE} living interpreters at once",
        )


async def _starts(opening: Callable[[], AbstractAsyncContextManager[Sandbox]], count: int) -> list[float]:
    """Milliseconds from nothing to the first answer; the first start of all finds what the others know."""
    samples = []
    for _ in range(count + 1):
        started = time.perf_counter()
        async with opening() as box:
            await expect(box, "print(1)", "1\n")
            samples.append((time.perf_counter() - started) * 1000)
    return samples[1:]


async def _start_work(backend: Backend, count: int) -> Row:
    """What a start costs when others want the processors, too: the time that it works, waiting left out."""
    name, unit = "cold start, processor time", "ms"
    samples = []
    async with box_of(backend):
        keeper = descendants()
        for _ in range(count):
            try:
                before = processor_ms(keeper) + time.process_time() * 1000
                async with box_of(backend) as box:
                    await expect(box, "print(1)", "1\n")
                    after = processor_ms(keeper) + time.process_time() * 1000
                    samples.append(after - before + processor_ms(descendants() - keeper))
            except Unreadable as error:
                return row(name, unit, [], None, why=f"cannot be measured here: {error}")
    return row(name, unit, samples, None, why="the same, by all processes: ours, the keeper's, the sandbox's")


async def _repeated(work: Callable[[], Awaitable[None]], count: int) -> list[float]:
    samples = []
    for _ in range(count + _WARM_UP):
        started = time.perf_counter()
        await work()
        samples.append((time.perf_counter() - started) * 1000)
    return samples[_WARM_UP:]


async def _command(box: Sandbox) -> None:
    result = await box.sh("echo 1")
    if result.stdout != "1\n":
        raise AssertionError(f"the command gave {result!r}")


class Alone:
    """Executions that have nothing to do with each other."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._living = {os.stat("/proc/self/ns/pid").st_ino}
        """Pid namespaces: ours, and those of the sandboxes that there are now."""

    async def once(self) -> None:
        """One in a sandbox of its own.

        Raises:
            AssertionError: it saw a file or a process of another, or shares its pid namespace.
        """
        async with box_of(self._backend) as box:
            namespace, _, seen = (await said(box, _ALONE)).partition("\n")
            if seen != "[[], [], []] True\n":
                raise AssertionError(f"a sandbox that was just made saw {seen!r}")
            if int(namespace) in self._living:
                raise AssertionError("a sandbox shares its processes with another")
            self._living.add(int(namespace))
        self._living.remove(int(namespace))


async def rate(workers: list[Callable[[], Awaitable[None]]], seconds: float) -> list[float]:
    """Completions a minute of all workers together, one sample a second (or one, if there is less)."""
    windows = max(int(seconds), 1)
    width = seconds / windows
    done = [0] * windows
    started = time.perf_counter()

    async def repeat(work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await work()
            window = int((time.perf_counter() - started) / width)
            if window >= windows:
                return
            done[window] += 1

    async with asyncio.TaskGroup() as group:
        for work in workers:
            group.create_task(repeat(work))
    return [count * 60 / width for count in done]


async def _idle(backend: Backend, count: int, peers: Peers) -> Row:
    """Memory by proportional set size: a page that several processes share counts once."""
    name, unit = "idle memory of a sandbox", "MB"
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(box_of(backend))
        await expect(first, "print(1)", "1\n")
        samples = []
        for _ in range(count):
            before = descendants()
            box = await stack.enter_async_context(box_of(backend))
            await expect(box, "print(1)", "1\n")
            try:
                samples.append(pss_mb(descendants() - before))
            except Unreadable as error:
                return row(name, unit, [], None, why=f"cannot be measured here: {error}")
        why = f"each of {count} beside others, after print(1): all its processes, shared pages by their share"
    return row(name, unit, samples, None, peers=await peers.beside("idle memory"), why=why)
