"""OpenTelemetry: the run as spans in OTLP's JSON, by the names of the GenAI semantic conventions (1.41).

A node is `invoke_agent`, a reply and a sub-call are `chat`, a cell is `execute_tool`. The run's id is the trace's id, since both
are 128 bits. What has no end in the journal ends with the last that is known of the run, as an error.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from terraphim_rlm import __version__
from terraphim_rlm.core.values import Usage
from terraphim_rlm.service.exports.replies import heard
from terraphim_rlm.service.exports.story import Call, Cell, Node, Story, Turn, text

SCHEMA_URL = "https://opentelemetry.io/schemas/1.41.0"
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_INTERNAL, _CLIENT = 1, 3
_ERROR = 2

Span = dict[str, Any]


def as_spans(story: Story) -> Mapping[str, Any]:
    """The one object that an OTLP receiver, or a collector's file receiver, takes."""
    resource = {"service.name": "terraphim-rlm", "service.version": __version__}
    scope = {"name": "terraphim_rlm", "version": __version__}
    spans = [span for root in story.roots for span in _Tracer(story).node(root, None)]
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": _attributes(resource)},
                "schemaUrl": SCHEMA_URL,
                "scopeSpans": [{"scope": scope, "schemaUrl": SCHEMA_URL, "spans": spans}],
            }
        ]
    }


class _Tracer:
    def __init__(self, story: Story) -> None:
        self._story = story
        self._trace = trace_id(story.summary.id)
        self._model = story.summary.model
        self._sub_model = text(story.started, "sub_model") or self._model

    def node(self, node: Node, above: str | None) -> Iterator[Span]:
        own = span_id(node.id)
        model = self._model if node.parent is None else self._sub_model
        used = sum((each.usage for each in node.walk()), Usage())
        attributes = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.provider.name": _provider(model),
            "gen_ai.agent.name": "terraphim-rlm",
            "gen_ai.agent.id": node.id,
            "gen_ai.conversation.id": self._story.summary.id,
            "gen_ai.request.model": model,
            **_usage(used),
            "terraphim_rlm.depth": node.depth,
            "terraphim_rlm.question": node.question,
            "terraphim_rlm.termination": node.termination,
        }
        wrong = "" if node.termination in ("final", "final_var", "not_found") else node.termination
        yield self._span(
            "invoke_agent terraphim-rlm", own, above, _INTERNAL, (node.started, node.finished), attributes, wrong
        )  # fmt: skip
        placed: set[int] = set()
        for turn in node.turns:
            yield self._turn(turn, node, own, model)
        for cell in node.cells:
            yield from self._cell(cell, node, own, placed)
        for call in node.calls:
            yield from self._call(call, own)
        for child in node.children:
            if id(child) not in placed:
                yield from self.node(child, own)

    def _turn(self, turn: Turn, node: Node, above: str, model: str) -> Span:
        told = text(turn.request, "told")
        attributes = {
            **self._chat(model, turn.usage),
            "gen_ai.response.finish_reasons": [turn.finish_reason] if turn.finish_reason else [],
            "gen_ai.system_instructions": _said_system(text(turn.request, "system")),
            "gen_ai.input.messages": _said("user", told) if told else "",
            "gen_ai.output.messages": _said("assistant", heard(turn), turn.finish_reason or "stop")
            if turn.reply
            else "",
            "terraphim_rlm.turn": turn.number,
        }
        own = span_id(f"{node.id} turn {turn.number} {turn.asked}")
        return self._span(f"chat {model}", own, above, _CLIENT, (turn.asked, turn.answered), attributes)

    def _cell(self, cell: Cell, node: Node, above: str, placed: set[int]) -> Iterator[Span]:
        own = span_id(f"{node.id} cell {cell.id} {cell.started}")
        output = {name: cell.output(name) for name in ("stdout", "stderr")}
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": cell.language,
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": cell.id,
            "gen_ai.tool.call.arguments": json.dumps({"code": cell.code}, ensure_ascii=False),
            "gen_ai.tool.call.result": json.dumps({"status": cell.status, **output}, ensure_ascii=False),
        }
        wrong = "" if cell.status == "ok" else cell.status
        yield self._span(
            f"execute_tool {cell.language}", own, above, _INTERNAL, (cell.started, cell.finished), attributes, wrong
        )  # fmt: skip
        for call in cell.calls:
            yield from self._call(call, own)
        for child in node.children:
            if id(child) not in placed and cell.started <= child.started <= (cell.finished or child.started):
                placed.add(id(child))
                yield from self.node(child, own)

    def _call(self, call: Call, above: str) -> Iterator[Span]:
        """A sub-call that asked a model; one that asked a child is the child's own span."""
        if call.op.startswith("rlm_query"):
            return
        attributes = {
            **self._chat(self._sub_model, call.usage),
            "terraphim_rlm.op": call.op,
            "terraphim_rlm.prompts": call.count,
        }
        end = call.finished
        if call.seconds is not None and end is not None:
            end = max(end, call.started + call.seconds)
        wrong = "" if call.ok is not False else text(call.error, "type") or "failed"
        own = span_id(f"{call.id} {call.started}")
        yield self._span(
            f"chat {self._sub_model}", own, above, _CLIENT, (call.started, end), attributes, wrong
        )

    def _chat(self, model: str, used: Usage) -> dict[str, Any]:
        return {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": _provider(model),
            "gen_ai.request.model": model,
            **_usage(used),
        }

    def _span(
        self, name: str, own: str, above: str | None, kind: int, times: tuple[float, float | None], attributes: dict[str, Any], wrong: str = ""
    ) -> Span:  # fmt: skip
        start, end = times
        cut = end is None
        wrong = wrong or ("unfinished" if cut else "")
        if wrong:
            attributes = {**attributes, "error.type": wrong}
        return {
            "traceId": self._trace,
            "spanId": own,
            **({"parentSpanId": above} if above else {}),
            "name": name,
            "kind": kind,
            "startTimeUnixNano": _nanoseconds(start),
            "endTimeUnixNano": _nanoseconds(max(self._story.end if end is None else end, start)),
            "attributes": _attributes(attributes),
            "status": {"code": _ERROR, "message": wrong} if wrong else {},
        }


def trace_id(run: str) -> str:
    """32 hexadecimal digits: the number that the run's id spells, or a digest where it spells none."""
    letters = run.partition("-")[2]
    if len(letters) == 26 and all(letter in _ALPHABET for letter in letters):
        value = 0
        for letter in letters:
            value = value << 5 | _ALPHABET.index(letter)
        if 0 < value < 1 << 128:
            return f"{value:032x}"
    return hashlib.blake2b(run.encode("utf-8", "replace"), digest_size=16).hexdigest()


def span_id(name: str) -> str:
    """16 hexadecimal digits that name a thing of a run."""
    return hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=8).hexdigest()


def _provider(model: str) -> str:
    return model.partition("/")[0].partition(":")[0] or "unknown"


def _usage(used: Usage) -> dict[str, Any]:
    return {
        "gen_ai.usage.input_tokens": used.tokens_in,
        "gen_ai.usage.output_tokens": used.tokens_out,
        "gen_ai.usage.cache_read.input_tokens": used.tokens_cached,
        "gen_ai.usage.reasoning.output_tokens": used.tokens_reasoning,
        "terraphim_rlm.usage.calls": used.calls,
        "terraphim_rlm.usage.microdollars": used.microdollars,
    }


def _said(role: str, content: str, finish: str = "") -> str:
    message: dict[str, Any] = {"role": role, "parts": [{"type": "text", "content": content}]}
    return json.dumps([{**message, "finish_reason": finish} if finish else message], ensure_ascii=False)


def _said_system(content: str) -> str:
    return json.dumps([{"type": "text", "content": content}], ensure_ascii=False) if content else ""


def _nanoseconds(seconds: float) -> str:
    return str(int(max(seconds, 0) * 1_000_000) * 1000)


def _attributes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """OTLP's form; what is empty is left out."""
    return [
        {"key": key, "value": _value(value)} for key, value in values.items() if value not in ("", None, [])
    ]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(each) for each in value]}}
    return {"stringValue": str(value).encode("utf-8", "replace").decode()}  # protobuf takes no lone surrogate
