"""What happened, as data: one base event, append-only, told once and read by everyone.

The journal, the live tree, `--jsonl` and the benchmarks read the same stream. An event belongs to a
run and a node of its tree; `seq` counts up within a run without gaps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from terraphim_rlm.core.clock import SYSTEM_CLOCK, Clock
from terraphim_rlm.core.ids import new_id

EventType = Literal[
    "run.started",  # {question, model, sub_model, limits, context, backend}
    "run.resumed",  # {after, spent, seconds}: how it had ended, what counts as spent and used of its time since
    "run.finished",  # {status, termination, usage, seconds}
    "node.started",  # {depth, question}; of a child also {place, call_id, item}: its folder, and who asked for it
    "node.finished",  # {depth, termination}
    "turn.request",  # {turn, messages, tokens_estimate, compacted, told, system}: the newest message; the first one once
    "turn.reply",  # {turn, text, usage, finish_reason, seconds}
    "turn.parsed",  # {turn, commands: [{kind, ..}], dropped, notice, kept}: kept is what the transcript holds, if not all
    "cell.started",  # {turn, execution_id, language, code}
    "cell.output",  # {execution_id, stream, text}
    "cell.finished",  # {execution_id, status, stdout, stderr, error, duration_ms}
    "call.started",  # {call_id, op, count, asked}: asked names the question, see `engine.following.digest`
    "call.item",  # {call_id, item, value or error, usage}: one of several questions of a call, as soon as it is settled
    "call.finished",  # {call_id, ok, failed, usage, seconds, value or error}: what the cell was given
    "cell.differs",  # {execution_id, why}: done again, it came to something else than was recorded
    "speculation.finished",  # {turn, begun, used, wasted, usage}: calls begun while a reply streamed; usage of the wasted
    "verdict",  # {execution_id, decision, findings}: of code that is not simply allowed
    "hook",  # {point, hook, action, text, of}: what a hook did but allow
    "approval.asked",  # {question, text, language, findings, seconds}: a person is asked
    "approval.decided",  # {approved, why, seconds}
    "budget.warning",  # {limit, used, of}
    "budget.leased",  # {tokens, microdollars}: totals that the run may have spent from now on
    "answer",  # Answer as JSON
    "error",  # {code, message, fix, details}
    # Below: `run` and `node` are a session's id; snapshots and network may be a run's as well.
    "session.created",  # {name, backend, resources, packages, expires, origin, snapshot, once}
    "session.extended",  # {expires, extensions}
    "session.expired",  # {}
    "session.destroyed",  # {}
    "session.lost",  # {why}: its owner died, or its sandbox did
    "execution.started",  # {execution_id, language, code, timeout}
    "execution.finished",  # ExecutionResult as JSON
    "network.allowed",  # Access as JSON, and execution_id where one alone was running
    "network.refused",  # the same
    "network.closed",  # the same: the end of what was allowed, with its bytes and seconds
    "snapshot.created",  # Snapshot as JSON
    "snapshot.rolled_back",  # {id, name}
    "snapshot.restored",  # {id, name, paths}
    "snapshot.forgotten",  # {id, name}
    "snapshot.lost",  # {id, name, why}
]
EVENT_TYPES: tuple[str, ...] = get_args(EventType)


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened in a run, or in a session."""

    type: EventType
    run: str
    node: str
    parent: str | None
    """The parent node's id; None at the root."""
    seq: int
    time: float
    """Seconds since the epoch, by the host's clock."""
    data: Mapping[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=lambda: new_id("event"))

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "run": self.run,
            "node": self.node,
            "parent": self.parent,
            "seq": self.seq,
            "time": self.time,
            "type": self.type,
            "data": dict(self.data),
        }


EventSink = Callable[[Event], None]
"""Receives each event once, in order, on the run's own thread. It must not block or raise."""


class EventLog:
    """Numbers the events of one run, after `last`, and hands each to every sink."""

    def __init__(
        self, run: str, sinks: list[EventSink], clock: Clock = SYSTEM_CLOCK, *, last: int = 0
    ) -> None:
        self.run = run
        self._sinks = sinks
        self._clock = clock
        self._seq = last

    def emit(self, type: EventType, node: str, parent: str | None, **data: Any) -> Event:
        self._seq += 1
        event = Event(type, self.run, node, parent, self._seq, self._clock.wall(), data)
        for sink in self._sinks:
            sink(event)
        return event
