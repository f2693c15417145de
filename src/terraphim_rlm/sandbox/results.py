"""How an execution ended, as the one status vocabulary says it."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from terraphim_rlm.core.ids import new_id
from terraphim_rlm.core.values import CellError, Enforcement, ExecutionResult, Status
from terraphim_rlm.sandbox import complaints
from terraphim_rlm.sandbox.languages.table import LANGUAGES, SHELL
from terraphim_rlm.sandbox.link.execution import CellEnd
from terraphim_rlm.sandbox.link.guest import Exit
from terraphim_rlm.sandbox.link.streams import text
from terraphim_rlm.sandbox.packages import missing

_OUT_OF_MEMORY = (None, 4, 5, 6, 9)
"""How what gets no memory ends: the kernel kills it, or it aborts (SIGILL, SIGTRAP, SIGABRT)."""
_TELLS_BY_WORDS = frozenset({SHELL.name, "bash", "rust", "go"})
"""The others report an error with its number."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What every result of one sandbox has in common."""

    backend: str
    limits: Mapping[str, Enforcement]


def of_end(end: CellEnd, origin: Origin, spoken: str) -> ExecutionResult:
    """The result of an execution in the language `spoken`."""
    status, code, state = _cell_status(end)
    if status in ("exit_nonzero", "killed") and spoken in _TELLS_BY_WORDS and end.ran:
        signal = end.exit.signal if end.exit else None
        status = complaints.cause(end.stderr, code, signal, oom=end.oom) or status
    error = None
    if end.report:
        error = CellError(
            _word(end.report, "type"), _word(end.report, "message"), _word(end.report, "traceback")
        )
    stateful = spoken in LANGUAGES and LANGUAGES[spoken].stateful
    if not stateful and end.exit != Exit(None, None):
        state = "kept"  # what has no state cannot lose it
    return ExecutionResult(
        execution_id=new_id("exec"),
        status=status,
        stdout=text(end.stdout),
        stderr=text(end.stderr),
        exit_code=code,
        signal=end.exit.signal if end.exit else None,
        error=error if status not in ("timeout", "cancelled") else None,
        duration_ms=_phases(end),
        truncated=end.truncated,
        stdout_bytes=end.stdout,
        state_after=state,
        backend=origin.backend,
        limits_enforced=origin.limits,
        notes=tuple(
            _notes(
                end, status, state if stateful else "kept", watched=origin.limits.get("memory") == "watched"
            )
        ),
    )


def _phases(end: CellEnd) -> dict[str, float]:
    run = {"run": round(end.seconds * 1000, 3)}
    return run if end.compiling is None else {"compile": round(end.compiling * 1000, 3), **run}


def _notes(end: CellEnd, status: Status, state: str, *, watched: bool) -> Iterator[str]:
    yield from end.notes
    if end.note:
        yield (
            f"The interpreter was ended: {end.note}."
            if state == "lost"
            else f"{end.note[0].upper()}{end.note[1:]}."
        )
    if end.fresh:
        yield (
            "The interpreter had ended since the execution before: this one ran in a fresh one, "
            "and the variables set earlier are lost."
        )
    if end.oom and watched:
        yield "The sandbox's processes together held more than its memory, and the largest was ended."
    elif end.oom and status != "oom":
        yield "A process in the sandbox was killed for memory while this ran."
    if end.exit == Exit(None, None):
        yield "The whole sandbox ended, with all its files and variables."
    elif state == "lost":
        yield "The interpreter's variables are lost; the next cell starts in a fresh one."
    if end.report:
        yield from missing.notes(end.report.get("missing"))


def _cell_status(end: CellEnd) -> tuple[Status, int | None, Literal["kept", "lost"]]:
    if end.cause == "done":
        return (*_reported(end.report), "kept")
    if end.cause in ("timeout", "cancelled"):
        return ("timeout" if end.cause == "timeout" else "cancelled", None, "kept")
    if end.cause in ("timeout_killed", "cancelled_killed"):
        return ("timeout" if end.cause == "timeout_killed" else "cancelled", None, "lost")
    status, code = of_exit(end.exit or Exit(None, None), end.oom)
    return ("killed" if end.cause == "broken" else status, code, "lost")


def _reported(report: Mapping[str, Any]) -> tuple[Status, int]:
    if not report:
        return "ok", 0
    if report.get("type") == "MemoryError" or report.get("errno") == errno.ENOMEM:
        return "oom", 1
    if report.get("errno") in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):  # a file can be as large as its disk
        return "disk_full", 1
    code = report.get("exit_code")
    code = code if isinstance(code, int) and 0 <= code <= 255 else 1
    return ("ok" if code == 0 else "exit_nonzero"), code


def of_exit(end: Exit, oom: bool) -> tuple[Status, int | None]:
    """Status and exit code of a process that ended by itself or was killed."""
    if end.code is not None:
        return ("ok" if end.code == 0 else "exit_nonzero"), end.code
    return ("oom" if oom and end.signal in _OUT_OF_MEMORY else "killed"), None


def _word(report: Mapping[str, Any], name: str) -> str:
    value = report.get(name)
    return value if isinstance(value, str) else ""
