"""A run as the journal has it, for whoever takes it up again, replays it or forks it."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args

from terraphim_rlm.core.clock import SYSTEM_CLOCK
from terraphim_rlm.core.errors import InvalidArgument, JournalCorrupt
from terraphim_rlm.core.events import Event
from terraphim_rlm.core.standing import Spent
from terraphim_rlm.core.values import Answer, Evidence, Limits, Resources, Usage, to_json
from terraphim_rlm.engine.context import Context
from terraphim_rlm.engine.guards import Checks
from terraphim_rlm.engine.record import Record
from terraphim_rlm.engine.task import Route
from terraphim_rlm.llm.client import ModelInfo
from terraphim_rlm.service.runs import RunNode, RunSummary, show_run

T = TypeVar("T")
How = Literal["resume", "replay", "fork"]
_MOST_EVENTS = 2_000_000
MOST_KEPT = 1 << 20
"""Bytes of an input that came from no file up to which the journal keeps it."""
ADDED = "\n\nThe user adds: {prompt}"


@dataclass(frozen=True, slots=True)
class Recall:
    """One run and all its events, in order."""

    summary: RunSummary
    events: tuple[Mapping[str, Any], ...]
    begun: Mapping[str, Any]
    """The data of `run.started`."""

    @property
    def id(self) -> str:
        return self.summary.id

    @property
    def limits(self) -> Limits:
        return _shaped(Limits, self.begun.get("limits"))

    @property
    def resources(self) -> Resources:
        return _shaped(Resources, self.begun.get("resources"))

    @property
    def checks(self) -> Checks:
        return _shaped(Checks, self.begun.get("checks"))

    @property
    def packages(self) -> tuple[str, ...]:
        return tuple(map(str, self.begun.get("packages") or ()))

    @property
    def route(self) -> Route:
        found = self.begun.get("route")
        return cast("Route", found) if found in get_args(Route) else "auto"

    @property
    def models(self) -> tuple[ModelInfo, ModelInfo]:
        """What was known of its model, and of the one for its sub-calls."""
        found = [
            _shaped(ModelInfo, each) for each in self.begun.get("models") or () if isinstance(each, dict)
        ]
        named = (self.begun.get("model"), self.begun.get("sub_model"))
        return (found[0], found[1]) if len(found) == 2 else tuple(ModelInfo(str(name)) for name in named)  # type: ignore[return-value]

    def text(self, name: str) -> str | None:
        found = self.begun.get(name)
        return found if isinstance(found, str) else None

    def record(self, how: How, turn: int | None = None, prompt: str | None = None) -> Record:
        """What is not asked again; for a fork, as far as before its turn.

        Raises:
            JournalCorrupt: an event holds what no run has written.
        """
        events = self.events if turn is None else self._before(turn)
        try:
            record = Record(events, goes_on=how == "resume", strict=how == "replay")
            record.answer = self.answer if how == "resume" else None
        except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
            raise _damaged(f"An event of {self.id} holds what no run has written", error) from error
        if prompt and turn is not None:
            record.root.notes[turn] = ADDED.format(prompt=prompt)
        return record

    @property
    def turns(self) -> int:
        """Turns of the root that have a reply."""
        return max((int(each["data"].get("turn") or 0) for each in self._of("turn.reply")), default=0)

    def _before(self, turn: int) -> tuple[Mapping[str, Any], ...]:
        last = next(
            (each["seq"] for each in self._of("turn.request") if each["data"].get("turn") == turn), None
        )
        return tuple(each for each in self.events if last is None or each["seq"] < last)

    def _of(self, kind: str) -> Iterator[Mapping[str, Any]]:
        """Events of the root."""
        return (each for each in self.events if each["type"] == kind and each["parent"] is None)

    @property
    def answer(self) -> Answer | None:
        """The answer, where nothing but the end of the run is missing."""
        found: Answer | None = None
        for each in self.events:
            if each["type"] == "run.resumed":
                found = None
            elif each["type"] == "answer" and each["parent"] is None:
                found = answer_of(each["data"])
        return found if self.summary.status == "interrupted" else None

    def spent(self, record: Record) -> Spent:
        """What it had spent; what it had leased and not settled is in it, and so are calls of which no reply is known."""
        usage, summary = self.summary.usage, self.summary
        lost = Usage(
            tokens_out=summary.spent_tokens - usage.tokens,
            calls=record.unsettled if summary.status == "interrupted" else 0,
            microdollars=summary.spent_microdollars - usage.microdollars,
        )
        lost = replace(lost, estimated=any((lost.tokens_out, lost.microdollars, lost.calls)))
        return Spent(usage + lost, self._seconds())

    def _seconds(self) -> float:
        """How long it was worked on, without the time between."""
        total, began, last = 0.0, 0.0, 0.0
        for each in self.events:
            time = float(each["time"])
            if each["type"] in ("run.started", "run.resumed"):
                total, began = total + max(last - began, 0.0), time
            elif each["type"] == "run.finished" and each["data"].get("status") == "interrupted":
                continue
            last = time
        return total + max(last - began, 0.0)

    def claim(self, spent: Spent, model: str) -> Event:
        """The event that takes it up, for `Journal.claim`."""
        last = self.events[-1]["seq"]
        data = {
            "after": self.summary.status,
            "model": model,
            "spent": to_json(spent.usage),
            "seconds": spent.seconds,
        }
        return Event("run.resumed", self.id, self._root, None, last + 1, SYSTEM_CLOCK.wall(), data)

    @property
    def _root(self) -> str:
        return str(self.events[0]["node"])

    def input(self) -> Any:
        """What it was asked over, to be read again; None when it had none.

        Raises:
            InvalidArgument: it came from no file, and was too large to be kept.
        """
        about = self.begun.get("context")
        if not isinstance(about, dict):
            return None
        if paths := about.get("inputs"):
            return [Path(path) for path in paths] if len(paths) > 1 else Path(paths[0])
        kept = self.begun.get("input")
        if not isinstance(kept, dict):
            raise InvalidArgument(
                f"The input of {self.id} came from no file, and was too large to be kept.",
                fix="Give the input again.",
                run=self.id,
            )
        return _restored(kept)

    def check(self, context: Context) -> None:
        """Raises:
        InvalidArgument: the input is not what it was.
        """
        about = self.begun.get("context")
        before = about.get("print") if isinstance(about, dict) else None
        if before is not None and context.fingerprint() != before:
            raise InvalidArgument(
                f"The input of {self.id} has changed since, so its way cannot be gone again.",
                fix="Bring the input back as it was, or ask anew: `trlm ask`.",
                run=self.id,
            )


def recall(run: str) -> Recall:
    """A run, by its id or a beginning of it.

    Raises:
        RunNotFound, InvalidArgument: there is none, or several begin so.
        StoreError: the journal cannot be read.
    """
    detail = show_run(run, max_events=_MOST_EVENTS, whole=True)
    events = sorted(_flat(detail.nodes), key=lambda each: each["seq"])
    begun: Mapping[str, Any] = next((each["data"] for each in events if each["type"] == "run.started"), {})
    return Recall(detail.summary, tuple(events), begun)


def kept_input(context: Context | None, paths: tuple[str, ...]) -> dict[str, Any] | None:
    """What the journal keeps of an input that could not be read again."""
    if context is None or paths or context.size > MOST_KEPT or len(context.spans) != 1:
        return None
    (span,) = context.spans
    data = context.read(span.path, 0, context.size) or b""
    return {"kind": context.kind, "name": span.path, "base64": base64.b64encode(data).decode()}


def answer_of(data: Mapping[str, Any]) -> Answer:
    """An `answer` event as the answer that it was."""
    known = {each.name: data[each.name] for each in fields(Answer) if each.name in data}
    known["evidence"] = tuple(_shaped(Evidence, each) for each in data.get("evidence") or ())
    known["usage"] = _shaped(Usage, data.get("usage"))
    return Answer(**known)


def _restored(kept: Mapping[str, Any]) -> Any:
    data = base64.b64decode(str(kept.get("base64")))
    kind, name = kept.get("kind"), kept.get("name")
    if kind == "json":
        return json.loads(data)
    if kind == "bytes":
        return data
    return io.BytesIO(data) if name == "-" else data.decode("utf-8", "surrogatepass")


def _flat(nodes: list[RunNode]) -> Iterator[dict[str, Any]]:
    for node in nodes:
        yield from (each for each in node.events if isinstance(each.get("data"), dict))
        yield from _flat(node.children)


def _shaped(kind: type[T], data: Any) -> T:
    """A value of a frozen shape, by the names that it knows; its defaults for the rest."""
    given = data if isinstance(data, dict) else {}
    names = [each.name for each in fields(kind)]  # type: ignore[arg-type]
    try:
        return kind(**{name: given[name] for name in names if name in given})
    except (AttributeError, OverflowError, TypeError) as error:
        raise _damaged(f"What is recorded is no {kind.__name__}", error) from error


def _damaged(what: str, error: Exception) -> JournalCorrupt:
    return JournalCorrupt(
        f"{what}: {type(error).__name__}: {error!s:.200}.",
        fix="Ask anew: `trlm ask`. What the journal has of it: `trlm runs show`.",
    )
