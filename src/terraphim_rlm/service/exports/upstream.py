"""The trajectory log of the Rust crate `terraphim_rlm`: its eleven types of events, as its reader takes them.

Identifiers are the same, without our prefix: ours are 26 characters of a sortable id, as theirs. Their log knows no money, no
sub-calls from code and no languages but Python and bash; code in another language is a `Code` with a field that their reader
skips.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from terraphim_rlm.service.exports.replies import Asked, commands_of
from terraphim_rlm.service.exports.story import Cell, Data, Node, RawEvent, Story, count, number, text, usage

_UNLIMITED = 2**64 - 1
_REASONS = {
    "final": "final_reached", "final_var": "final_var_reached", "not_found": "final_reached",
    "token_budget": "token_budget_exhausted", "time_budget": "time_budget_exhausted", "cost_budget": "cost_budget_exhausted",
    "max_turns": "max_iterations_reached", "max_depth": "recursion_depth_exhausted", "cancelled": "cancelled",
}  # fmt: skip
Line = dict[str, Any]


def as_trajectory(story: Story) -> Iterator[Mapping[str, Any]]:
    """The objects of the lines. A run that was cut off just ends."""
    log = _Log(story)
    for event in story.events:
        data = event.get("data")
        write = _WRITERS.get(str(event.get("type")))
        if write is not None and isinstance(data, Mapping):
            yield from write(log, event, data)


def stamp(seconds: float) -> str:
    """RFC 3339, in UTC."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    except (OverflowError, OSError, ValueError):
        return "1970-01-01T00:00:00Z"


def plain(id: str) -> str:
    """An id without its kind."""
    return id.partition("-")[2] or id


class _Log:
    """A run being told."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.nodes = {node.id: node for node in story.nodes()}
        self.queries = 0

    def line(self, kind: str, event: RawEvent, *, query: bool = True, **fields: Any) -> Line:
        head: Line = {
            "event_type": kind,
            "timestamp": stamp(number(event, "time")),
            "session_id": plain(self.story.summary.id),
        }
        return {**head, **({"query_id": plain(event["node"])} if query else {}), **fields}

    def node(self, event: RawEvent) -> Node:
        return self.nodes[event["node"]]

    def turn(self, event: RawEvent, data: Data) -> Any:
        wanted = count(data, "turn")
        return next((turn for turn in reversed(self.node(event).turns) if turn.number == wanted), None)

    def session_start(self, event: RawEvent, data: Data) -> Iterator[Line]:
        given = data.get("limits")
        limits: Data = given if isinstance(given, Mapping) else {}
        yield self.line(
            "session_start",
            event,
            query=False,
            budget={
                "token_budget": count(limits, "tokens") or _UNLIMITED,
                "tokens_used": 0,
                "time_budget_ms": int(number(limits, "seconds") * 1000) or _UNLIMITED,
                "time_used_ms": 0,
                "max_recursion_depth": count(limits, "depth"),
                "current_recursion_depth": 0,
            },
        )

    def query_start(self, event: RawEvent, data: Data) -> Iterator[Line]:
        self.queries += 1
        parent = event.get("parent")
        yield self.line(
            "query_start",
            event,
            initial_prompt=text(data, "question"),
            parent_query_id=None if parent is None else plain(parent),
            depth=count(data, "depth"),
        )

    def llm_call(self, event: RawEvent, data: Data) -> Iterator[Line]:
        told = text(data, "told")
        yield self.line(
            "llm_call",
            event,
            iteration=count(data, "turn"),
            prompt=told,
            prompt_length=len(told.encode("utf-8", "replace")),
        )

    def llm_response(self, event: RawEvent, data: Data) -> Iterator[Line]:
        said, turn = text(data, "text"), self.turn(event, data)
        yield self.line(
            "llm_response",
            event,
            iteration=count(data, "turn"),
            response=said,
            response_length=len(said.encode("utf-8", "replace")),
            tokens_used=usage(data).tokens,
            latency_ms=_milliseconds(turn.asked, number(event, "time")) if turn else 0,
        )

    def commands(self, event: RawEvent, data: Data) -> Iterator[Line]:
        turn, iteration = self.turn(event, data), count(data, "turn")
        found = commands_of(turn) if turn else []
        for asked in found:
            command, kind = _command(asked)
            yield self.line("command_parsed", event, iteration=iteration, command=command, command_type=kind)
        if not found:
            why = text(data, "notice") or "The reply held no command."
            yield self.line(
                "command_parse_failed",
                event,
                iteration=iteration,
                raw_response=(turn.reply or "") if turn else "",
                error=why,
            )

    def executed(self, event: RawEvent, data: Data) -> Iterator[Line]:
        node = self.node(event)
        cell = node.cells_by_id.get(text(data, "execution_id"))
        if cell is None:
            return
        iteration = next((turn.number for turn in node.turns if cell in turn.cells), 0)
        code = data.get("exit_code")
        yield self.line(
            "command_executed",
            event,
            iteration=iteration,
            command=_of_cell(cell),
            success=cell.status == "ok",
            stdout=text(data, "stdout"),
            stderr=text(data, "stderr") or _raised(data),
            exit_code=code if isinstance(code, int) else None,
            execution_time_ms=_milliseconds(cell.started, number(event, "time")),
        )

    def state(self, event: RawEvent, data: Data) -> Iterator[Line]:
        """A snapshot that was kept, or gone back to."""
        kind = "Snapshot" if event["type"] == "snapshot.created" else "Rollback"
        turns = self.node(event).turns
        yield self.line(
            "command_executed", event, iteration=turns[-1].number if turns else 0, command={kind: text(data, "name")},
            success=True, stdout="", stderr="", exit_code=0, execution_time_ms=0,
        )  # fmt: skip

    def query_complete(self, event: RawEvent, data: Data) -> Iterator[Line]:
        node, termination = self.node(event), text(data, "termination")
        result = text(self.story.answer, "text") if node.parent is None else _final(node)
        yield self.line(
            "query_complete",
            event,
            total_iterations=len(node.turns),
            result=result or None,
            success=termination in ("final", "final_var", "not_found"),
            termination_reason=_REASONS.get(termination, "error"),
            duration_ms=_milliseconds(node.started, number(event, "time")),
            total_tokens=sum(each.usage.tokens for each in node.walk()),
        )

    def warning(self, event: RawEvent, data: Data) -> Iterator[Line]:
        used, of = number(data, "used"), number(data, "of")
        yield self.line(
            "budget_warning", event, warning_type=text(data, "limit"), current=int(used), maximum=int(of),
            percentage=100 * used / of if of else 100.0,
        )  # fmt: skip

    def error(self, event: RawEvent, data: Data) -> Iterator[Line]:
        yield self.line("error", event, error=text(data, "message"), category=text(data, "code"))

    def session_end(self, event: RawEvent, data: Data) -> Iterator[Line]:
        yield self.line(
            "session_end",
            event,
            query=False,
            total_queries=self.queries,
            total_tokens=usage(data).tokens,
            duration_ms=_milliseconds(self.story.summary.started, number(event, "time")),
        )


_WRITERS: dict[str, Callable[[_Log, RawEvent, Data], Iterator[Line]]] = {
    "run.started": _Log.session_start,
    "node.started": _Log.query_start,
    "turn.request": _Log.llm_call,
    "turn.reply": _Log.llm_response,
    "turn.parsed": _Log.commands,
    "cell.finished": _Log.executed,
    "snapshot.created": _Log.state,
    "snapshot.rolled_back": _Log.state,
    "node.finished": _Log.query_complete,
    "budget.warning": _Log.warning,
    "error": _Log.error,
    "run.finished": _Log.session_end,
}


def _command(asked: Asked) -> tuple[dict[str, Any], str]:
    """A command as their reader takes it, and its name."""
    if asked.kind == "shell":
        return {"Run": {"command": asked.body, "timeout_ms": None, "working_dir": None}}, "run"
    if asked.kind == "query":
        return {"QueryLlm": _query(asked.body)}, "query_llm"
    if asked.kind == "query_batched":
        return {"QueryLlmBatched": [_query(prompt) for prompt in asked.prompts]}, "query_llm_batched"
    named = {"final": "Final", "final_var": "FinalVar", "snapshot": "Snapshot", "rollback": "Rollback"}
    if asked.kind in named:
        return {named[asked.kind]: asked.body}, asked.kind
    return {"Code": {"code": asked.body, "timeout_ms": None, "language": asked.language}}, "code"


def _query(prompt: str) -> dict[str, Any]:
    return {"prompt": prompt, "model": None, "temperature": None, "max_tokens": None}


def _of_cell(cell: Cell) -> dict[str, Any]:
    return _command(Asked("shell" if cell.language == "bash" else "code", cell.code, language=cell.language))[
        0
    ]


def _raised(data: Data) -> str:
    error = data.get("error")
    return text(error, "traceback") or text(error, "message") if isinstance(error, Mapping) else ""


def _final(node: Node) -> str:
    """The answer that a child wrote out; one that its code gave stands only with who asked."""
    for turn in reversed(node.turns):
        for asked in reversed(commands_of(turn)):
            if asked.kind == "final":
                return asked.body
    return ""


def _milliseconds(start: float, end: float) -> int:
    return max(int((end - start) * 1000), 0)
