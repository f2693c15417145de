"""Code that runs while its output is handed on: in a sandbox of its own, or in a session."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from terraphim_rlm.core.errors import (
    BackendUnavailable,
    Cancelled,
    CodeBlocked,
    DiskFull,
    ExecutionFailed,
    ExecutionTimeout,
    InternalError,
    RlmError,
    SandboxLost,
)
from terraphim_rlm.core.values import CellError, ExecutionResult, Resources
from terraphim_rlm.faces.cli.interrupt import Work
from terraphim_rlm.faces.cli.out import Voice, write_err, write_out
from terraphim_rlm.faces.cli.words import clean
from terraphim_rlm.faces.cli.writer import Writer

OnOutput = Callable[[Literal["stdout", "stderr"], str], None]
OnStep = Callable[[str], None]
"""Gets a line for each step before the code begins."""
_ERRORS: dict[str, tuple[type[RlmError], str]] = {
    "exit_nonzero": (ExecutionFailed, "The code failed with exit code {code}."),
    "timeout": (ExecutionTimeout, "The code was stopped after {timeout}."),
    "oom": (ExecutionFailed, "The code ran out of memory ({memory} MB)."),
    "killed": (ExecutionFailed, "The code was killed{signal}."),
    "disk_full": (DiskFull, "The sandbox's disk is full ({disk} MB)."),
    "blocked": (CodeBlocked, "The code was not run; it breaks a rule of the guard ({rules})."),
    "cancelled": (Cancelled, "The code was stopped."),
    "interrupted": (SandboxLost, "The session ended while the code ran."),
    "backend_unavailable": (BackendUnavailable, "The sandbox is gone."),
}
_RAISE_TIMEOUT = "Raise --timeout."


@dataclass(frozen=True, slots=True)
class Job:
    """A piece of code to run, and the words for its ends."""

    run: Callable[[OnOutput | None, OnStep | None], Coroutine[Any, Any, ExecutionResult]]
    stopped: Callable[[], Cancelled]
    """What Ctrl-C comes to."""
    timeout: float | None
    """Seconds; None = the language's own."""
    resources: Resources
    fixes: Mapping[str, str]
    """By status."""


def report(job: Job, voice: Voice) -> int:
    """Runs it and tells how it went; the exit code: the code's own, or with `--json` one of ours."""
    result = Work(lambda: job.run(None, None), job.stopped).run() if voice.quiet else followed(job)
    if voice.quiet:
        error = failure(job, result)
        voice.give(result.to_json(), "", errors=[error.to_json()] if error else ())
        return error.row.exit_code if error else 0
    return told(job, result, voice)


def told(job: Job, result: ExecutionResult, voice: Voice) -> int:
    """What people should know of a result besides its output; its exit code."""
    if result.truncated:
        voice.note(f"trlm: Output was cut at {job.resources.output_bytes:,} bytes per stream.")
    for note in result.notes:
        voice.note(f"trlm: {clean(note)}")
    if result.status in ("ok", "exit_nonzero") and result.exit_code is not None:
        return result.exit_code
    error = failure(job, result)
    return voice.fail(error) if error else 0


def followed(job: Job) -> ExecutionResult:
    """Runs it and hands its output on while it comes."""
    written = {"stdout": 0, "stderr": 0}

    def said(stream: Literal["stdout", "stderr"], text: str) -> None:
        written[stream] += len(text)
        writer.put((stream, text))

    def step(line: str) -> None:
        writer.put(("stderr", f"trlm: {clean(line)}\n"))

    with Writer(_hand_on, lambda: work.cancel()) as writer:  # noqa: PLW0108 - made below
        work = Work(lambda: job.run(said, step), job.stopped)
        result = work.run()
        for stream, whole in (("stdout", result.stdout), ("stderr", result.stderr)):
            writer.put((stream, whole[written[stream] :]))
        if result.error is not None:
            writer.put(("stderr", _raised(result.error)))
    return result


def _raised(error: CellError) -> str:
    """What Python itself would print of it: leaving by `sys.exit` is no failure to trace."""
    if error.type != "SystemExit":
        return error.traceback or f"{error.type}: {error.message}\n"
    return "" if not error.message or error.message.lstrip("-").isdigit() else f"{error.message}\n"


def _hand_on(piece: tuple[str, str]) -> None:
    """Writes a piece of output: as it is into a file or pipe, harmless onto a terminal."""
    stream, text = piece
    if not text:
        return
    target = sys.stdout if stream == "stdout" else sys.stderr
    safe = clean(text, keep_returns=True) if target is not None and target.isatty() else text
    (write_out if stream == "stdout" else write_err)(safe)


def failure(job: Job, result: ExecutionResult) -> RlmError | None:
    """A result that is none as the error that it is."""
    if result.status == "ok":
        return None
    kind, text = _ERRORS.get(result.status, (InternalError, "The code ended in an unknown way ({status})."))
    message = text.format(
        code=result.exit_code,
        timeout="its time" if job.timeout is None else f"{job.timeout:g} s",
        memory=job.resources.memory_mb,
        disk=job.resources.disk_mb,
        signal="" if result.signal is None else f" by signal {result.signal}",
        rules=", ".join(dict.fromkeys(each.rule for each in result.verdict.findings[:5]))
        if result.verdict
        else "",
        status=result.status,
    )
    fix = _RAISE_TIMEOUT if result.status == "timeout" else job.fixes.get(result.status, "")
    return kind(message, fix=fix, status=result.status, execution=result.execution_id)
