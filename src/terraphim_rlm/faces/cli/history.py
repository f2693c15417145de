"""`trlm history`: what was executed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from terraphim_rlm.faces.cli.options import AsJson, Debug, mode
from terraphim_rlm.faces.cli.out import speaking
from terraphim_rlm.faces.cli.reach import SESSION_HELP, known
from terraphim_rlm.faces.cli.words import columns, one_line, seconds, when

if TYPE_CHECKING:
    from terraphim_rlm.core.sessions import ExecutionRecord


def history(
    session: Annotated[str | None, typer.Argument(metavar="[S]", help=SESSION_HELP)] = None,
    everywhere: Annotated[
        bool, typer.Option("--all", help="In every session, and by exec without one.")
    ] = False,
    failures: Annotated[bool, typer.Option("--failures", help="Only what did not end well.")] = False,
    limit: Annotated[int, typer.Option(metavar="N", help="Most executions shown.")] = 20,
    whole: Annotated[
        bool, typer.Option("--whole", help="Fetch long code and outputs too (with --json).")
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Lists what was executed in a session, also in one that has ended, newest first."""
    with speaking("history", mode(as_json), debug) as voice:
        from terraphim_rlm.service import session_records

        wanted = None if everywhere else known(session).id
        found = session_records.history(wanted, failures=failures, limit=limit, whole=whole)
        head = ("execution", "started", "took", "language", "status", "code", "said")
        table = columns(head, map(_row, found)) if found else "Nothing was executed."
        voice.give(session_records.history_to_json(found), table)


def _row(record: ExecutionRecord) -> list[str]:
    took = "" if record.seconds is None else seconds(record.seconds)
    said = record.error["message"] if record.error else record.stdout or record.stderr
    kind = record.error["type"] + ": " if record.error else ""
    return [
        record.id,
        when(record.started),
        took,
        record.language,
        record.status,
        one_line(record.code, 40),
        one_line(kind + said, 60),
    ]
