"""What cases of an engine share: scripts in a few words, answers compared whatever form an engine gives them in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from terraphim_rlm.testing.conformance.checks import holds, same
from terraphim_rlm.testing.conformance.model import Case

ROOT, CHILD = "ROOT-7f", "CHILD-7f"
Engine = Any
"""Something with `async ask(script) -> told`, see `terraphim_rlm.testing.engines.play`, and `capabilities`."""
LOOK = {"code": "print(len(context))"}
CASES: list[Case] = []


def case(
    group: str, source: str, *needs: str, seconds: float = 60.0
) -> Callable[[Callable[[Engine], Awaitable[None]]], Callable[[Engine], Awaitable[None]]]:
    """Enters a case into the suite.

    Args:
        source: the issue or measurement that it comes from.
        needs: what an engine must offer: `offers:children`, `offers:calls`, `offers:fences`.
    """

    def enter(run: Callable[[Engine], Awaitable[None]]) -> Callable[[Engine], Awaitable[None]]:
        name = getattr(run, "__name__", "").replace("_", " ").strip()
        CASES.append(Case(name, group, run, needs, seconds=seconds, source=source))
        return run

    return enter


def script(*steps: Any, context: Any = "some input", child: list[Any] | None = None, **more: Any) -> Any:
    """A script of these steps: a str is a cell, a pair a cell and its answer, a dict a step as it is."""
    given = {"text": context} if isinstance(context, str) else {"json": context}
    turns = [[ROOT, list(map(_step, steps))]]
    if child is not None:
        turns.append([CHILD, list(map(_step, child))])
    made = {"question": f"{ROOT} what is asked", "context": given, "turns": turns}
    return {**made, **more}


def _step(step: Any) -> dict[str, Any]:
    if isinstance(step, tuple):
        return {"code": step[0], "final": step[1]}
    return {"code": step} if isinstance(step, str) else dict(step)


async def told(engine: Engine, *steps: Any, **more: Any) -> dict[str, Any]:
    """What came of a script."""
    result: dict[str, Any] = await engine.ask(script(*steps, **more))
    return result


async def gives(engine: Engine, wanted: Any, *steps: Any, **more: Any) -> dict[str, Any]:
    """Fails unless a script gives this answer, as a value or as its text."""
    result = await told(engine, *steps, **more)
    holds(result["error"] is None, f"the run ended by {result['error']}")
    if str(result["answer"]).strip() != str(wanted):
        same(result["answer"], wanted, "the answer")
    return result


def requests(result: dict[str, Any], who: str = ROOT) -> list[list[list[str]]]:
    """The messages of each request of one node, in order."""
    return [each["messages"] for each in result["requests"] if each["who"] == who]


def shown(result: dict[str, Any], turn: int, who: str = ROOT) -> str:
    """What the model was sent anew before its reply number `turn`, from 1."""
    sent = requests(result, who)
    holds(len(sent) >= turn, f"the model was asked {len(sent)} times, not {turn}")
    return news(sent[turn - 1])


def news(messages: list[list[str]]) -> str:
    """What a request holds behind the last reply of its model."""
    new: list[str] = []
    for role, content in reversed(messages):
        if role == "assistant":
            break
        new.insert(0, content)
    return "\n".join(new)


def all_text(result: dict[str, Any], turn: int) -> str:
    """All that the model was sent before its reply number `turn`."""
    sent = requests(result)
    holds(len(sent) >= turn, f"the model was asked {len(sent)} times, not {turn}")
    return "\n".join(content for _, content in sent[turn - 1])
