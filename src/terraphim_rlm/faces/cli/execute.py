"""`trlm exec`: code in a sandbox; its output as it comes, and its exit code."""

from __future__ import annotations

import os
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated

import typer

from terraphim_rlm.core.errors import Cancelled, InvalidArgument, MissingArgument, PathNotFound
from terraphim_rlm.core.values import Resources
from terraphim_rlm.faces.cli import files, options
from terraphim_rlm.faces.cli.jobs import Job, report
from terraphim_rlm.faces.cli.options import (
    Allow,
    AsJson,
    Debug,
    Packages,
    Sandbox,
    allowed,
    mode,
    named_as_options,
    named_packages,
)
from terraphim_rlm.faces.cli.out import speaking
from terraphim_rlm.faces.cli.reach import job_in, living

if TYPE_CHECKING:
    from terraphim_rlm.guard.judging import GuardMode
    from terraphim_rlm.service.executions import Execution

_DEFAULT = Resources()
_MOST_CODE = 10_000_000
_MOST_STDIN = 1_000_000_000
_MOST_STDIN_SESSION = 40_000_000
"""One request to the daemon holds 64 MiB, and it carries input in base 64."""
_LIKE_CODE = frozenset("()=;$'\" \n")
_FIXES = {
    "blocked": "Change what the rule names; --guard warn runs it all the same, if you take the risk.",
    "killed": "Look for what the code does to itself; a limit that is too low (--memory, --pids) kills, too.",
    "oom": "Raise --memory.",
    "disk_full": "Raise --disk.",
}


def execute(  # noqa: PLR0913 - one parameter per option is Typer's way
    file: Annotated[str | None, typer.Argument(metavar="FILE|-", help="The code; - is standard input.")] = None,
    *,
    code: Annotated[str | None, typer.Option("-c", metavar="CODE", help="The code itself.")] = None,
    language: Annotated[str | None, typer.Option(metavar="python|javascript|bash|sh|rust|go", help="Default: by the file's name, else python.")] = None,
    timeout: Annotated[float, typer.Option(metavar="S", help="Most seconds.")] = 30.0,
    memory: Annotated[int, typer.Option(metavar="MB", help="Most memory.")] = _DEFAULT.memory_mb,
    cpus: Annotated[float, typer.Option(metavar="N", help="Most CPUs, where that can be enforced.")] = _DEFAULT.cpus,
    pids: Annotated[int, typer.Option(metavar="N", help="Most processes.")] = _DEFAULT.pids,
    disk: Annotated[int, typer.Option(metavar="MB", help="Size of its work and tmp folders, each.")] = _DEFAULT.disk_mb,
    env: Annotated[list[str] | None, typer.Option(metavar="K=V", help="A variable for the code; K alone takes yours.")] = None,
    stdin: Annotated[str | None, typer.Option(metavar="FILE|-", help="What the code reads as its input.")] = None,
    packages: Packages = None,
    allow: Allow = None,
    guard: options.Guard = "block",
    sandbox: Sandbox = "auto",
    session: Annotated[str | None, typer.Option(metavar="S", help="Run it in this session, which keeps its state.")] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Runs code in a sandbox of its own, or in a session, and ends with its exit code.

    With --json the exit code is one of ours: 0 for success, 8 for code that failed, 7 for a time-out, and so on.
    """
    with speaking("exec", mode(as_json), debug) as voice:
        hosts = allowed(allow)
        with named_as_options():
            resources = Resources(memory_mb=memory, cpus=cpus, pids=pids, disk_mb=disk, network=hosts)
        source, tongue = _code(file, code, language)
        given = _stdin(file, stdin)
        from terraphim_rlm.service.executions import Execution

        execution = Execution(source, tongue, timeout, given, dict(_variable(each) for each in env or []))
        if session is None:
            chosen = named_packages(packages), options.guard_mode(guard)
            job = _alone(execution, sandbox, resources, *chosen)
        else:
            _check_own(resources, sandbox, packages, guard)
            _check_stdin(given)
            job = job_in(living(session), execution)
        if exit_code := report(job, voice):
            raise typer.Exit(exit_code)


def _stdin(file: str | None, stdin: str | None) -> bytes | None:
    if file == "-" and stdin == "-":
        raise InvalidArgument(
            "Code and input cannot both come from standard input.", fix="Put one into a file."
        )
    return None if stdin is None else files.read(stdin, _MOST_STDIN)


def _alone(
    execution: Execution, sandbox: str, resources: Resources, packages: tuple[str, ...], guard: GuardMode
) -> Job:
    """The code in a fresh sandbox."""
    from terraphim_rlm.service.execute import ExecuteRequest
    from terraphim_rlm.service.execute import execute as executed

    request = ExecuteRequest(execution, sandbox, resources, packages, guard)
    return Job(
        lambda on_output, on_step: executed(request, on_output=on_output, on_step=on_step),
        lambda: Cancelled("Stopped; the sandbox is gone, and nothing of it is kept."),
        request.execution.timeout,
        request.resources,
        _FIXES,
    )


def _check_own(resources: Resources, sandbox: str, packages: list[str] | None, guard: str) -> None:
    """Raises:
    InvalidArgument: something is asked for that a session has from its beginning.
    """
    names = {"memory": "memory_mb", "cpus": "cpus", "pids": "pids", "disk": "disk_mb", "allow": "network"}
    given = [
        f"--{option}"
        for option, field in names.items()
        if getattr(resources, field) != getattr(_DEFAULT, field)
    ]
    given += ["--packages"] if packages else []
    given += ["--sandbox"] if sandbox != "auto" else []
    given += ["--guard"] if guard != "block" else []
    if given:
        raise InvalidArgument(
            f"A session keeps what it was made with; {' and '.join(given)} cannot change that.",
            fix=f"Make one with it: trlm session new {given[0]} ..",
        )


def _check_stdin(given: bytes | None) -> None:
    """Raises:
    InvalidArgument: a session's code cannot be given so much.
    """
    if given is not None and len(given) > _MOST_STDIN_SESSION:
        raise InvalidArgument(
            f"A session's code is given at most {_MOST_STDIN_SESSION:,} bytes as its input.",
            fix="Put the file into the session and open it there: trlm files put FILE",
        )


def _code(file: str | None, code: str | None, language: str | None) -> tuple[str, str]:
    if (file is None) == (code is None):
        kind = MissingArgument if file is None else InvalidArgument
        raise kind(
            "Give either a file (- for standard input) or -c CODE.",
            fix='For example: trlm exec -c "print(1)"',
        )
    from terraphim_rlm.sandbox.languages.table import SUFFIXES

    suffix = PurePath(file or "").suffix
    return (
        _source(file) if file is not None else code or "",
        language or SUFFIXES.get(suffix, "python"),
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
