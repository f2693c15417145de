"""A run as a tree, folded from its events: what the live view draws and what its end is told by."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from terraphim_rlm.core.events import Event
from terraphim_rlm.core.values import Usage
from terraphim_rlm.faces.cli.words import number, one_line, plural, seconds, spent

_WIDTH = 72
_KEPT_CELLS = 200
"""Cells kept per node; older ones are only counted."""
_KEPT_NODES = 2000
_SHOWN_CELLS = 12
_LEAST_HEAD = 4


@dataclass(slots=True)
class CellView:
    number: int
    turn: int
    language: str
    code: str
    status: str = "running"
    seconds: float = 0.0
    calls: int = 0
    failed: int = 0


@dataclass(slots=True)
class NodeView:
    id: str
    depth: int = 0
    question: str = ""
    turn: int = 0
    doing: str = ""
    termination: str | None = None
    cells: dict[str, CellView] = field(default_factory=dict)
    cell_count: int = 0
    loose_calls: int = 0
    """Sub-calls while no cell ran, such as those of the look-up."""
    children: list[str] = field(default_factory=list)
    last: CellView | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the tree; `style` is one of `run`, `node`, `cell`, `bad`, `dim`."""

    indent: int
    head: str
    style: str
    tail: str = ""
    """What is news: a narrow terminal cuts the head instead."""

    @property
    def text(self) -> str:
        return f"{self.head}  {self.tail}".rstrip()

    def fitted(self, width: int) -> str:
        """The text in `width` columns, if its tail fits."""
        room = width - 2 * self.indent - len(self.tail) - 2
        if not self.tail or len(self.head) <= room or room < _LEAST_HEAD:
            return self.text
        return f"{self.head[: room - 1].rstrip()}…  {self.tail}"


class RunTree:
    """Takes a run's events; may be read from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.run_id: str | None = None
        self.model = ""
        self.skipped = ""
        """What was left out of the input, in words."""
        self.started = self.latest = 0.0
        self.usage = Usage()
        self.turns = 0
        self.nodes: dict[str, NodeView] = {}
        self.root: str | None = None
        self.warnings: list[str] = []
        self.begun = self.wasted = 0
        """Sub-calls that were begun while a reply streamed, and those of them that no cell asked for."""
        self.waste = Usage()
        self.dollars: float | None = None
        self.finished = False
        self.pause: Callable[[], AbstractContextManager[None]] = nullcontext
        """Lets what is drawn of it stand still, while a person is asked something."""

    def __call__(self, event: Event) -> None:
        """An `EventSink`."""
        with self._lock:
            self.run_id = event.run
            self.latest = event.time
            node = self._node(event)
            if (step := _STEPS.get(event.type)) is not None:
                step(self, node, event.data)

    def _node(self, event: Event) -> NodeView:
        node = self.nodes.get(event.node)
        if node is None:
            node = NodeView(event.node)
            if event.parent is None and self.root is None:
                self.root, self.started = event.node, event.time
            if len(self.nodes) < _KEPT_NODES:
                self.nodes[event.node] = node
                if event.parent in self.nodes:
                    self.nodes[event.parent].children.append(event.node)
        return node

    @property
    def free(self) -> bool:
        """Whether nobody asks money for the model's tokens."""
        from terraphim_rlm.llm.prices import FREE

        return re.split("[/:]", self.model, maxsplit=1)[0] in FREE

    @property
    def ahead(self) -> str:
        """What was begun while replies streamed, in words; empty when nothing was."""
        if not self.begun:
            return ""
        lost = f"; {self.wasted:,} for nothing, {' · '.join(spent(self.waste)[:-1])}" if self.wasted else ""
        return f"begun ahead of their cells: {plural(self.begun, 'sub-call')}{lost}"

    def header(self, now: float | None = None) -> str:
        """What was spent so far, on one line."""
        with self._lock:
            parts = spent(self.usage, free=self.free)
            if self.dollars is not None and not self.free:
                parts[0:1] = [f"{parts[0]} of ${self.dollars:g}"] if self.usage.microdollars else parts[0:1]
            depth = max((node.depth for node in self.nodes.values()), default=0)
            took = seconds(max(0.0, (now or self.latest) - self.started))
            return " · ".join([took, f"depth {depth}", *parts])

    def kept(self) -> str:
        """What an interrupted run leaves, in words."""
        with self._lock:
            return f"{plural(self.turns, 'turn')}, {plural(self.usage.calls, 'call')}, {plural(self.usage.tokens, 'token')}"

    def lines(self) -> list[Line]:
        """The whole tree; finished nodes take one line, the last cells of the others one each."""
        with self._lock:
            found = list(self._node_lines(self.nodes[self.root], 0)) if self.root else []
            if self.begun:
                found.append(Line(0, self.ahead, "dim"))
            if self.skipped:
                found.append(Line(0, f"left out of the input: {self.skipped}", "dim"))
            return found + [Line(0, f"! {text}", "bad") for text in self.warnings[-3:]]

    def _node_lines(self, node: NodeView, indent: int) -> Iterator[Line]:
        calls = node.loose_calls + sum(cell.calls for cell in node.cells.values())
        parts = [f"turn {node.turn}"] if node.turn else []
        parts += [plural(calls, "sub-call")] if calls else []
        parts += [node.termination or node.doing or ("" if node.turn or node.cells else "starting")]
        name = one_line(node.question, _WIDTH) or "run"
        about = " · ".join(part for part in parts if part)
        yield Line(indent, name, "run" if indent == 0 else "node", about)
        if node.termination and indent:
            return
        cells = list(node.cells.values())
        if (hidden := node.cell_count - len(cells[-_SHOWN_CELLS:])) > 0:
            yield Line(indent + 1, f"… {plural(hidden, 'earlier cell')}", "dim")
        for cell in cells[-_SHOWN_CELLS:]:
            yield _cell_line(cell, indent + 1)
        finished = sum(1 for child in node.children if self.nodes[child].termination)
        if finished > _SHOWN_CELLS:
            yield Line(indent + 1, f"… {plural(finished, 'finished node')}", "dim")
        for child in node.children:
            if finished <= _SHOWN_CELLS or not self.nodes[child].termination:
                yield from self._node_lines(self.nodes[child], indent + 1)


def _cell_line(cell: CellView, indent: int) -> Line:
    calls = f" · {plural(cell.calls, 'sub-call')}" if cell.calls else ""
    failed = f" ({cell.failed} failed)" if cell.failed else ""
    took = f" · {seconds(cell.seconds)}" if cell.status != "running" else ""
    good = cell.status in ("ok", "running")
    head = f"{cell.language} {cell.number}  {cell.code}"
    return Line(indent, head, "cell" if good else "bad", f"{cell.status}{took}{calls}{failed}")


# Steps of the fold. What events carry may come from a model or a sandbox: only plain types are taken.


def _run_started(tree: RunTree, node: NodeView, data: Mapping[str, Any]) -> None:
    node.question = _text(data, "question")
    tree.model = _text(data, "model")
    about = data.get("context")
    tree.skipped = one_line(_text(about, "skipped"), 2 * _WIDTH) if isinstance(about, Mapping) else ""
    limits = data.get("limits")
    limit = limits.get("dollars") if isinstance(limits, Mapping) else None
    tree.dollars = float(limit) if isinstance(limit, int | float) else None


def _run_resumed(tree: RunTree, node: NodeView, data: Mapping[str, Any]) -> None:
    tree.model = _text(data, "model") or tree.model
    tree.finished, node.termination = False, None


def _cell_differs(tree: RunTree, node: NodeView, data: Mapping[str, Any]) -> None:
    number = _text(data, "execution_id").rpartition("/")[2]
    tree.warnings.append(one_line(f"cell {number} was run again: {_text(data, 'why')}", 2 * _WIDTH))


def _run_finished(tree: RunTree, node: NodeView, data: Mapping[str, Any]) -> None:
    tree.finished = True
    node.termination = _text(data, "termination") or _text(data, "status")
    final = usage_of(data)
    if final.calls >= tree.usage.calls:
        tree.usage = final


def _node_started(tree: RunTree, node: NodeView, data: Mapping[str, Any]) -> None:
    node.depth = _count(data, "depth")
    node.question = _text(data, "question") or node.question


def _node_finished(tree: RunTree, node: NodeView, data: Mapping[str, Any]) -> None:
    node.termination = _text(data, "termination")


def _turn_request(tree: RunTree, node: NodeView, data: Mapping[str, Any]) -> None:
    node.turn = _count(data, "turn")
    node.doing = "asking the model"


def _turn_reply(tree: RunTree, node: NodeView, data: Mapping[str, Any]) -> None:
    tree.usage += usage_of(data)
    tree.turns += 1
    node.turn = max(node.turn, _count(data, "turn"))
    node.doing = ""


def _cell_started(tree: RunTree, node: NodeView, data: Mapping[str, Any]) -> None:
    node.cell_count += 1
    code = one_line(_text(data, "code"), _WIDTH)
    name = _text(data, "execution_id")
    tail = name.rpartition("/")[2]
    number = int(tail) if tail.isdecimal() and len(tail) < 9 else node.cell_count  # else it is its place here
    cell = CellView(number, _count(data, "turn"), _text(data, "language") or "python", code)
    node.last = cell
    node.cells[name] = cell
    while len(node.cells) > _KEPT_CELLS:
        node.loose_calls += node.cells.pop(next(iter(node.cells))).calls
    node.doing = "running code"


def _cell_finished(tree: RunTree, node: NodeView, data: Mapping[str, Any]) -> None:
    cell = node.cells.get(_text(data, "execution_id"))
    if cell is not None:
        cell.status = _text(data, "status") or "unknown"
        durations = data.get("duration_ms")
        run = durations.get("run") if isinstance(durations, Mapping) else None
        cell.seconds = run / 1000 if isinstance(run, int | float) else 0.0
    node.doing = ""


def _call_finished(tree: RunTree, node: NodeView, data: Mapping[str, Any]) -> None:
    usage = usage_of(data)
    tree.usage += usage
    calls, failed = max(usage.calls, 1), _count(data, "failed")
    if node.last is not None and node.last.status == "running":
        node.last.calls += calls
        node.last.failed += failed
    else:
        node.loose_calls += calls


def _speculated(tree: RunTree, node: NodeView, data: Mapping[str, Any]) -> None:
    usage = usage_of(data)
    tree.usage += usage
    tree.waste += usage
    tree.begun += _count(data, "begun")
    tree.wasted += _count(data, "wasted")


def _budget_warning(tree: RunTree, node: NodeView, data: Mapping[str, Any]) -> None:
    used, of = data.get("used"), data.get("of")
    if isinstance(used, int | float) and isinstance(of, int | float):
        tree.warnings.append(f"{number(used)} of {number(of)} {_text(data, 'limit')} are used")


def _error(tree: RunTree, node: NodeView, data: Mapping[str, Any]) -> None:
    """Limits and faulty replies cut a node short; what ends the whole run is told by whoever asked for it."""
    if _text(data, "code").startswith(("E4", "E5")):
        tree.warnings.append(one_line(_text(data, "message"), 2 * _WIDTH))


_STEPS = {
    "run.started": _run_started,
    "run.resumed": _run_resumed,
    "run.finished": _run_finished,
    "node.started": _node_started,
    "node.finished": _node_finished,
    "turn.request": _turn_request,
    "turn.reply": _turn_reply,
    "cell.started": _cell_started,
    "cell.finished": _cell_finished,
    "cell.differs": _cell_differs,
    "call.finished": _call_finished,
    "speculation.finished": _speculated,
    "budget.warning": _budget_warning,
    "error": _error,
}


def usage_of(data: Mapping[str, Any]) -> Usage:
    """The event's `usage`; zeros where it has none."""
    usage = data.get("usage")
    if not isinstance(usage, Mapping):
        return Usage()
    names = ("tokens_in", "tokens_cached", "tokens_out", "tokens_reasoning", "calls", "microdollars")
    return Usage(**{name: _count(usage, name) for name in names}, estimated=usage.get("estimated") is True)


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    return value[:4000] if isinstance(value, str) else ""


def _count(data: Mapping[str, Any], name: str) -> int:
    value = data.get(name)
    return value if isinstance(value, int) and value > 0 else 0
