"""An earlier run as its journal has it, for a question that follows it from another process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.engine.context import Context
from terraphim_rlm.engine.following import Past, Step
from terraphim_rlm.engine.record import KnownCall
from terraphim_rlm.service.runs import show_run

_MOST_EVENTS = 1_000_000
_STATES: dict[str, Literal["snapshot", "rollback"]] = {
    "snapshot.created": "snapshot",
    "snapshot.rolled_back": "rollback",
}


@dataclass(frozen=True, slots=True)
class Followed:
    """A run to follow, and the input that it was asked over."""

    past: Past
    had_input: bool
    paths: tuple[Path, ...]
    """Where its input was read from; empty when it came from no file."""
    fingerprint: str

    def check(self, context: Context) -> None:
        """Raises:
        InvalidArgument: the files are not what they were.
        """
        if context.fingerprint() != self.fingerprint:
            raise InvalidArgument(
                f"The input of {self.past.run} has changed since.",
                fix="Name the paths again to follow the run over the input as it is now.",
                run=self.past.run,
            )


def followed(run: str) -> Followed:
    """What a run left in the journal, by its id or a beginning of it.

    Raises:
        RunNotFound, InvalidArgument: there is none, or several begin so; or it still runs.
        StoreError: the journal cannot be read.
    """
    detail = show_run(run, max_events=_MOST_EVENTS, whole=True)
    summary = detail.summary
    if summary.status in ("accepted", "running"):
        raise InvalidArgument(f"{summary.id} still runs.", fix="Wait for its end, then follow it.")
    events = detail.nodes[0].events if detail.nodes else []
    data = [(str(event["type"]), event["data"]) for event in events if isinstance(event.get("data"), dict)]
    begun: Mapping[str, Any] = next((each for kind, each in data if kind == "run.started"), {})
    about = begun.get("context") if isinstance(begun.get("context"), dict) else None
    answer = next((each.get("text") for kind, each in data if kind == "answer"), None)
    past = Past(
        summary.id,
        str(begun.get("question", summary.question)),
        None if answer is None else str(answer),
        _steps(data),
        _calls(data),
    )
    paths = (about or {}).get("inputs") or []
    return Followed(past, about is not None, tuple(map(Path, paths)), str((about or {}).get("print", "")))


def _steps(events: list[tuple[str, dict[str, Any]]]) -> tuple[Step, ...]:
    ends = {each.get("execution_id"): each for kind, each in events if kind == "cell.finished"}
    steps: list[Step] = []
    for kind, each in events:
        if kind in _STATES:
            steps.append(Step(_STATES[kind], str(each.get("name"))))
        elif kind == "cell.started":
            end = ends.get(each.get("execution_id"), {})
            steps.append(
                Step(
                    "cell",
                    str(each.get("code")),
                    str(each.get("language")),
                    str(end.get("status", "interrupted")),
                    str(end.get("stdout", "")),
                )
            )
    return tuple(steps)


def _calls(events: list[tuple[str, dict[str, Any]]]) -> tuple[KnownCall, ...]:
    began = {each.get("call_id"): each for kind, each in events if kind == "call.started"}
    return tuple(
        _known(began.get(each.get("call_id"), {}), each)
        for kind, each in events
        if kind == "call.finished" and ("value" in each or isinstance(each.get("error"), dict))
    )


def _known(began: Mapping[str, Any], ended: Mapping[str, Any]) -> KnownCall:
    return KnownCall(
        str(ended.get("call_id")),
        str(began.get("op")),
        str(began.get("asked")),
        settled=True,
        value=ended.get("value"),
        failure=ended.get("error"),
    )
