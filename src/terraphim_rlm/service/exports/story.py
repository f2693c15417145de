"""A run retold from its events: nodes, their turns, the cells of a turn, the sub-calls of a cell.

What events carry comes from models and sandboxes, and a run may have ended anywhere: fields of another type count as
absent, and what never ended has no end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from terraphim_rlm.core.values import Usage
from terraphim_rlm.store.reader import RunDetail, RunNode, RunSummary

Data = Mapping[str, Any]
RawEvent = Mapping[str, Any]


@dataclass(slots=True, eq=False)
class Call:
    """A sub-call of a cell."""

    id: str
    op: str
    count: int
    started: float
    finished: float | None = None
    ok: bool | None = None
    """None while it is under way."""
    failed: int = 0
    usage: Usage = field(default_factory=Usage)
    seconds: float | None = None
    """As the host measured it; None for one that was answered at once."""
    value: Any = None
    error: Data = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Cell:
    """Code that ran."""

    id: str
    language: str
    code: str
    started: float
    finished: float | None = None
    result: Data = field(default_factory=dict)
    """The ExecutionResult as JSON; empty when it did not end."""
    said: dict[str, str] = field(default_factory=dict)
    """Of one that did not end: its output so far, by stream."""
    calls: list[Call] = field(default_factory=list)
    verdicts: list[Data] = field(default_factory=list)

    @property
    def status(self) -> str:
        return text(self.result, "status") or "unfinished"

    def output(self, stream: str) -> str:
        return text(self.result, stream) if self.result else self.said.get(stream, "")


@dataclass(slots=True, eq=False)
class Turn:
    """A request to the node's model, its reply, and what was done with it."""

    number: int
    asked: float
    request: Data = field(default_factory=dict)
    answered: float | None = None
    reply: str | None = None
    usage: Usage = field(default_factory=Usage)
    finish_reason: str = ""
    parsed: Data = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Node:
    """A conversation about one question."""

    id: str
    parent: str | None
    started: float
    depth: int = 0
    question: str = ""
    finished: float | None = None
    termination: str = ""
    turns: list[Turn] = field(default_factory=list)
    loose: list[Cell] = field(default_factory=list)
    """Cells of no turn: the host's own, and those of an earlier run done again."""
    calls: list[Call] = field(default_factory=list)
    """Sub-calls while no cell ran."""
    wasted: Usage = field(default_factory=Usage)
    """Of sub-calls that were begun ahead and that no cell asked for."""
    errors: list[Data] = field(default_factory=list)
    warnings: list[Data] = field(default_factory=list)
    children: list[Node] = field(default_factory=list)
    cells_by_id: dict[str, Cell] = field(default_factory=dict, repr=False)
    calls_by_id: dict[str, Call] = field(default_factory=dict, repr=False)

    def walk(self) -> Iterator[Node]:
        yield self
        for child in self.children:
            yield from child.walk()

    @property
    def cells(self) -> list[Cell]:
        return [*self.loose, *(cell for turn in self.turns for cell in turn.cells)]

    @property
    def all_calls(self) -> list[Call]:
        return [*self.calls, *(call for cell in self.cells for call in cell.calls)]

    @property
    def usage(self) -> Usage:
        """Of its own replies and sub-calls, its children apart."""
        replies = sum((turn.usage for turn in self.turns), self.wasted)
        return sum((call.usage for call in self.all_calls), replies)


@dataclass(slots=True)
class Story:
    """A whole run."""

    summary: RunSummary
    started: Data
    """What `run.started` carried."""
    roots: list[Node]
    answer: Data
    """The root's answer as JSON; empty when there is none."""
    finished: Data
    """What `run.finished` carried; empty when nobody wrote it."""
    events: list[RawEvent]
    """All of them, in order."""

    def nodes(self) -> Iterator[Node]:
        for root in self.roots:
            yield from root.walk()

    @property
    def end(self) -> float:
        """When the last thing happened that is known."""
        return max([self.summary.started, *(number(event, "time") for event in self.events)])


def tell(detail: RunDetail) -> Story:
    """Folds a run's events."""
    raw = sorted(_raw(detail.nodes), key=lambda event: event.get("seq", 0))
    nodes: dict[str, Node] = {}
    roots: list[Node] = []
    story = Story(detail.summary, {}, roots, {}, {}, raw)
    for event in raw:
        node = nodes.get(event["node"])
        if node is None:
            node = nodes[event["node"]] = Node(event["node"], event["parent"], number(event, "time"))
            above = nodes.get(event["parent"] or "")
            (roots if above is None else above.children).append(node)
            node.depth = 0 if above is None else above.depth + 1
        data = event.get("data")
        _take(story, node, event, data if isinstance(data, Mapping) else {})
    return story


def _raw(nodes: list[RunNode]) -> Iterator[RawEvent]:
    for node in nodes:
        yield from node.events
        yield from _raw(node.children)


def _take(story: Story, node: Node, event: RawEvent, data: Data) -> None:
    kind, at = str(event.get("type")), number(event, "time")
    if kind in ("run.started", "run.finished", "answer") and event["parent"] is None:
        setattr(story, _RUN[kind], data)
    elif kind == "run.resumed":  # the end that was written before it was none
        story.finished = {}
    elif (step := _STEPS.get(kind)) is not None:
        step(node, at, data)


_RUN = {"run.started": "started", "run.finished": "finished", "answer": "answer"}


def _node_started(node: Node, at: float, data: Data) -> None:
    node.started = at
    node.question = text(data, "question")


def _node_finished(node: Node, at: float, data: Data) -> None:
    node.finished = at
    node.termination = text(data, "termination")


def _turn(node: Node, at: float, data: Data) -> Turn:
    wanted = count(data, "turn")
    for turn in reversed(node.turns):
        if turn.number == wanted:
            return turn
    node.turns.append(Turn(wanted, at))
    return node.turns[-1]


def _turn_request(node: Node, at: float, data: Data) -> None:
    turn = _turn(node, at, data)
    turn.request = data


def _turn_reply(node: Node, at: float, data: Data) -> None:
    turn = _turn(node, at, data)
    turn.answered = at
    turn.reply = text(data, "text")
    turn.usage = usage(data)
    turn.finish_reason = text(data, "finish_reason")


def _turn_parsed(node: Node, at: float, data: Data) -> None:
    _turn(node, at, data).parsed = data


def _cell_started(node: Node, at: float, data: Data) -> None:
    cell = Cell(text(data, "execution_id"), text(data, "language") or "python", text(data, "code"), at)
    wanted = count(data, "turn")
    owner = next((turn for turn in reversed(node.turns) if turn.number == wanted), None)
    (node.loose if owner is None else owner.cells).append(cell)
    node.cells_by_id[cell.id] = cell


def _cell_output(node: Node, at: float, data: Data) -> None:
    if (cell := node.cells_by_id.get(text(data, "execution_id"))) is not None:
        stream = text(data, "stream")
        cell.said[stream] = cell.said.get(stream, "") + text(data, "text")


def _cell_finished(node: Node, at: float, data: Data) -> None:
    if (cell := node.cells_by_id.get(text(data, "execution_id"))) is not None:
        cell.finished, cell.result = at, data


def _running(node: Node) -> Cell | None:
    """The cell whose sub-call or verdict this is: the cells of a node run one after another."""
    last = node.turns[-1].cells if node.turns and node.turns[-1].cells else node.loose
    return last[-1] if last and last[-1].finished is None else None


def _call_started(node: Node, at: float, data: Data) -> None:
    cell = _running(node)
    call = Call(text(data, "call_id"), text(data, "op"), count(data, "count"), at)
    (node.calls if cell is None else cell.calls).append(call)
    node.calls_by_id[call.id] = call


def _call_item(node: Node, at: float, data: Data) -> None:
    """One of several questions is settled; what the call came to replaces what is known of it by then."""
    if (call := node.calls_by_id.get(text(data, "call_id"))) is not None and call.finished is None:
        call.usage += usage(data)


def _call_finished(node: Node, at: float, data: Data) -> None:
    if (call := node.calls_by_id.get(text(data, "call_id"))) is None:
        return
    error = data.get("error")
    call.finished, call.ok = at, data.get("ok") is True
    call.failed, call.usage = count(data, "failed"), usage(data)
    call.seconds = number(data, "seconds") if "seconds" in data else None
    call.value = data.get("value")
    call.error = error if isinstance(error, Mapping) else {}


def _speculated(node: Node, at: float, data: Data) -> None:
    node.wasted += usage(data)


def _verdict(node: Node, at: float, data: Data) -> None:
    if (cell := _running(node)) is not None:
        cell.verdicts.append(data)


_STEPS: dict[str, Callable[[Node, float, Data], None]] = {
    "node.started": _node_started,
    "node.finished": _node_finished,
    "turn.request": _turn_request,
    "turn.reply": _turn_reply,
    "turn.parsed": _turn_parsed,
    "cell.started": _cell_started,
    "cell.output": _cell_output,
    "cell.finished": _cell_finished,
    "call.started": _call_started,
    "call.item": _call_item,
    "call.finished": _call_finished,
    "speculation.finished": _speculated,
    "verdict": _verdict,
    "error": lambda node, at, data: node.errors.append(data),
    "budget.warning": lambda node, at, data: node.warnings.append(data),
}


def text(data: Data, name: str) -> str:
    value = data.get(name)
    return value if isinstance(value, str) else ""


def count(data: Data, name: str) -> int:
    value = data.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def number(data: Data, name: str) -> float:
    value = data.get(name)
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15
    return float(value) if known else 0.0  # type: ignore[arg-type]  # what is no number compares as false


def usage(data: Data) -> Usage:
    raw = data.get("usage")
    if not isinstance(raw, Mapping):
        return Usage()
    names = ("tokens_in", "tokens_cached", "tokens_out", "tokens_reasoning", "calls", "microdollars")
    return Usage(**{name: count(raw, name) for name in names}, estimated=raw.get("estimated") is True)


def children_of(data: Data, name: str) -> list[Data]:
    """The objects of a list; what else stands in it is left out."""
    value = data.get(name)
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, (list, tuple)) else []
