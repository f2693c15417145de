"""Sub-calls from cells: order, errors, budget, children."""

from __future__ import annotations

from typing import Any

import pytest

from terraphim_rlm import Limits
from terraphim_rlm.core.errors import ModelUnreachable
from terraphim_rlm.llm.client import ModelRequest
from terraphim_rlm.testing import ScriptedModel

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]


def last(request: ModelRequest) -> str:
    return request.messages[-1].content


async def test_a_batch_answers_in_the_order_of_its_prompts(ask: Any) -> None:
    code = "```python\nFINAL(llm_query_batched([str(n) for n in range(200)]))\n```"
    asked = await ask([code], sub_reply=lambda request: f"<{last(request)}>")

    assert [f"<{n}>" for n in range(200)] == asked.answer.value
    assert asked.answer.usage.calls == 201


async def test_a_failed_call_raises_in_the_cell_and_its_text_is_no_answer(ask: Any) -> None:
    code = (
        "```python\ntry: llm_query('x')\n"
        "except ModelCallError as e: FINAL([type(e).__name__, e.type, 'no route' in str(e)])\n```"
    )
    asked = await ask([code], sub_replies=[ModelUnreachable("no route")])

    assert asked.answer.value == ["ModelCallError", "ModelUnreachable", True]


async def test_a_batch_may_return_its_failures_in_their_places(ask: Any) -> None:
    code = (
        "```python\nr = llm_query_batched(['a', 'b', 'c'], on_error='return')\n"
        "FINAL([x if isinstance(x, str) else x.type for x in r])\n```"
    )
    asked = await ask([code], sub_replies=["1", ModelUnreachable("gone"), "3"])

    assert asked.answer.value == ["1", "ModelUnreachable", "3"]


async def test_parallel_calls_never_overspend_and_the_rest_is_refused(ask: Any) -> None:
    code = (
        "```python\nr = llm_query_batched(['p'] * 500, max_tokens=50, on_error='return')\n"
        "FINAL([sum(isinstance(x, str) for x in r), len(r)])\n```"
    )
    asked = await ask([code], sub_reply="y" * 200, limits=Limits(tokens=6_000))
    good, of = asked.answer.value

    assert of == 500
    assert 0 < good < 500
    assert asked.answer.usage.tokens <= 6_000


async def test_the_limit_of_calls_holds_exactly(ask: Any) -> None:
    code = (
        "```python\nr = llm_query_batched(['p'] * 50, on_error='return')\n"
        "FINAL(sum(isinstance(x, str) for x in r))\n```"
    )
    asked = await ask([code], sub_reply="y", limits=Limits(calls=11))

    assert (asked.answer.value, asked.answer.usage.calls) == (10, 11)


@pytest.mark.parametrize(
    "call",
    [
        "llm_query('x', model='attacker/model')",
        "llm_query('')",
        "llm_query_batched([''])",
        "llm_query('x', max_tokens=-1)",
        "rlm_query('')",
        "llm_query('z' * 3_000_000)",
    ],
)
async def test_wishes_that_may_not_be_are_refused_by_name(ask: Any, call: str) -> None:
    code = (
        f"```python\ntry:\n    {call}\n    FINAL('answered')\nexcept ModelCallError as e: FINAL(e.type)\n```"
    )
    asked = await ask([code], sub_reply="y")

    assert asked.answer.value in ("InvalidArgument", "PromptTooLong")
    assert asked.answer.usage.calls == 1


async def test_calls_from_many_threads_each_get_their_own_answer(ask: Any) -> None:
    code = (
        "```python\nfrom concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(20) as pool: r = list(pool.map(lambda n: llm_query(str(n)), range(100)))\n"
        "FINAL(r)\n```"
    )
    asked = await ask([code], sub_reply=lambda request: last(request) * 2)

    assert [str(n) * 2 for n in range(100)] == asked.answer.value


async def test_a_child_has_its_own_variables_and_the_same_budget(ask: Any) -> None:
    root = "```python\nx = 'root'\nFINAL([rlm_query('child?', 'child input'), x])\n```"
    child = "```python\nassert 'x' not in globals()\nx = 'child'\nFINAL(str(context))\n```"
    asked = await ask([root, child])

    assert asked.answer.value == ["child input", "root"]
    assert asked.answer.usage.calls == 2
    assert sorted(node["depth"] for node in asked.of("node.started")) == [0, 1]


async def test_the_depth_limit_raises_in_the_cell(ask: Any) -> None:
    code = "```python\ntry: rlm_query('deeper?')\nexcept BudgetError as e: FINAL(e.type)\n```"
    asked = await ask([code], limits=Limits(depth=0))

    assert asked.answer.value == "DepthLimitExceeded"


async def test_children_side_by_side_do_not_mix_their_output(ask: Any) -> None:
    root = (
        "```python\nfrom concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(6) as pool: r = list(pool.map(lambda n: rlm_query('who?', f'child {n}'), range(6)))\n"
        "FINAL(r)\n```"
    )
    asked = await ask([root, *["```python\nprint(str(context) * 50)\nFINAL(str(context))\n```"] * 6])
    printed = {cell["stdout"] for cell in asked.of("cell.finished") if cell["stdout"]}

    assert [f"child {n}" for n in range(6)] == asked.answer.value
    assert {f"child {n}" * 50 + "\n" for n in range(6)} == printed


async def test_waiting_for_a_model_does_not_count_as_the_cells_time(ask: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("terraphim_rlm.engine.hands.CELL_SECONDS", 0.3)
    slow = ScriptedModel([], sub_reply="late", latency=0.6)
    asked = await ask(["```python\nFINAL(llm_query('x'))\n```"], sub_model=slow)

    assert asked.answer.value == "late"
