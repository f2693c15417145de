"""`trlm session`: sandboxes that last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from terraphim_rlm.core.values import Resources, to_json
from terraphim_rlm.faces.cli import options
from terraphim_rlm.faces.cli.fetching import fetched
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
from terraphim_rlm.faces.cli.reach import SessionArgument, asked, known, living, route
from terraphim_rlm.faces.cli.words import columns, number, one_line, plural, seconds, size, when

if TYPE_CHECKING:
    from terraphim_rlm.core.network import AccessRecord
    from terraphim_rlm.core.sessions import Session

_DEFAULT = Resources()


def new(  # noqa: PLR0913 - one parameter per option is Typer's way
    *,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="By which it can be called, too.")] = None,
    memory: Annotated[int, typer.Option(metavar="MB", help="Most memory.")] = _DEFAULT.memory_mb,
    cpus: Annotated[float, typer.Option(metavar="N", help="Most CPUs, where that can be enforced.")] = _DEFAULT.cpus,
    pids: Annotated[int, typer.Option(metavar="N", help="Most processes.")] = _DEFAULT.pids,
    disk: Annotated[int, typer.Option(metavar="MB", help="Size of its work and tmp folders, each.")] = _DEFAULT.disk_mb,
    packages: Packages = None,
    allow: Allow = None,
    guard: options.Guard = "block",
    sandbox: Sandbox = "auto",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Makes a session and prints its id. It lasts 30 minutes; see `trlm session extend`."""
    with speaking("session new", mode(as_json), debug) as voice:
        hosts = allowed(allow)
        with named_as_options():
            resources = Resources(memory_mb=memory, cpus=cpus, pids=pids, disk_mb=disk, network=hosts)
        wanted = named_packages(packages)
        fetched(wanted, sandbox, voice)
        body = {
            "name": name,
            "backend": sandbox,
            "resources": asdict(resources),
            "packages": wanted,
            "guard": options.guard_mode(guard),
        }
        made = asked(lambda daemon: daemon.post("/api/sessions", body))
        voice.give(made, made["id"])
        called = name or made["id"]
        voice.note(f"It lasts until {when(made['expires'])}. Use it: trlm exec --session {called} -c CODE")


def list_sessions(
    ended: Annotated[bool, typer.Option("--all", help="Also those that have ended.")] = False,
    limit: Annotated[int, typer.Option(metavar="N", help="Most sessions shown.")] = 100,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Lists the sessions that live, newest first."""
    with speaking("session list", mode(as_json), debug) as voice:
        from terraphim_rlm.service import session_records

        found = session_records.list_sessions(limit, status=None if ended else "live")
        head = ("session", "name", "status", "made", "until", "executions", "failed")
        table = (
            columns(head, [_row(each) for each in found])
            if found
            else "No session lives. Make one: trlm session new"
        )
        voice.give(session_records.sessions_to_json(found), table)


def _row(session: Session) -> list[str]:
    end = session.expires if session.ended is None else session.ended
    counts = [number(session.executions), number(session.failures)]
    return [session.id, session.name or "", session.status, when(session.created), when(end), *counts]


def show(session: SessionArgument = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """Shows one session, also one that has ended."""
    with speaking("session show", mode(as_json), debug) as voice:
        found: dict[str, Any] = to_json(known(session))
        voice.give(found, as_text(found))


def network(
    session: SessionArgument = None,
    refused: Annotated[bool, typer.Option("--refused", help="Only what was refused.")] = False,
    limit: Annotated[int, typer.Option(metavar="N", help="Most lines shown.")] = 50,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Lists what a session's code reached over the network, or was refused, newest first."""
    with speaking("session network", mode(as_json), debug) as voice:
        from terraphim_rlm.service import session_records

        found = session_records.accesses(known(session).id, refused=refused, limit=limit)
        head = ("time", "decision", "host", "how", "up", "down", "took", "why")
        table = (
            columns(head, [_access(each) for each in found])
            if found
            else "Nothing was reached, nothing refused."
        )
        voice.give(session_records.accesses_to_json(found), table)


def _access(record: AccessRecord) -> list[str]:
    data = record.data
    over = data["decision"] == "closed"
    more = f" ({data['count']:,} times so far)" if data["count"] > 1 else ""
    return [
        when(record.time),
        data["decision"],
        one_line(f"{data['name']}:{data['port']}", 60),
        data["how"],
        size(data["bytes_up"]) if over else "",
        size(data["bytes_down"]) if over else "",
        seconds(data["seconds"]) if over else "",
        one_line(data["reason"] + more, 100),
    ]


def extend(session: SessionArgument = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """Lets a session last 30 minutes longer, at most three times."""
    with speaking("session extend", mode(as_json), debug) as voice:
        wanted = living(session).id
        found = asked(lambda daemon: daemon.post(route(wanted, "extend"), {}))
        voice.give(found, f"{found['id']} lasts until {when(found['expires'])}.")


def destroy(session: SessionArgument = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """Ends a session; its files and its state are gone."""
    with speaking("session destroy", mode(as_json), debug) as voice:
        wanted = living(session).id
        found = asked(lambda daemon: daemon.delete(route(wanted)))
        voice.give(found, f"{found['id']} is gone, after {plural(found['executions'], 'execution')}.")


def as_text(session: Mapping[str, Any]) -> str:
    """A session as lines of a name and a value."""
    had = session["resources"]
    rows = {
        "session": session["id"],
        "name": session["name"],
        "status": session["status"],
        "made": when(session["created"]),
        "until": when(session["ended"] or session["expires"]),
        "extended": plural(session["extensions"], "time") if session["extensions"] else None,
        "branched from": session["origin"],
        "beginning with": session["snapshot"],
        "sandbox": session["backend"],
        "memory": size(had["memory_mb"] * 1e6),
        "disk": size(had["disk_mb"] * 1e6),
        "packages": ", ".join(session["packages"]),
        "network": ", ".join(had.get("network", ())),
        "executions": f"{session['executions']:,}, {session['failures']:,} failed",
    }
    wide = max(map(len, rows))
    return "\n".join(f"{name:<{wide}}  {value}" for name, value in rows.items() if value)
