"""Rows of the engine: round trips, sub-calls, runs, child nodes."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
import time
from typing import Any

from terraphim_rlm.core.events import Event
from terraphim_rlm.core.process import start
from terraphim_rlm.core.values import Limits
from terraphim_rlm.llm.scripted import Rule, ScriptedModel
from terraphim_rlm.sandbox.opening import open_sandbox
from terraphim_rlm.service.rlm import Rlm
from terraphim_rlm.testing.engines.ours import Ours, ask

_WARM_UP = 50
_ROOT, _CHILD = "ROOT-7f", "CHILD-7f"
_LOOK = {"code": "print(len(context))"}


def _script(code: str, final: str, **more: Any) -> dict[str, Any]:
    steps = [_LOOK, {"code": code, "final": final}]
    turns = [[_ROOT, steps], *more.pop("children", [])]
    return {"question": f"{_ROOT} How?", "context": {"text": "a line\n" * 100}, "turns": turns, **more}


RUN = {
    "question": f"{_ROOT} How long is it?",
    "context": {"repeat": ["a line of text\n", 5_000]},
    "turns": [[_ROOT, [{"code": "n = len(context)", "final": "n"}]]],
}
SUB_CALLS = _script(
    "import time\ntimes = []\nfor i in range(1000):\n    t = time.perf_counter()\n    r = llm_query('hi')\n"
    "    times.append((time.perf_counter() - t) * 1000)\nassert r == 'yes'",
    "times",
)


def fan_out(count: int, latency: float = 0.05) -> dict[str, Any]:
    """A batch of sub-calls; the answer is how long it took, in a list."""
    code = (
        f"import time\nt = time.perf_counter()\nr = llm_query_batched(['p%d' % i for i in range({count})])\n"
        f"took = time.perf_counter() - t\nassert len(r) == {count} and set(r) == set(['yes'])"
    )
    return _script(code, "[took]", latency=latency)


def children(count: int, *, batched: bool = False) -> dict[str, Any]:
    """Child nodes; the answer is how long they took, in a list."""
    call = (
        f"r = rlm_query_batched(['{_CHILD}?'] * {count}, 'abc')"
        if batched
        else f"r = [rlm_query('{_CHILD}?', 'abc') for i in range({count})]"
    )
    code = (
        f"import time\nt = time.perf_counter()\n{call}\n"
        f"took = time.perf_counter() - t\nassert [str(x) for x in r] == ['3'] * {count} or len(r) == {count}"
    )
    return _script(code, "[took]", children=[[_CHILD, [{"code": "n = len(context)", "final": "n"}]]])


async def inside(script: dict[str, Any], count: int) -> list[float]:
    """What the cell of a script measured, that often."""
    samples: list[float] = []
    async with Ours() as engine:
        for _ in range(count):
            samples += figures(await engine.ask(script))
    return samples


async def sub_calls(count: int) -> list[float]:
    """Milliseconds of single calls."""
    return (await inside(SUB_CALLS, max(count // 1_000, 1)))[:count]


def figures(told: dict[str, Any]) -> list[float]:
    """The list of figures that a script gave as its answer, whatever form the engine gives answers in.

    Raises:
        AssertionError: it gave none.
    """
    answer = told["answer"]
    if told["error"] is None and isinstance(answer, str):
        answer = [float(part) for part in answer.strip("[]").split(",")]
    if not isinstance(answer, list):
        raise AssertionError(f"the run gave {told['error'] or repr(answer)}")
    return [float(figure) for figure in answer]


async def runs(count: int, *, spare: bool) -> list[float]:
    """Milliseconds of whole runs."""
    if not spare:
        return [_run(await ask(RUN)) for _ in range(count)]
    async with Ours() as engine:
        await engine.ask(RUN)
        return [_run(await engine.ask(RUN)) for _ in range(count)]


def _run(told: dict[str, Any]) -> float:
    if told["answer"] != 75_000:
        raise AssertionError(f"the run gave {told!r}")
    return float(told["seconds"]) * 1000


_WAITS = "```python\nprint('now', flush=True)\nllm_query_batched(['slow'] * 50)\n```"


async def cancels(count: int) -> list[float]:
    """Milliseconds from the cancellation of a run whose cell waits for fifty calls until nothing of it is left."""
    samples = []
    model = ScriptedModel(rules=[Rule(re.compile("slow"), "late")], replies=[_WAITS] * count, latency=0.2)
    async with Rlm(model, limits=Limits(tokens=None, seconds=None), route="loop") as rlm:
        for _ in range(count):
            await rlm.wait_ready()
            begun = asyncio.Event()
            asking = asyncio.create_task(rlm.ask("What?", "some input", sinks=(_Until(begun),)))
            await begun.wait()
            started = time.perf_counter()
            asking.cancel()
            await asyncio.wait({asking})
            samples.append((time.perf_counter() - started) * 1000)
    return samples


class _Until:
    """Tells when a sub-call has begun."""

    def __init__(self, begun: asyncio.Event) -> None:
        self._begun = begun

    def __call__(self, event: Event) -> None:
        if event.type == "call.started":
            self._begun.set()


_ECHO = """
import socket, sys
line = socket.socket(fileno=int(sys.argv[1]))
while data := line.recv(64):
    line.send(data)
"""


async def floor(count: int) -> list[float]:
    """Round trips with a bare process at the other end; no row that crosses processes can be faster."""
    return await asyncio.to_thread(_floor, count)


def _floor(count: int) -> list[float]:
    ours, theirs = socket.socketpair()
    samples = []
    with (
        ours,
        start(
            [sys.executable, "-I", "-S", "-c", _ECHO, str(theirs.fileno())], pass_fds=[theirs.fileno()]
        ) as echo,
    ):
        theirs.close()
        for number in range(count + _WARM_UP):
            started = time.perf_counter()
            ours.send(b"x")
            ours.recv(64)
            if number >= _WARM_UP:
                samples.append((time.perf_counter() - started) * 1000)
        ours.close()
        echo.wait()
    return samples


async def round_trips(count: int) -> list[float]:
    """Milliseconds of print(1) in a living interpreter."""
    samples = []
    async with open_sandbox() as box:
        for _ in range(_WARM_UP):
            await box.run("print(1)")
        for _ in range(count):
            started = time.perf_counter()
            result = await box.run("print(1)")
            samples.append((time.perf_counter() - started) * 1000)
            if result.stdout != "1\n":
                raise AssertionError(f"the cell gave {result!r}")
    return samples
