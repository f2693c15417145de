"""`trlm bench engine`: what the engine itself costs, with the sandbox on and a model that answers at once."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from terraphim_rlm.core.process import start
from terraphim_rlm.core.values import Limits, Usage
from terraphim_rlm.llm.client import ModelReply, ModelRequest
from terraphim_rlm.llm.scripted import ScriptedModel
from terraphim_rlm.sandbox.opening import open_sandbox
from terraphim_rlm.service.rlm import Rlm
from terraphim_rlm.testing.bench.rows import row

_LIMITS = Limits(tokens=None, seconds=None, calls=None)
_CELL = "```python\nFINAL(len(context))\n```"
_CONTEXT = "a line of text\n" * 5_000
_HUNDRED_MB = 100_000_000


class _Instant(ScriptedModel):
    """A model whose sub-answers cost nothing, so that the row shows what we cost."""

    _YES = ModelReply("yes", Usage(tokens_in=1, tokens_out=1, calls=1))

    def complete_nowait(self, request: ModelRequest) -> ModelReply | None:
        return self._YES if request.purpose == "query" else super().complete_nowait(request)


async def rows() -> AsyncIterator[dict[str, Any]]:
    """Each row as soon as it is measured."""
    yield row(
        "run, spare ready", "ms", await _runs(40, spare=True), 10, why="one turn, one cell, FINAL; journaled"
    )
    yield row(
        "run, no spare",
        "ms",
        await _runs(15, spare=False),
        None,
        why="the same, and a sandbox and its keeper start and end",
    )
    yield row(
        "floor: two processes",
        "ms",
        await asyncio.to_thread(_floor, 2_000),
        None,
        why="one byte there and back over a socket pair: what waking two processes costs on this machine now",
    )
    yield row(
        "REPL round trip", "ms", await _round_trips(2_000), 0.25, why="print(1) in a living interpreter"
    )
    yield row("sub-call round trip", "ms", await _sub_calls(2_000), 0.1, why="llm_query, seen from the cell")
    yield row(
        "100 MB context",
        "s",
        await _contexts(5),
        0.1,
        why="from the str in the host to len(context) in a cell",
    )
    yield row(
        "100 MB context, 5 turns",
        "s",
        await _turns(3),
        None,
        why="a whole run of 5 turns over it; 0 bytes are sent again",
    )


async def engine(emit: Callable[[dict[str, Any]], None]) -> bool:
    """Emits every row; True when no goal is missed."""
    met = True
    async for one in rows():
        emit(one)
        met = met and one["met"] is not False
    return met


async def _runs(count: int, *, spare: bool) -> list[float]:
    samples = []
    model = ScriptedModel([_CELL] * (count + 1))
    rlm = Rlm(model, limits=_LIMITS, route="loop")
    if not spare:
        return [await _timed(rlm) for _ in range(count)]
    async with rlm:
        await _timed(rlm)
        for _ in range(count):
            await rlm.wait_ready()
            samples.append(await _timed(rlm))
    return samples


async def _timed(rlm: Rlm) -> float:
    started = time.perf_counter()
    answer = await rlm.ask("How long is it?", context=_CONTEXT)
    elapsed = (time.perf_counter() - started) * 1000
    if answer.value != len(_CONTEXT):
        raise AssertionError(f"the run gave {answer!r}")
    return elapsed


_ECHO = """
import socket, sys
line = socket.socket(fileno=int(sys.argv[1]))
while data := line.recv(64):
    line.send(data)
"""


def _floor(count: int) -> list[float]:
    """Round trips with a bare process at the other end; no row that crosses processes can be faster."""
    ours, theirs = socket.socketpair()
    samples = []
    with (
        ours,
        start(
            [sys.executable, "-I", "-S", "-c", _ECHO, str(theirs.fileno())], pass_fds=[theirs.fileno()]
        ) as echo,
    ):
        theirs.close()
        for number in range(count + 50):
            started = time.perf_counter()
            ours.send(b"x")
            ours.recv(64)
            if number >= 50:
                samples.append((time.perf_counter() - started) * 1000)
        ours.close()
        echo.wait()
    return samples


async def _round_trips(count: int) -> list[float]:
    samples = []
    async with open_sandbox() as box:
        for _ in range(50):
            await box.run("print(1)")
        for _ in range(count):
            started = time.perf_counter()
            result = await box.run("print(1)")
            samples.append((time.perf_counter() - started) * 1000)
            if result.stdout != "1\n":
                raise AssertionError(f"the cell gave {result!r}")
    return samples


_MEASURE = """```python
import time
_times = []
for _i in range({count}):
    _start = time.perf_counter()
    _reply = llm_query("hi")
    _times.append((time.perf_counter() - _start) * 1000)
assert _reply == "yes"
FINAL(_times)
```"""


async def _sub_calls(count: int) -> list[float]:
    model = _Instant([_MEASURE.format(count=count)])
    async with Rlm(model, limits=_LIMITS, route="loop") as rlm:
        answer = await rlm.ask("How long does a sub-call take?", context=_CONTEXT)
    return [float(item) for item in answer.value]


async def _contexts(count: int) -> list[float]:
    from terraphim_rlm.engine.context import make_context

    text = "x" * _HUNDRED_MB
    samples = []
    for _ in range(count):
        async with open_sandbox() as box:
            await box.run("1")
            await asyncio.sleep(0)
            started = time.perf_counter()
            context = make_context(text)
            try:
                box.python.give(context.handover())
                result = await box.run("print(len(context))")
                samples.append(time.perf_counter() - started)
            finally:
                context.close()
            if result.stdout != f"{_HUNDRED_MB}\n":
                raise AssertionError(f"the cell gave {result!r}")
    return samples


async def _turns(count: int) -> list[float]:
    text = "x" * _HUNDRED_MB
    cell = "```python\nprint(len(context), {turn})\n```"
    samples = []
    for _ in range(count):
        model = ScriptedModel([*(cell.format(turn=turn) for turn in range(4)), "FINAL(done)"])
        async with Rlm(model, limits=_LIMITS, route="loop") as rlm:
            await rlm.wait_ready()
            started = time.perf_counter()
            await rlm.ask("Read it.", context=text)
            samples.append(time.perf_counter() - started)
    return samples
