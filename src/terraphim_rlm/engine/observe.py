"""What a node is shown of what its commands did."""

from __future__ import annotations

from terraphim_rlm.core.values import ExecutionResult
from terraphim_rlm.engine.neutral import neutralise

MOST_SHOWN = 8_000
"""Characters of one stream of one cell in the transcript; the whole stays in the event log."""
_MOST_TRACE = 3_000

_ENDED = {
    "timeout": "It ran out of time and was stopped.",
    "oom": "It ran out of memory.",
    "killed": "It was killed.",
    "disk_full": "The sandbox's disk is full.",
    "cancelled": "It was cancelled.",
}


def observation(number: int, result: ExecutionResult) -> str:
    """One cell's outcome as text for the transcript."""
    parts = [f"[cell {number}: {result.status}]"]
    if result.stdout:
        parts.append(neutralise(result.stdout.rstrip("\n"), MOST_SHOWN))
    if result.stderr:
        parts.append(f"stderr:\n{neutralise(result.stderr.rstrip(), MOST_SHOWN // 2)}")
    if result.error is not None:
        trace = result.error.traceback or f"{result.error.type}: {result.error.message}"
        parts.append(neutralise(trace.rstrip(), _MOST_TRACE))
    elif result.exit_code:
        parts.append(f"exit code {result.exit_code}")
    if result.status in _ENDED:
        parts.append(_ENDED[result.status])
    if result.state_after == "lost":
        parts.append("The interpreter was started afresh: all variables are lost except `context`.")
    else:
        parts.extend(neutralise(note, 300) for note in result.notes)
    if result.truncated:
        parts.append("It printed more than is kept.")
    if len(parts) == 1:
        parts.append("(no output)")
    return "\n".join(parts)
