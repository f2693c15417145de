"""Rows of the attack catalogue about who may call and who pays: capabilities, crashes, clocks, sandboxes of a tree."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from typing import Any

import pytest

from rows import named
from terraphim_rlm import Limits, Rlm, Sandbox, open_sandbox
from terraphim_rlm.core.clock import SYSTEM_CLOCK
from terraphim_rlm.engine.guards import Checks
from terraphim_rlm.guest import frames
from terraphim_rlm.service.runs import list_runs
from terraphim_rlm.store.journal import Journal
from terraphim_rlm.testing import Fake, FakeOpenAI, ScriptedModel

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]
UNASKED = Checks(look_first=False, literal=False, unread=False)


def cell(code: str) -> str:
    return f"```python\n{code}\n```"


# -- I-06: who may call ends with its execution

CHANNEL = "import gc\nchannel = next(o for o in gc.get_objects() if type(o).__name__ == 'Channel')\n"
FRAME = (
    "def frame(n): \n    import json, struct\n"
    "    body = json.dumps({'op': 'llm_query', 'prompt': 'stolen'}).encode()\n"
    "    return struct.pack('<IBI', len(body), 16, n) + body\n"
)
MARK = "open('/work/late', 'w').close()"
LATE = {
    "a-thread": "import threading, time\ndef late():\n    time.sleep(0.2)\n    try: llm_query('stolen')\n"
    f"    finally: {MARK}\nthreading.Thread(target=late, daemon=True).start()",
    "a-fork": "import os, time\nif os.fork() == 0:\n    time.sleep(0.2)\n    try: llm_query('stolen')\n"
    f"    finally:\n        {MARK}\n        os._exit(0)",
    "a-program": CHANNEL + FRAME + "import os, subprocess, sys\nfd = os.dup(channel._socket.fileno())\n"
    f"code = \"import os, sys, time; time.sleep(0.2); os.write(%d, bytes.fromhex(sys.argv[1])); {MARK}\" % fd\n"
    "subprocess.Popen([sys.executable, '-c', code, frame(77).hex()], pass_fds=[fd], stdin=-3, stdout=-3, stderr=-3)",
    "a-flood": CHANNEL + FRAME + "import os, threading, time\ndef flood():\n    time.sleep(0.2)\n"
    f"    for n in range(100, 1100): channel._socket.send(frame(n))\n    {MARK}\nthreading.Thread(target=flood, daemon=True).start()",
    "a-signal": "import signal\ndef late(*about):\n    try: llm_query('stolen')\n"
    f"    finally: {MARK}\nsignal.signal(signal.SIGALRM, late)\nsignal.setitimer(signal.ITIMER_REAL, 0.2)",
}  # fmt: skip


@pytest.mark.row("I-06")
@pytest.mark.parametrize("code", named(LATE))
async def test_a_call_after_its_execution_has_ended_is_answered_by_nobody(code: str) -> None:
    """What was kept of a run's last cell calls while nothing runs; the sandbox is kept for a further question."""
    model = ScriptedModel([cell(code + "\nFINAL(1)"), cell("FINAL(2)")], sub_reply="y")
    async with Rlm(model, route="loop", checks=UNASKED, guard="off") as rlm:
        first = await rlm.ask("?", "input")
        desk = rlm._desk
        assert desk is not None
        box = desk._kept[first.run_id].sandbox
        assert box is not None
        while not any(info.path == "late" for info in await box.files.list()):
            await asyncio.sleep(0.01)
        second = await rlm.ask("And now?", follow=first)

    assert (first.value, second.value) == (1, 2)
    assert [request.purpose for request in model.requests] == ["turn", "turn"]
    assert (first.usage.calls, second.usage.calls) == (1, 1)


HANDED = (
    "import os, socket, time\nline = socket.socket(socket.AF_UNIX)\n"
    "while True:\n    try: line.connect('/work/line')\n    except OSError: time.sleep(0.01)\n    else: break\n"
)
TAKES = (
    CHANNEL + FRAME + "import os, socket, threading\nserver = socket.socket(socket.AF_UNIX)\nserver.bind('/work/line')\nserver.listen()\n"
    "taken = []\ndef take():\n    line = server.accept()[0]\n    taken.extend(socket.recv_fds(line, 1, 1)[1])\n"
    "taker = threading.Thread(target=take)\ntaker.start()\nr = rlm_query('Give.', 'x')\ntaker.join()\n"
)  # fmt: skip


@pytest.mark.row("I-06")
@pytest.mark.parametrize("number", [1, 2, 77])
async def test_the_channel_of_a_child_that_has_ended_is_dead_in_whosever_hands(ask: Any, number: int) -> None:
    root = cell(
        TAKES + "import time\ntry:\n    while True:\n"
        f"        os.write(taken[0], frame({number}))\n        time.sleep(0.01)\n"
        "except OSError as e: FINAL([r, type(e).__name__])"
    )
    child = cell(
        CHANNEL + HANDED + "socket.send_fds(line, [b'x'], [channel._socket.fileno()])\nFINAL('given')"
    )
    asked = await ask([root, child], sub_reply="y")

    assert asked.answer.value == ["given", "BrokenPipeError"]
    assert [request.purpose for request in asked.model.requests] == ["turn", "turn"]


@pytest.mark.row("I-06")
@pytest.mark.parametrize("address", [r"\0trlm-line", "/tmp/line", "/work/line", "/dev/shm/line"])
async def test_no_sandbox_is_handed_the_channel_of_another_one(address: str) -> None:
    async with open_sandbox() as one, open_sandbox() as other:
        code = f"import socket\ns = socket.socket(socket.AF_UNIX)\ns.{{}}('{address}')\n{{}}print('done')"
        bound = await one.run(code.format("bind", "s.listen()\n"))
        reached = await other.run(code.format("connect", ""))
        own = await one.run(code.replace("s = ", "c = ").replace("s.{}", "c.{}").format("connect", ""))

    assert (bound.stdout, own.stdout) == ("done\n", "done\n")
    assert reached.error is not None
    assert reached.error.type in ("ConnectionRefusedError", "FileNotFoundError")


FORGED = {
    "final": (frames.FINAL, json.dumps({"json": True, "value": "owned", "repr": "owned", "source": "FINAL"})),
    "done": (frames.DONE, ""),
    "done-with-an-error": (frames.DONE, json.dumps({"type": "Owned", "message": "", "traceback": ""})),
}


@pytest.mark.row("I-06")
@pytest.mark.parametrize(("kind", "body"), named(FORGED))
async def test_the_end_of_an_earlier_execution_is_not_that_of_this_one(
    ask: Any, kind: int, body: str
) -> None:
    forged = CHANNEL + f"channel.send({kind}, 1, {body!r}.encode())\nprint('went on')"
    asked = await ask([cell("x = 1"), cell(forged), "FINAL(mine)"])

    assert asked.answer.text == "mine"
    assert [each["stdout"] for each in asked.of("cell.finished")] == ["", "went on\n"]


# -- I-07: killed between call and settlement

PROGRAM = """
import asyncio, sys
from terraphim_rlm import Limits, Rlm
from terraphim_rlm.engine.guards import Checks
from terraphim_rlm.llm.openai_compatible import OpenAICompatible
from terraphim_rlm.llm.providers import PROVIDERS

model = OpenAICompatible(PROVIDERS["vllm"], "tiny", base_url=sys.argv[1])
limits = Limits(**eval(sys.argv[2]))
asyncio.run(Rlm(model, route="loop", limits=limits, checks=Checks(look_first=False)).ask("What?", "some input"))
"""
KILLED = {
    "turn": (None, 1, {}),
    "second-turn": ("print(len(context))", 2, {}),
    "call": ("llm_query('slow')", 2, {}),
    "batch": ("llm_query_batched([f'slow {n}' for n in range(8)])", 9, {}),
    "child": ("rlm_query('slow child?', context)", 2, {}),
    "no-limit-of-tokens": ("llm_query('slow')", 2, {"tokens": None}),
    "dollars": ("llm_query('slow')", 2, {"dollars": 5.0, "unpriced": "maximum"}),
}


@pytest.mark.row("I-07")
@pytest.mark.parametrize(("code", "requests", "limits"), named(KILLED))
async def test_what_a_killed_run_had_in_flight_counts_as_spent(
    code: str | None, requests: int, limits: dict[str, Any]
) -> None:
    def said(seen: Any) -> Fake:
        asked = seen.body["messages"][-1]["content"]
        slow = code is None or "slow" in asked or len(seen.body["messages"]) > 2
        return Fake(hang=True) if slow else Fake(cell(code or ""))

    async with FakeOpenAI(default=said) as server:
        argv = [sys.executable, "-c", PROGRAM, server.base_url, repr({"tokens": 200_000, **limits})]
        running = subprocess.Popen(argv)
        try:
            while len(server.requests) < requests:
                assert running.poll() is None, "it ended by itself"
                await asyncio.sleep(0.01)
        finally:
            running.send_signal(signal.SIGKILL)
            await asyncio.to_thread(running.wait)
        sent = sum(
            sum(len(message["content"]) for message in seen.body["messages"]) // 4 + seen.body["max_tokens"]
            for seen in server.requests[-(requests if requests > 2 else 1) :]
        )
    with Journal() as journal:
        journal.open()
    (run,) = list_runs()

    assert run.status == "interrupted"
    assert run.spent_tokens >= sent > 4_000
    assert run.spent_tokens <= (limits.get("tokens", 200_000) or sent + 2_000_000)


# -- I-11: clocks

CLOCKS = {
    "call": "llm_query('slow')",
    "batch": "llm_query_batched(['slow'] * 5)",
    "many-calls": "for n in range(2): llm_query('slow')",
    "threads": "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(4) as p: list(p.map(llm_query, ['slow'] * 4))",
    "child": "rlm_query('slow?', context)",
}


@pytest.mark.row("I-11")
@pytest.mark.parametrize("code", named(CLOCKS))
async def test_a_cells_clock_stands_still_while_it_waits_for_calls(
    ask: Any, monkeypatch: Any, code: str
) -> None:
    monkeypatch.setattr("terraphim_rlm.engine.hands.CELL_SECONDS", 0.8)
    slow = ScriptedModel(
        [cell("llm_query('slow')\nFINAL(1)")], sub_reply="late", latency=0.3, sleep=_a_second
    )
    asked = await ask([cell(code + "\nFINAL('came')")], sub_model=slow)

    assert asked.answer.value == "came"
    assert asked.of("cell.finished")[-1]["duration_ms"]["run"] > 0


async def _a_second(seconds: float) -> None:
    """More than a cell has."""
    await asyncio.sleep(1.0)


@pytest.mark.row("I-11")
@pytest.mark.parametrize("code", named(CLOCKS))
async def test_and_the_runs_own_time_ends_it_in_any_case(ask: Any, code: str) -> None:
    slow = ScriptedModel([cell("llm_query('slow')")] * 3, sub_reply="late", latency=60)
    began = SYSTEM_CLOCK.now()
    asked = await asyncio.wait_for(ask([cell(code)], sub_model=slow, limits=Limits(seconds=1.0)), 30)

    assert (asked.answer.termination, asked.answer.partial) == ("time_budget", True)
    assert SYSTEM_CLOCK.now() - began < 15


# -- I-12: sandboxes

BOMBS = {
    "deep": "try: FINAL(rlm_query('again', 'x'))\nexcept BudgetError as e: FINAL(e.type)",
    "wide": "try: FINAL(len(rlm_query_batched(['again'] * 12, 'x', on_error='return')))\nexcept BudgetError as e: FINAL(e.type)",
    "both": "try:\n    r = rlm_query_batched(['again'] * 3, 'x', on_error='return')\n    FINAL(len(r))\nexcept BudgetError as e: FINAL(e.type)",
}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Sandbox]:
    """Every sandbox that is started."""
    found: list[Sandbox] = []
    plain = Sandbox.start

    async def counted(self: Sandbox) -> None:
        found.append(self)
        await plain(self)

    monkeypatch.setattr(Sandbox, "start", counted)
    return found


@pytest.mark.row("I-12")
@pytest.mark.parametrize("code", named(BOMBS))
async def test_children_without_end_live_in_the_one_sandbox_of_their_run(
    ask: Any, started: list[Sandbox], code: str
) -> None:
    asked = await ask([cell(code)] * 400, limits=Limits(depth=3, calls=60, tokens=None))

    assert len(asked.of("node.started")) > 3
    assert len(started) == 1
