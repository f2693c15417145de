"""`trlm exec`: code in a sandbox; its output as it comes, and its exit code."""

from __future__ import annotations

import os
import sys
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated

import typer

from terraphim_rlm.core.errors import (
    BackendUnavailable,
    Cancelled,
    CodeBlocked,
    DiskFull,
    ExecutionFailed,
    ExecutionTimeout,
    InternalError,
    InvalidArgument,
    MissingArgument,
    PathNotFound,
    RlmError,
)
from terraphim_rlm.core.values import CellError, ExecutionResult, Resources
from terraphim_rlm.faces.cli import files
from terraphim_rlm.faces.cli.interrupt import Work
from terraphim_rlm.faces.cli.options import (
    AsJson,
    Debug,
    Packages,
    Sandbox,
    mode,
    named_as_options,
    named_packages,
)
from terraphim_rlm.faces.cli.out import Voice, speaking, write_err, write_out
from terraphim_rlm.faces.cli.words import clean
from terraphim_rlm.faces.cli.writer import Writer

if TYPE_CHECKING:
    from terraphim_rlm.service.execute import ExecuteRequest

_DEFAULT = Resources()
_MOST_CODE = 10_000_000
_MOST_STDIN = 1_000_000_000
_SUFFIXES = {".py": "python", ".sh": "sh", ".bash": "bash"}
_ERRORS: dict[str, tuple[type[RlmError], str]] = {
    "exit_nonzero": (ExecutionFailed, "The code failed with exit code {code}."),
    "timeout": (ExecutionTimeout, "The code was stopped after {timeout:g} s."),
    "oom": (ExecutionFailed, "The code ran out of memory ({memory} MB)."),
    "killed": (ExecutionFailed, "The code was killed by signal {signal}."),
    "disk_full": (DiskFull, "The sandbox's disk is full ({disk} MB)."),
    "blocked": (CodeBlocked, "The code was not run: {stderr}"),
    "cancelled": (Cancelled, "The code was stopped."),
    "backend_unavailable": (BackendUnavailable, "The sandbox is gone."),
}
_LIKE_CODE = frozenset("()=;$'\" \n")
_FIXES = {
    "killed": "Look for what the code does to itself; a limit that is too low (--memory, --pids) kills, too.",
    "oom": "Raise --memory.",
    "disk_full": "Raise --disk.",
    "timeout": "Raise --timeout.",
}


def execute(  # noqa: PLR0913 - one parameter per option is Typer's way
    file: Annotated[str | None, typer.Argument(metavar="FILE|-", help="The code; - is standard input.")] = None,
    *,
    code: Annotated[str | None, typer.Option("-c", metavar="CODE", help="The code itself.")] = None,
    language: Annotated[str | None, typer.Option(metavar="python|bash|sh", help="Default: by the file's name, else python.")] = None,
    timeout: Annotated[float, typer.Option(metavar="S", help="Most seconds.")] = 30.0,
    memory: Annotated[int, typer.Option(metavar="MB", help="Most memory.")] = _DEFAULT.memory_mb,
    cpus: Annotated[float, typer.Option(metavar="N", help="Most CPUs, where that can be enforced.")] = _DEFAULT.cpus,
    pids: Annotated[int, typer.Option(metavar="N", help="Most processes.")] = _DEFAULT.pids,
    disk: Annotated[int, typer.Option(metavar="MB", help="Size of its work and tmp folders, each.")] = _DEFAULT.disk_mb,
    env: Annotated[list[str] | None, typer.Option(metavar="K=V", help="A variable for the code; K alone takes yours.")] = None,
    stdin: Annotated[str | None, typer.Option(metavar="FILE|-", help="What the code reads as its input.")] = None,
    packages: Packages = None,
    sandbox: Sandbox = "auto",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Runs code in a sandbox, and ends with its exit code.

    With --json the exit code is one of ours: 0 for success, 8 for code that failed, 7 for a time-out, and so on.
    """
    with speaking("exec", mode(as_json), debug) as voice:
        with named_as_options():
            resources = Resources(memory_mb=memory, cpus=cpus, pids=pids, disk_mb=disk)
        source, tongue = _code(file, code, language)
        if file == "-" and stdin == "-":
            raise InvalidArgument(
                "Code and input cannot both come from standard input.", fix="Put one into a file."
            )
        from terraphim_rlm.service.execute import ExecuteRequest
        from terraphim_rlm.service.executions import Execution

        execution = Execution(
            source,
            tongue,
            timeout,
            None if stdin is None else files.read(stdin, _MOST_STDIN),
            dict(_variable(each) for each in env or []),
        )
        request = ExecuteRequest(execution, sandbox, resources, named_packages(packages))
        if exit_code := _executed(request, voice):
            raise typer.Exit(exit_code)


def _code(file: str | None, code: str | None, language: str | None) -> tuple[str, str]:
    if (file is None) == (code is None):
        kind = MissingArgument if file is None else InvalidArgument
        raise kind(
            "Give either a file (- for standard input) or -c CODE.",
            fix='For example: trlm exec -c "print(1)"',
        )
    suffix = PurePath(file or "").suffix
    return (
        _source(file) if file is not None else code or "",
        language or _SUFFIXES.get(suffix, "python"),
    )


def _source(file: str) -> str:
    try:
        return files.text(file, _MOST_CODE)
    except PathNotFound as error:
        if _LIKE_CODE.isdisjoint(file):
            raise
        fix = "If that is code, not the name of a file, put -c before it."
        raise PathNotFound(error.message, fix=fix, **error.details) from None


def _variable(text: str) -> tuple[str, str]:
    """`K=V`, or `K` with the value that it has here: so a secret need not stand on a command line."""
    name, equals, value = text.partition("=")
    if equals:
        return name, value
    if name not in os.environ:
        raise InvalidArgument(
            f"--env {name[:80]}: there is no such variable here.", fix="Give it as K=V.", name=name[:80]
        )
    return name, os.environ[name]


def _executed(request: ExecuteRequest, voice: Voice) -> int:
    result = _quietly(request) if voice.quiet else _streamed(request)
    error = _error(request, result)
    if voice.quiet:
        voice.give(result.to_json(), "", errors=[error.to_json()] if error else ())
        return error.row.exit_code if error else 0
    if result.truncated:
        voice.note(f"trlm: Output was cut at {request.resources.output_bytes:,} bytes per stream.")
    for note in result.notes:
        voice.note(f"trlm: {clean(note)}")
    if result.status in ("ok", "exit_nonzero") and result.exit_code is not None:
        return result.exit_code
    assert error is not None
    return voice.fail(error)


def _quietly(request: ExecuteRequest) -> ExecutionResult:
    from terraphim_rlm.service.execute import execute as executed

    return Work(lambda: executed(request), _stopped).run()


def _stopped() -> Cancelled:
    return Cancelled("Stopped; the sandbox is gone, and nothing of it is kept.")


def _streamed(request: ExecuteRequest) -> ExecutionResult:
    """Runs it and hands its output on while it comes."""
    from terraphim_rlm.service.execute import execute as executed

    written = {"stdout": 0, "stderr": 0}

    def told(stream: str, text: str) -> None:
        written[stream] += len(text)
        writer.put((stream, text))

    def step(line: str) -> None:
        writer.put(("stderr", f"trlm: {clean(line)}\n"))

    with Writer(_hand_on, lambda: work.cancel()) as writer:  # noqa: PLW0108 - made below
        work = Work(lambda: executed(request, on_output=told, on_step=step), _stopped)
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


def _error(request: ExecuteRequest, result: ExecutionResult) -> RlmError | None:
    if result.status == "ok":
        return None
    kind, text = _ERRORS.get(result.status, (InternalError, "The code ended in an unknown way ({status})."))
    message = text.format(
        code=result.exit_code,
        timeout=request.execution.timeout or 0,
        memory=request.resources.memory_mb,
        disk=request.resources.disk_mb,
        signal=result.signal,
        stderr=result.stderr[:500],
        status=result.status,
    )
    return kind(
        message, fix=_FIXES.get(result.status, ""), status=result.status, execution=result.execution_id
    )
