"""How commands find a session and ask the daemon that keeps it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar
from urllib.parse import quote

import typer

from terraphim_rlm.core.errors import Cancelled, MissingArgument
from terraphim_rlm.core.values import Resources
from terraphim_rlm.faces.cli.interrupt import Work
from terraphim_rlm.faces.cli.jobs import Job, OnOutput, OnStep

if TYPE_CHECKING:
    from terraphim_rlm.core.sessions import Session
    from terraphim_rlm.core.values import ExecutionResult
    from terraphim_rlm.faces.client.connection import Connection
    from terraphim_rlm.service.executions import Execution

T = TypeVar("T")
_FIXES = {
    "killed": "Look for what the code does to itself; a limit of the session that is too low kills, too.",
    "oom": "Make a session with more: trlm session new --memory MB.",
    "disk_full": "Remove files, or make a session with more: trlm session new --disk MB.",
    "interrupted": "Make another one with `trlm session new`.",
}
SESSION_HELP = "Its name, its id or a beginning of that; needless where only one lives."
SessionArgument = Annotated[str | None, typer.Argument(metavar="[S]", help=SESSION_HELP)]
SessionOption = Annotated[str | None, typer.Option("--session", metavar="S", help=SESSION_HELP)]


def asked(ask: Callable[[Connection], Awaitable[T]]) -> T:
    """What `ask` gets of the daemon, which is started where none serves.

    Raises:
        Cancelled: Ctrl-C; the connection is closed, and work that the daemon did for it stopped.
        RlmError: what the daemon answers, or that there is none.
    """

    async def work() -> T:
        from terraphim_rlm.faces.client.daemon import daemon

        async with daemon() as connection:
            return await ask(connection)

    return Work(work, _left).run()


def asked_if_running(ask: Callable[[Connection], Awaitable[T]]) -> T | None:
    """As `asked`, without starting a daemon; None where none runs."""

    async def work() -> T | None:
        from terraphim_rlm.faces.client.daemon import running_daemon

        async with running_daemon() as connection:
            return None if connection is None else await ask(connection)

    return Work(work, _left).run()


def _left() -> Cancelled:
    return Cancelled("Interrupted.", fix="What the daemon had begun may be done: `trlm session show` tells.")


def known(wanted: str | None) -> Session:
    """The session that is meant, living or not; without a word, the only one that lives.

    Raises:
        SessionNotFound: there is none.
        InvalidArgument: several may be meant; they are listed.
    """
    from terraphim_rlm.service.session_records import find_session, only_session

    return only_session() if wanted is None else find_session(wanted)


def living(wanted: str | None) -> Session:
    """The living session that is meant. No daemon is started to be told that it has none.

    Raises:
        SessionError: it does not live.
        InvalidArgument: as for `known`.
    """
    from terraphim_rlm.core.sessions import gone

    found = known(wanted)
    if found.status != "live":
        raise gone(found)
    return found


def job_in(session: Session, execution: Execution) -> Job:
    """Code in a session; Ctrl-C stops the code, and the session goes on."""

    async def run(on_output: OnOutput | None, _: OnStep | None) -> ExecutionResult:
        from terraphim_rlm.faces.client.daemon import daemon
        from terraphim_rlm.faces.client.executing import execute

        async with daemon() as connection:
            return await execute(connection, session.id, execution, on_output)

    called = session.name or session.id
    had = {**session.resources, "network": tuple(session.resources["network"])}
    return Job(
        run,
        lambda: Cancelled(f"Stopped; the session {called} goes on.", fix="Its state is what the code left."),
        execution.timeout,
        Resources(**had),
        _FIXES,
    )


def split(words: list[str], command: str, last: str) -> tuple[str | None, str]:
    """`[S] LAST`: the session, if it is named, and the last word.

    Raises:
        MissingArgument: there are more or fewer words.
    """
    if len(words) not in (1, 2):
        raise MissingArgument(
            f"`trlm {command}` takes a session, which may be left out, and {last}.",
            fix=f"For example: trlm {command} SESSION {last}",
        )
    return (words[0] if len(words) == 2 else None), words[-1]


def route(session: str, *parts: str) -> str:
    """The path of a session, or of something of it, at the daemon."""
    return "/".join(
        ["/api/sessions", *(quote(part, safe="", errors="surrogateescape") for part in (session, *parts))]
    )
