"""`trlm snapshot`, `trlm rollback`, `trlm branch`: states of a session that are kept, and gone back to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.core.values import SCHEMA_VERSION, to_json
from terraphim_rlm.faces.cli.options import AsJson, Debug, mode
from terraphim_rlm.faces.cli.out import speaking
from terraphim_rlm.faces.cli.reach import SessionArgument, asked, known, living, route, split
from terraphim_rlm.faces.cli.words import clean, columns, number, one_line, plural, when

_BOTH = "A session, which may be left out where only one lives, and the snapshot's name."
SessionAndName = Annotated[list[str], typer.Argument(metavar="[S] NAME", help=_BOTH)]
SessionAndCount = Annotated[
    list[str],
    typer.Argument(
        metavar="[S] N", help="A session, which may be left out where only one lives, and how many."
    ),
]
_SHOWN = 50


def create(
    words: SessionAndName,
    partial: Annotated[
        bool, typer.Option("--partial", help="Leave out what cannot be kept, and say so.")
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Keeps a session's files and interpreters as they are now, under a name."""
    with speaking("snapshot create", mode(as_json), debug) as voice:
        session, name = split(words, "snapshot create", "NAME")
        path = route(living(session).id, "snapshots")
        made = asked(lambda daemon: daemon.post(path, {"name": name, "partial": partial}))
        voice.give(made, f"Kept as {made['name']}.")
        for each in made["missing"]:
            voice.note(f"trlm: It does not hold {clean(each)}.")


def list_snapshots(session: SessionArgument = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """Lists a session's snapshots, oldest first."""
    with speaking("snapshot list", mode(as_json), debug) as voice:
        from terraphim_rlm.service import session_records

        found = session_records.snapshots(known(session).id)
        rows = [
            [each.name, each.status, when(each.created), number(each.rollbacks), each.id] for each in found
        ]
        head = ("name", "status", "made", "rollbacks", "id")
        table = columns(head, rows) if rows else "No snapshots. Make one: trlm snapshot create NAME"
        voice.give({"schema_version": SCHEMA_VERSION, "snapshots": to_json(found)}, table)


def diff(
    words: SessionAndName,
    to: Annotated[str | None, typer.Option(metavar="NAME", help="A later snapshot.  [default: now]")] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Shows which files and variables changed since a snapshot: + added, - removed, ~ changed."""
    with speaking("snapshot diff", mode(as_json), debug) as voice:
        session, name = split(words, "snapshot diff", "NAME")
        wanted = living(session).id
        found = asked(lambda daemon: daemon.get(route(wanted, "diff"), before=name, after=to))
        voice.give(found, _changes(found))


def forget(words: SessionAndName, as_json: AsJson = False, debug: Debug = False) -> None:
    """Frees what a snapshot holds."""
    with speaking("snapshot forget", mode(as_json), debug) as voice:
        session, name = split(words, "snapshot forget", "NAME")
        wanted = living(session).id
        found = asked(lambda daemon: daemon.delete(route(wanted, "snapshots", name)))
        voice.give(found, f"Forgot {name}.")


def rollback(
    words: SessionAndName,
    path: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="Bring back only this file or folder; may be repeated."),
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Takes a session back to a snapshot: its files and its interpreters, or single paths."""
    with speaking("rollback", mode(as_json), debug) as voice:
        session, name = split(words, "rollback", "NAME")
        wanted = route(living(session).id, "snapshots", name, "restore")
        found = asked(lambda daemon: daemon.post(wanted, {"paths": path or None}))
        brought = plural(len(path or []) - len(found["missing"]), "path")
        voice.give(found, f"Brought back {brought} of {name}." if path else f"Back at {name}.")
        for each in found["missing"]:
            voice.note(f"trlm: {clean(each)} is neither in the snapshot nor in the session.")


def branch(
    words: SessionAndCount,
    origin: Annotated[
        str | None, typer.Option("--from", metavar="NAME", help="A snapshot to begin as.  [default: now]")
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Makes N further sessions that begin as this one, and prints their ids."""
    with speaking("branch", mode(as_json), debug) as voice:
        session, many = split(words, "branch", "N")
        count = _count(many)
        wanted = route(living(session).id, "branch")
        found = asked(lambda daemon: daemon.post(wanted, {"count": count, "snapshot": origin}))
        voice.give(found, "\n".join(each["id"] for each in found["sessions"]))


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise InvalidArgument(
            f"N must be a number of sessions, not {text[:40]!r}.", fix="For example: trlm branch SESSION 2"
        )
    return int(text)


def _changes(found: Mapping[str, Any]) -> str:
    rows = [
        (mark, kind, each)
        for mark, field, kind in (
            ("+", "added", "file"),
            ("~", "changed", "file"),
            ("-", "removed", "file"),
            ("+", "variables_added", "variable"),
            ("-", "variables_removed", "variable"),
        )
        for each in found[field]
    ]
    lines = [f"{mark} {kind:<8}  {one_line(each, 4096)}" for mark, kind, each in rows[:_SHOWN]]
    if found["truncated"]:
        lines.append("  and more files than are told of")
    if len(rows) > _SHOWN:
        lines.append(f"  and {len(rows) - _SHOWN:,} more; --json shows all")
    return "\n".join(lines) or "Nothing changed."
