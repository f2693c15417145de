"""What an earlier working of a run came to, as its events tell it: replies, cells, sub-calls, node by node.

A run that is taken up again, replayed or forked goes its way again from the start. As far as the record reaches, models
are not asked: their replies are there, and so is what sub-calls were given. Cells are run again, since a sandbox dies
with its process; what the model was shown of them stays what it was.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from terraphim_rlm.core.errors import RlmError, ScriptExhausted, from_json
from terraphim_rlm.core.values import Answer, ExecutionResult, Usage
from terraphim_rlm.llm.client import FinishReason, ModelReply

REPEATABLE = frozenset({"ok", "exit_nonzero"})
"""How a cell ended that is run again; one that a limit ended would only be ended again."""


@dataclass(slots=True)
class KnownCall:
    """A sub-call that a cell made."""

    id: str
    op: str
    asked: str
    """See `following.digest`."""
    count: int = 1
    settled: bool = False
    value: Any = None
    failure: Mapping[str, Any] | None = None
    items: dict[int, tuple[dict[str, Any], Usage]] = field(default_factory=dict)
    """Of several questions those that were settled before all were: what the cell gets, and what it cost."""
    nodes: dict[int, str] = field(default_factory=dict)
    """Child nodes that it started, by the number of their question."""


class KnownCalls:
    """Sub-calls by what they ask; for each question in the order in which they were asked."""

    def __init__(self, calls: Iterable[KnownCall] = ()) -> None:
        self._by_question: dict[str, deque[KnownCall]] = defaultdict(deque)
        for each in calls:
            self._by_question[each.asked].append(each)

    def take(self, asked: str) -> KnownCall | None:
        """The next one that asks this; each is given once."""
        found = self._by_question.get(asked)
        return found.popleft() if found else None


@dataclass(slots=True)
class KnownCell:
    """A cell of a node, and, once it had ended, how."""

    result: ExecutionResult | None = None
    calls: list[KnownCall] = field(default_factory=list)
    reached: set[str] = field(default_factory=set)
    """Hosts that it reached over the network."""

    @property
    def is_left_out(self) -> bool:
        return self.result is not None and self.result.status not in REPEATABLE


@dataclass(slots=True)
class KnownNode:
    """What one node did."""

    id: str = ""
    goes_on: bool = False
    """The run itself goes on: what is recorded is not told again."""
    strict: bool = False
    """Nothing may be asked that is not recorded."""
    began: bool = False
    ended: bool = False
    place: int = 0
    requested: set[int] = field(default_factory=set)
    replies: dict[int, ModelReply] = field(default_factory=dict)
    compacted: set[int] = field(default_factory=set)
    """Turns before which the transcript was compacted."""
    cells: dict[int, KnownCell] = field(default_factory=dict)
    states: deque[tuple[str, str]] = field(default_factory=deque)
    """Snapshots and ways back that were told: type of the event, and name."""
    calls: list[KnownCall] = field(default_factory=list)
    """Those that no cell made."""
    error: Mapping[str, Any] | None = None
    notes: dict[int, str] = field(default_factory=dict)
    """What is added to the message of a turn."""
    current: KnownCell | None = None

    @property
    def kept_id(self) -> str:
        """Its id, where it is the same node still, and not one that begins as it did."""
        return self.id if self.goes_on or self.strict else ""

    def reply(self, turn: int) -> ModelReply | None:
        """What the model replied; None when it is to be asked.

        Raises:
            RlmError: what ended the node there, or `ScriptExhausted`, when nothing may be asked.
        """
        found = self.replies.get(turn)
        if found is None and self.strict:
            raise self.end(f"turn {turn}")
        return found

    def end(self, what: str) -> RlmError:
        """Why a replay can go no further."""
        if self.error is not None:
            return from_json(self.error)
        return ScriptExhausted(
            f"The record ends before {what} of {self.id}.", fix="Let a model go on: `trlm runs resume`."
        )

    def take_state(self, kind: str, name: str) -> bool:
        """Whether the next snapshot or way back that was told is this one."""
        if not self.states or self.states[0] != (kind, name):
            return False
        self.states.popleft()
        return True


class Record:
    """What all nodes of a run did.

    Args:
        events: of one run, in order, as the journal gives them, long fields fetched.
        goes_on: the run itself goes on, in place of another one that begins as it did.
        strict: nothing may be asked that is not recorded, and children are done again as well.
    """

    def __init__(
        self, events: Iterable[Mapping[str, Any]], *, goes_on: bool = False, strict: bool = False
    ) -> None:
        self.goes_on = goes_on
        self.strict = strict
        self.answer: Answer | None = None
        """What it came to, where only its end is missing."""
        self.nodes: dict[str, KnownNode] = {}
        self.root = KnownNode(goes_on=goes_on, strict=strict)
        self._calls: dict[str, KnownCall] = {}
        for event in events:
            data = event.get("data")
            if isinstance(data, Mapping):
                self._take(event, data)

    def node(self, name: str | None) -> KnownNode:
        """A node by its id; one that has done nothing where there is none."""
        found = self.nodes.get(name or "")
        return found or KnownNode(strict=self.strict, goes_on=self.goes_on)

    @property
    def places(self) -> int:
        """The highest number that a child's folder has."""
        return max((node.place for node in self.nodes.values()), default=0)

    @property
    def unsettled(self) -> int:
        """Model calls that were begun and of which no reply is known."""
        turns = sum(len(node.requested - node.replies.keys()) for node in self.nodes.values())
        asked = (call for call in self._calls.values() if not call.settled and not call.op.startswith("rlm"))
        return turns + sum(max(call.count - len(call.items), 0) for call in asked)

    def _take(self, event: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        step = _STEPS.get(str(event["type"]))
        if step is None:
            return
        name = str(event["node"])
        node = self.nodes.get(name)
        if node is None:
            node = self.nodes[name] = KnownNode(name, goes_on=self.goes_on, strict=self.strict)
            if event["parent"] is None and not self.root.id:
                self.root = node
        step(self, node, data)

    def _call(self, data: Mapping[str, Any]) -> KnownCall | None:
        return self._calls.get(str(data.get("call_id")))


def _node_started(record: Record, node: KnownNode, data: Mapping[str, Any]) -> None:
    node.began = True
    node.place = int(data.get("place") or 0)
    call = record._call(data)
    if call is not None:
        call.nodes[int(data.get("item") or 0)] = node.id


def _node_finished(record: Record, node: KnownNode, data: Mapping[str, Any]) -> None:
    node.ended = True


def _turn_request(record: Record, node: KnownNode, data: Mapping[str, Any]) -> None:
    turn = int(data.get("turn") or 0)
    node.requested.add(turn)
    if data.get("compacted") is True:
        node.compacted.add(turn)


def _turn_reply(record: Record, node: KnownNode, data: Mapping[str, Any]) -> None:
    reason = _REASONS.get(str(data.get("finish_reason")), "other")
    node.replies[int(data.get("turn") or 0)] = ModelReply(str(data.get("text", "")), finish_reason=reason)


def _cell_started(record: Record, node: KnownNode, data: Mapping[str, Any]) -> None:
    node.current = node.cells.setdefault(_number(data), KnownCell())


def _cell_finished(record: Record, node: KnownNode, data: Mapping[str, Any]) -> None:
    cell = node.cells.setdefault(_number(data), KnownCell())
    cell.result = ExecutionResult.from_json(data)
    node.current = None


def _call_started(record: Record, node: KnownNode, data: Mapping[str, Any]) -> None:
    call = KnownCall(
        str(data.get("call_id")), str(data.get("op")), str(data.get("asked")), int(data.get("count") or 0)
    )
    record._calls[call.id] = call
    (node.calls if node.current is None else node.current.calls).append(call)


def _call_item(record: Record, node: KnownNode, data: Mapping[str, Any]) -> None:
    call = record._call(data)
    if call is not None:
        error = data.get("error")
        said = dict(error) if isinstance(error, Mapping) else {"value": data.get("value")}
        call.items[int(data.get("item") or 0)] = said, Usage(**data.get("usage", {}))


def _call_finished(record: Record, node: KnownNode, data: Mapping[str, Any]) -> None:
    call = record._call(data)
    error = data.get("error")
    if call is not None and ("value" in data or isinstance(error, Mapping)):
        call.settled = True
        call.value = data.get("value")
        call.failure = error if isinstance(error, Mapping) else None


def _state(kind: str) -> Any:
    def step(record: Record, node: KnownNode, data: Mapping[str, Any]) -> None:
        node.states.append((kind, str(data.get("name"))))

    return step


def _error(record: Record, node: KnownNode, data: Mapping[str, Any]) -> None:
    node.error = data


def _reached(record: Record, node: KnownNode, data: Mapping[str, Any]) -> None:
    if node.current is not None:
        node.current.reached.add(str(data.get("name")))


_REASONS: dict[str, FinishReason] = {each: each for each in get_args(FinishReason)}
_STEPS: dict[str, Any] = {
    "run.started": lambda *_: None,
    "node.started": _node_started,
    "node.finished": _node_finished,
    "turn.request": _turn_request,
    "turn.reply": _turn_reply,
    "cell.started": _cell_started,
    "cell.finished": _cell_finished,
    "call.started": _call_started,
    "call.item": _call_item,
    "call.finished": _call_finished,
    "snapshot.created": _state("snapshot.created"),
    "snapshot.rolled_back": _state("snapshot.rolled_back"),
    "network.allowed": _reached,
    "error": _error,
}


def _number(data: Mapping[str, Any]) -> int:
    """The cell's number within its node, from its execution id."""
    tail = str(data.get("execution_id", "")).rpartition("/")[2]
    return int(tail) if tail.isdecimal() else 0
