"""What a node is shown of what its commands did."""

from __future__ import annotations

from dataclasses import dataclass

from terraphim_rlm.core.values import ExecutionResult
from terraphim_rlm.engine.neutral import neutralise

MOST_SHOWN = 8_000
"""Characters of one stream of one cell in the transcript; the whole stays in the event log."""
_LEAST_SHOWN = 400
_MOST_TRACE = 3_000

INVENTORY = """\
(lambda b: b["print"]("\\n".join(
    f"  {n}: {b['type'](v).__name__}" + (f" of {b['len'](v):,}" if b['type'](v).__name__ in
    ("str", "bytes", "bytearray", "list", "tuple", "dict", "set", "frozenset") else
    f" = {v!r:.60}" if b['type'](v).__name__ in ("int", "float", "bool") else "")
    for n, v in b["list"](b["globals"]().items())
    if not n.startswith("_") and n not in ("context", "true", "false", "null", "print")
    and b["type"](v).__name__ != "module"
    and not b["str"](b["getattr"](v, "__module__", "")).startswith("guest"))))(__builtins__)
"""
"""The cell that lists a namespace; whatever names the model's code has taken, it finds its own."""

_ENDED = {
    "timeout": "It ran out of time and was stopped.",
    "oom": "It ran out of memory.",
    "killed": "It was killed.",
    "disk_full": "The sandbox's disk is full.",
    "cancelled": "It was cancelled.",
}


@dataclass(frozen=True, slots=True)
class Showing:
    """How a node is shown what its cells did."""

    mark: str = ""
    """The run's mark, in each line that the host writes; see `neutral`."""
    limit: int = MOST_SHOWN
    """Characters of one stream of one cell."""


def showing(mark: str, window: int | None) -> Showing:
    """For a model with a window of so many tokens: one output takes an eighth of it at most."""
    return Showing(mark, MOST_SHOWN if window is None else max(min(MOST_SHOWN, window // 2), _LEAST_SHOWN))


def observation(number: int, result: ExecutionResult, showing: Showing, paging: str = "") -> str:
    """One cell's outcome as text for the transcript; `paging` says how to see the rest of a long output."""
    mark, limit = showing.mark, showing.limit
    parts = [f"[cell {number}: {result.status}{f', {mark}' if mark else ''}]"]
    if result.stdout:
        parts.append(neutralise(result.stdout.rstrip("\n"), limit, mark))
    if result.stderr:
        parts.append(f"stderr:\n{neutralise(result.stderr.rstrip(), limit // 2, mark)}")
    if result.error is not None:
        trace = result.error.traceback or f"{result.error.type}: {result.error.message}"
        parts.append(neutralise(trace.rstrip(), min(_MOST_TRACE, limit), mark))
    elif result.exit_code:
        parts.append(f"exit code {result.exit_code}")
    if result.status in _ENDED:
        parts.append(_ENDED[result.status])
    if result.state_after == "lost":
        parts.append("The interpreter was started afresh: all variables are lost except `context`.")
    else:
        parts.extend(neutralise(note, 300, mark) for note in result.notes)
    if result.truncated:
        parts.append("It printed more than is kept.")
    if paging:
        parts.append(paging)
    if len(parts) == 1:
        parts.append("(no output)")
    return "\n".join(parts)
