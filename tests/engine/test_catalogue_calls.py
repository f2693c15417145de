"""Rows of the attack catalogue about cells, sub-calls and child nodes; the id of a row begins that of its variations."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from terraphim_rlm import Limits, Rlm
from terraphim_rlm.core.errors import ModelRateLimited, ModelUnreachable
from terraphim_rlm.core.events import Event
from terraphim_rlm.llm.client import ModelReply, ModelRequest
from terraphim_rlm.testing import ScriptedModel

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]

_NAMES = (
    "context", "llm_query", "llm_query_batched", "rlm_query", "rlm_query_batched", "FINAL", "FINAL_VAR", "SUBMIT",
    "grep", "chunks", "quote", "cite", "sh", "print", "map_query", "outputs", "__builtins__",
)  # fmt: skip


@pytest.mark.row("G15")
@pytest.mark.parametrize("name", _NAMES, ids=lambda name: f"G15-{name}")
@pytest.mark.parametrize("harm", ["{} = None", "globals().pop('{}', None)", "def {}(*a): raise SystemExit"], ids=["none", "gone", "other"])  # fmt: skip
async def test_a_name_is_there_again_in_the_next_cell(ask: Any, name: str, harm: str) -> None:
    asked = await ask(
        [
            f"```python\nkept = {name}\n```",
            f"```python\n{harm.format(name)}\n```",
            f"```python\nFINAL([len(str(context)), {name} is not None, callable({name}) == callable(kept)])\n```",
        ]
    )

    assert asked.answer.value == [10, True, True]


@pytest.mark.row("G18")
@pytest.mark.parametrize(
    "finish",
    ["FINAL_VAR('nothing')", "FINAL_VAR(nothing)", "SUBMIT(nothing)", "FINAL(open('/tmp/no').read())"],
    ids=lambda finish: f"G18-{finish[:18]}",
)
async def test_an_answer_that_is_not_of_this_run_is_an_error_and_the_run_goes_on(
    ask: Any, finish: str
) -> None:
    asked = await ask([f"```python\n{finish}\n```", "```python\nFINAL(len(context))\n```"])

    assert asked.answer.value == 10
    assert "Error" in asked.said(2)


@pytest.mark.row("G11")
@pytest.mark.parametrize(
    "call",
    [
        "llm_query('p', model='attacker/x')",
        "llm_query.__self__.ask('llm_query', prompt='p', model='attacker/x', base_url='http://10.0.0.1')",
        "llm_query.__self__.ask('llm_query', prompt='p', model=['scripted'])",
        "llm_query.__self__.ask('llm_query_batched', prompts=['p'], model='attacker/x')",
    ],
    ids=["G11-model", "G11-url", "G11-list", "G11-batch"],
)
async def test_code_chooses_neither_model_nor_address(ask: Any, call: str) -> None:
    code = f"```python\ntry: FINAL({call})\nexcept ModelCallError as e: FINAL(e.type)\n```"
    asked = await ask([code], sub_reply="y")

    assert asked.answer.value == "InvalidArgument"
    assert [request.purpose for request in asked.model.requests] == ["turn"]


@pytest.mark.row("I-02")
@pytest.mark.parametrize(
    ("field", "value"),
    [("depth", 0), ("budget", 10**9), ("tokens", -5), ("account", "root"), ("node", "node-x"), ("capability", "x" * 26)],
    ids=lambda value: f"I-02-{value}" if isinstance(value, str) else "",
)  # fmt: skip
async def test_what_a_cell_claims_of_itself_changes_nothing(ask: Any, field: str, value: Any) -> None:
    code = (
        f"```python\nask = llm_query.__self__.ask\nr = ask('llm_query', prompt='p', {field}={value!r})\n"
        f"try: ask('rlm_query', question='q', {field}={value!r})\nexcept ModelCallError as e: r = [r, e.type]\nFINAL(r)\n```"
    )
    asked = await ask([code], sub_reply="y", limits=Limits(depth=0))

    assert asked.answer.value == ["y", "DepthLimitExceeded"]
    assert asked.answer.usage.calls == 2


@pytest.mark.row("I-01")
@pytest.mark.parametrize("depth", [0, 1, 3, 5], ids=lambda depth: f"I-01-{depth}")
async def test_children_that_ask_children_for_ever_end_at_the_depth_of_the_run(ask: Any, depth: int) -> None:
    code = "```python\ntry: r = rlm_query('deeper?', context)\nexcept BudgetError as e: r = e.type\nFINAL(r)\n```"
    asked = await ask([code] * (depth + 1), limits=Limits(depth=depth))

    assert asked.answer.value == "DepthLimitExceeded"
    assert [node["depth"] for node in asked.of("node.started")] == list(range(depth + 1))


@pytest.mark.row("I-04")
@pytest.mark.parametrize("calls", [3, 10, 40], ids=lambda calls: f"I-04-{calls}")
async def test_a_tree_of_children_and_batches_stays_within_the_calls_of_the_run(ask: Any, calls: int) -> None:
    code = (
        "```python\ntry:\n    llm_query_batched(['p'] * 10, on_error='return')\n"
        "    rlm_query_batched(['q'] * 10, on_error='return')\nexcept ModelCallError: pass\nFINAL(1)\n```"
    )
    asked = await ask([code] * calls, sub_reply="y", limits=Limits(calls=calls, depth=3))

    assert asked.answer.usage.calls == calls == len(asked.model.requests)


@pytest.mark.row("I-05")
@pytest.mark.parametrize(
    ("make", "error"),
    [
        ("'z' * 3_000_000", "PromptTooLong"),
        ("'z' * 70_000_000", "ValueError"),
        ("'é\\n' * 2_000_000", "PromptTooLong"),
    ],
    ids=["I-05-text", "I-05-frame", "I-05-wide"],
)
async def test_a_prompt_of_any_size_is_refused_before_it_costs_anything(
    ask: Any, make: str, error: str
) -> None:
    code = (
        f"```python\np = {make}\nsaid = []\nfor f in (llm_query, lambda p: llm_query_batched([p, 'ok'])):\n"
        "    try: f(p)\n    except ModelCallError as e: said.append(e.type)\n    except ValueError as e: said.append('ValueError')\nFINAL(said)\n```"
    )
    asked = await ask([code], sub_reply="y")

    assert asked.answer.value == [error] * 2


class Slots(ScriptedModel):
    """Answers four at once, the others wait; or are refused, as providers do."""

    def __init__(self, replies: list[str], refuses: bool) -> None:
        super().__init__(replies)
        self.busy = self.most = 0
        self._refuses = refuses
        self._free = asyncio.Semaphore(4)

    def complete_nowait(self, request: ModelRequest) -> ModelReply | None:
        return None

    async def complete(self, request: ModelRequest) -> ModelReply:
        if request.purpose == "turn":
            return await super().complete(request)
        if self._refuses and self._free.locked():
            raise ModelRateLimited("four at once")
        async with self._free:
            self.busy += 1
            self.most = max(self.most, self.busy)
            await asyncio.sleep(0.005)
            self.busy -= 1
        return ModelReply("leaf")


@pytest.mark.row("I-10")
@pytest.mark.parametrize("refuses", [False, True], ids=["I-10-waits", "I-10-refuses"])
async def test_five_nested_nodes_of_twenty_calls_each_need_no_more_than_four_slots(refuses: bool) -> None:
    code = (
        "```python\nfrom concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(2) as pool:\n"
        "    leaves = pool.submit(llm_query_batched, ['p'] * 20, on_error='return')\n"
        "    try: below = rlm_query('deeper?', context)\n    except BudgetError: below = 0\n"
        "    good = sum(one == 'leaf' for one in leaves.result())\nFINAL(below + good)\n```"
    )
    model = Slots([code] * 6, refuses)
    answer = await Rlm(model, limits=Limits(depth=5, tokens=None), route="loop").ask(
        "How many?", "some input"
    )

    assert model.most <= 4
    assert answer.value == 120 if not refuses else 24 <= answer.value <= 120


@pytest.mark.row("H15")
@pytest.mark.parametrize(
    "cell",
    [
        "import time\nstarted()\ntime.sleep(60)",
        "started()\nllm_query('slow')",
        "started()\nllm_query_batched(['slow'] * 50)",
        "started()\nrlm_query('child?', context)",
        "started()\nrlm_query_batched(['child?'] * 4, context)",
        "started()\nwhile True: pass",
    ],
    ids=["H15-sleeps", "H15-call", "H15-batch", "H15-child", "H15-children", "H15-loops"],
)
async def test_a_cancelled_run_leaves_no_call_cell_or_child(cell: str) -> None:
    """Within 0.1 s where the machine is free; held to that much beyond what a bare time-out of the same loop takes."""
    body = cell.replace("started()", "print('now', flush=True)")
    child = "```python\nprint('now', flush=True)\nllm_query('slow')\n```"
    model = ScriptedModel(
        [f"```python\n{body}\n```", *[child] * 4], sub_reply="late", latency=30, sleep=_turns_are_quick
    )
    begun, ended = asyncio.Event(), []

    def heard(event: Event) -> None:
        if event.type in ("cell.output", "call.started"):
            begun.set()
        if event.type == "call.finished":
            ended.append(event)

    async with Rlm(model, limits=Limits(seconds=None), route="loop") as rlm:
        await rlm.wait_ready()
        asking = asyncio.create_task(rlm.ask("What?", "some input", sinks=(heard,)))
        await begun.wait()
        started = time.perf_counter()
        asking.cancel()
        await asyncio.wait({asking}, timeout=30)
        took = time.perf_counter() - started
        assert asking.cancelled()
        assert took < 3, f"{took:.3f} s"
        assert len(asyncio.all_tasks()) <= 4 + 4, asyncio.all_tasks()


async def _turns_are_quick(seconds: float) -> None:
    turn = asyncio.current_task()
    await asyncio.sleep(seconds if turn is not None and "Broker" in repr(turn.get_coro()) else 0)


@pytest.mark.row("H17")
@pytest.mark.parametrize("failing", [0, 7, 19], ids=lambda failing: f"H17-{failing}")
async def test_one_item_of_a_batch_fails_in_its_place(ask: Any, failing: int) -> None:
    code = (
        "```python\nr = llm_query_batched([str(n) for n in range(20)], on_error='return')\n"
        "FINAL([x if isinstance(x, str) else x.type for x in r])\n```"
    )

    def reply(request: ModelRequest) -> Any:
        text = request.messages[-1].content
        return ModelUnreachable("gone") if text == str(failing) else text

    asked = await ask([code], sub_reply=reply)
    assert asked.answer.value == ["ModelUnreachable" if n == failing else str(n) for n in range(20)]
