"""Children in sandboxes of their own: what they do not see, what they share, and that nothing of them is left."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rows import named
from terraphim_rlm import Limits, Resources, Rlm, Sandbox
from terraphim_rlm.core.errors import SandboxStartFailed
from terraphim_rlm.engine.boxes import MOST_ISOLATED
from terraphim_rlm.engine.guards import Checks
from terraphim_rlm.sandbox.pool.pool import Pool
from terraphim_rlm.testing import ScriptedModel

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]
UNASKED = Checks(look_first=False, literal=False, unread=False)


def cell(code: str) -> str:
    return f"```python\n{code}\n```"


class Seen:
    """The sandboxes that were started, and how many of them were open at once."""

    def __init__(self) -> None:
        self.boxes: list[Sandbox] = []
        self.most = 0

    @property
    def open(self) -> int:
        return sum(box.is_open for box in self.boxes)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    found, plain = Seen(), Sandbox.start

    async def counted(self: Sandbox) -> None:
        await plain(self)
        found.boxes.append(self)
        found.most = max(found.most, found.open)

    monkeypatch.setattr(Sandbox, "start", counted)
    return found


LEFT = (
    "import os, subprocess\nopen('/work/mine', 'w').write('x')\nopen('/tmp/mine', 'w').write('x')\n"
    "p = subprocess.Popen(['sleep', '60'])\nr = rlm_query('What is there?', context, isolate={isolate})\np.kill()\nFINAL(r)"
)
LOOKS = (
    "import glob, os\nsleeping = [p for p in glob.glob('/proc/[0-9]*/cmdline') if b'sleep' in open(p, 'rb').read()]\n"
    "FINAL([os.path.exists('/work/mine'), os.path.exists('/tmp/mine'), len(sleeping), str(context)])"
)


@pytest.mark.parametrize(("isolate", "files"), [(True, False), (False, True)], ids=["isolated", "beside"])
async def test_an_isolated_child_sees_the_input_and_nothing_else_of_its_parent(
    ask: Any, seen: Seen, isolate: bool, files: bool
) -> None:
    asked = await ask([cell(LEFT.format(isolate=isolate)), cell(LOOKS)], "its input \udcff")

    assert asked.answer.value == [files, files, int(files), "its input \udcff"]
    assert (len(seen.boxes), seen.open) == (1 + isolate, 0)
    assert [node.get("isolated", False) for node in asked.of("node.started")] == [False, isolate]


async def test_a_grandchild_lives_in_the_sandbox_of_its_parent(ask: Any, seen: Seen) -> None:
    asked = await ask(
        [
            cell("open('/work/root', 'w').close()\nFINAL(rlm_query('child?', 'x', isolate=True))"),
            cell("open('/work/child', 'w').close()\nFINAL(rlm_query('grandchild?', 'y'))"),
            cell(
                "import os\nFINAL([os.path.exists('/work/root'), os.path.exists('/work/child'), os.getcwd()])"
            ),
        ]
    )

    assert asked.answer.value[:2] == [False, True]
    assert "/.nodes/" in asked.answer.value[2]
    assert (len(seen.boxes), seen.open) == (2, 0)


async def test_it_has_the_limits_of_any_sandbox_and_its_calls_count_in_the_runs_budget(
    ask: Any, seen: Seen
) -> None:
    child = cell("llm_query_batched(['p'] * 3)\nFINAL('done')")
    asked = await ask(
        [cell("FINAL(rlm_query('child?', 'x', isolate=True))"), child],
        sub_reply="y",
        resources=Resources(memory_mb=700, pids=99),
        limits=Limits(calls=5),
    )

    assert {box.resources for box in seen.boxes} == {Resources(memory_mb=700, pids=99)}
    assert asked.answer.usage.calls == 5


ENDS = {
    "by-its-answer": (cell("FINAL('came')"), Limits(), "came"),
    "by-its-turns": (cell("print(1)"), Limits(turns=1), "TurnLimitExceeded"),
    "by-a-death": (cell("import os\nos._exit(3)"), Limits(turns=1), "TurnLimitExceeded"),
    "by-the-runs-seconds": (cell("while True: pass"), Limits(seconds=1.5), None),
}  # fmt: skip


@pytest.mark.parametrize(("child", "limits", "value"), named(ENDS))
async def test_its_sandbox_ends_with_it_however_that_comes(
    ask: Any, seen: Seen, child: str, limits: Limits, value: str | None
) -> None:
    root = cell(
        "try: r = rlm_query('child?', 'x', isolate=True)\nexcept ModelCallError as e: r = e.type\nFINAL(r)"
    )
    asked = await ask([root, child], limits=limits)

    assert asked.answer.value == value
    assert asked.answer.termination == ("time_budget" if value is None else "final")
    assert len(seen.boxes) == 2 or value is None  # a slow machine may end it before there is one
    assert seen.open == 0


async def test_a_cancelled_run_leaves_no_sandbox_of_a_child(seen: Seen) -> None:
    model = ScriptedModel(
        [cell("rlm_query_batched(['child?'] * 3, 'x', isolate=True)"), *[cell("while True: pass")] * 3]
    )
    working = asyncio.Event()

    def heard(event: Any) -> None:
        if event.type == "cell.started" and "while" in event.data["code"]:
            working.set()

    asking = asyncio.create_task(
        Rlm(model, route="loop", checks=UNASKED, guard="off").ask("?", "input", sinks=(heard,))
    )
    await asyncio.wait_for(working.wait(), 60)
    asking.cancel()
    await asyncio.wait({asking})

    assert asking.cancelled()
    assert len(seen.boxes) >= 2
    assert seen.open == 0


async def test_one_that_cannot_be_started_fails_its_call_and_not_the_run(
    ask: Any, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Pool.take

    async def once(self: Pool) -> Sandbox:
        if seen.boxes:
            raise SandboxStartFailed("There is no room.")
        return await plain(self)

    monkeypatch.setattr(Pool, "take", once)
    code = (
        "r = rlm_query_batched(['a', 'b'], 'x', isolate=True, on_error='return')\nFINAL([e.type for e in r])"
    )
    asked = await ask([cell(code)])

    assert asked.answer.value == ["SandboxStartFailed", "SandboxStartFailed"]


async def test_the_first_one_is_the_spare_of_an_entered_rlm(seen: Seen) -> None:
    model = ScriptedModel([cell("FINAL(rlm_query('child?', 'x', isolate=True))"), cell("FINAL(1)")] * 2)
    async with Rlm(model, route="loop", checks=UNASKED, guard="off") as rlm:
        await rlm.wait_ready()
        taken = rlm._desk.pool.statistics() if rlm._desk else None
        assert (await rlm.ask("?", "input")).value == 1
        now = rlm._desk.pool.statistics() if rlm._desk else None
        assert taken is not None
        assert now is not None
        assert now.handed_out - taken.handed_out == 2


BOMBS = {
    "isolated-deep": "try: FINAL(rlm_query('again', 'x', isolate=True))\nexcept BudgetError as e: FINAL(e.type)",
    "isolated-wide": "FINAL(len(rlm_query_batched(['again'] * 9, 'x', on_error='return', isolate=True)))",
    "isolated-both": "FINAL(len(rlm_query_batched(['again'] * 3, 'x', on_error='return', isolate=True)))",
}


@pytest.mark.row("I-12")
@pytest.mark.parametrize("code", named(BOMBS))
async def test_sandboxes_of_children_are_few_at_once_and_none_is_left(
    ask: Any, seen: Seen, code: str
) -> None:
    asked = await asyncio.wait_for(ask([cell(code)] * 40, limits=Limits(depth=2, calls=20, tokens=None)), 100)

    assert len(seen.boxes) > 2
    assert seen.most <= 1 + 2 * MOST_ISOLATED
    assert seen.open == 0
    assert asked.answer.usage.calls <= 20
