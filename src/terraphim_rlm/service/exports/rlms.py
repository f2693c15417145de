"""The log of the Python library `rlms`, as its logger writes it and its visualiser reads it: a line of metadata, a line a turn.

Their log is of one node; a child's whole log stands with the sub-call that asked for it, as theirs does. The prompts of
sub-calls are not in our journal; what stands in their place says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from terraphim_rlm.core.values import Usage
from terraphim_rlm.service.exports.replies import Message, heard, stretches
from terraphim_rlm.service.exports.story import Call, Cell, Data, Node, Story, Turn, count, text
from terraphim_rlm.service.exports.upstream import stamp

_UNKNOWN = "(the prompt is not in the journal)"


def as_log(story: Story) -> Iterator[Mapping[str, Any]]:
    """The objects of the lines."""
    started = stamp(story.summary.started).removesuffix("Z")
    yield {"type": "metadata", "timestamp": started, **_metadata(story, story.summary.model)}
    for root in story.roots:
        yield from _iterations(story, root)


def _metadata(story: Story, model: str) -> dict[str, Any]:
    given = story.started.get("limits")
    limits: Data = given if isinstance(given, Mapping) else {}
    sub_model = text(story.started, "sub_model")
    return {
        "root_model": model,
        "max_depth": count(limits, "depth"),
        "max_iterations": count(limits, "turns"),
        "backend": model.partition("/")[0],
        "backend_kwargs": {"model_name": model},
        "environment_type": "terraphim-rlm",
        "environment_kwargs": {},
        "other_backends": [sub_model] if sub_model and sub_model != model else None,
    }


def _iterations(story: Story, node: Node) -> Iterator[dict[str, Any]]:
    children = list(node.children)
    for stretch in stretches(node):
        said: list[Message] = []
        waiting = iter(stretch.messages)
        for turn in stretch.turns:
            for message in waiting:
                if message["role"] == "assistant":
                    break
                said.append(message)
            if turn.reply is not None:
                yield _iteration(story, node, turn, list(said), children)
                said.append({"role": "assistant", "content": heard(turn)})


def _iteration(
    story: Story, node: Node, turn: Turn, prompt: list[Message], children: list[Node]
) -> dict[str, Any]:
    last = turn is node.turns[-1]
    end = max([turn.answered or turn.asked, *(cell.finished or cell.started for cell in turn.cells)])
    return {
        "type": "iteration",
        "iteration": node.turns.index(turn) + 1,
        "timestamp": stamp(turn.answered or turn.asked).removesuffix("Z"),
        "prompt": prompt,
        "response": turn.reply,
        "code_blocks": [_block(story, cell, children) for cell in turn.cells],
        "final_answer": (text(story.answer, "text") or None) if last and node.parent is None else None,
        "iteration_time": round(end - turn.asked, 6),
    }


def _block(story: Story, cell: Cell, children: list[Node]) -> dict[str, Any]:
    error = cell.result.get("error")
    raised = text(error, "traceback") or text(error, "message") if isinstance(error, Mapping) else ""
    return {
        "code": cell.code,
        "result": {
            "stdout": cell.output("stdout"),
            "stderr": cell.output("stderr") + raised,
            "locals": {},
            "execution_time": round((cell.finished or cell.started) - cell.started, 6),
            "rlm_calls": [each for call in cell.calls for each in _calls(story, call, children)],
            "final_answer": None,
        },
    }


def _calls(story: Story, call: Call, children: list[Node]) -> Iterator[dict[str, Any]]:
    """One for each prompt; what a batch cost stands with its first, so that sums come out right."""
    values = call.value if call.op.endswith("_batched") and isinstance(call.value, list) else [call.value]
    model = text(story.started, "sub_model") or story.summary.model
    for at, value in enumerate(values):
        child = _child(call, children) if call.op.startswith("rlm_query") else None
        told = {} if child is None else {"metadata": _trajectory(story, child, model)}
        said, error = _came(call, value)
        used = call.usage if at == 0 else Usage()
        if child is not None:
            used = sum((each.usage for each in child.walk()), Usage())
        yield {
            "root_model": model,
            "prompt": child.question if child is not None else _UNKNOWN,
            "response": said,
            "usage_summary": _usage(model, used),
            "prompt_tokens": used.tokens_in,
            "completion_tokens": used.tokens_out,
            "execution_time": call.seconds or round((call.finished or call.started) - call.started, 6),
            **told,
            **({"error": error} if error else {}),
        }


def _child(call: Call, children: list[Node]) -> Node | None:
    """The next node that began while the call was under way; siblings begin in the order of their questions."""
    for child in children:
        if call.started <= child.started <= (call.finished or child.started):
            children.remove(child)
            return child
    return None


def _trajectory(story: Story, child: Node, model: str) -> dict[str, Any]:
    return {"run_metadata": _metadata(story, model), "iterations": list(_iterations(story, child))}


def _came(call: Call, value: Any) -> tuple[str, str]:
    """What a prompt's answer was, or why there is none."""
    failure: Any = call.error or None
    if isinstance(value, Mapping) and call.op.endswith("_batched"):
        value, failure = (value["value"], None) if "value" in value else (None, value)
    if call.ok is None:
        return "", "it did not end"
    if failure:
        return "", text(failure, "message") or "it failed"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), ""


def _usage(model: str, used: Usage) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "total_calls": used.calls,
        "total_input_tokens": used.tokens_in,
        "total_output_tokens": used.tokens_out,
    }
    cost = {"total_cost": used.microdollars / 1e6} if used.microdollars else {}
    return {"model_usage_summaries": {model: {**summary, **cost}}, **cost}
