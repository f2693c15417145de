"""`trlm keys`: who may reach the daemon over TCP."""

from __future__ import annotations

import time
from typing import Annotated, cast

import typer

from terraphim_rlm.faces.cli.options import AsJson, Debug, mode
from terraphim_rlm.faces.cli.out import speaking


def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who has it.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(metavar="S", help="What it may: read, ask, exec, admin. May be repeated."),
    ] = None,
    days: Annotated[float | None, typer.Option(metavar="N", help="End it after so many days.")] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Makes a key and prints it, this once: only its hash is kept.

    Without --scope it may read, ask questions, and use sessions.
    """
    from terraphim_rlm.service.keys import Keys, Scope

    with speaking("keys create", mode(as_json), debug) as voice:
        scopes = tuple(scope or ("read", "ask", "exec"))
        key, text = Keys().create(name, cast("tuple[Scope, ...]", scopes), days)
        voice.note(f"Key {key.id} of {key.name}, for {', '.join(key.scopes)}. It is not shown again.")
        voice.give({**key.shown(), "key": text}, text)


def list_keys(as_json: AsJson = False, debug: Debug = False) -> None:
    """Lists the keys there are, without what would let anybody in."""
    from terraphim_rlm.service.keys import Keys, keys_to_json

    with speaking("keys list", mode(as_json), debug) as voice:
        found = Keys().all()
        now = time.time()
        lines = [
            f"{key.id}  {'over' if key.expires is not None and key.expires <= now else 'good'}  "
            f"{','.join(key.scopes)}  {key.name}"
            for key in found
        ]
        voice.give(
            keys_to_json(found), "\n".join(lines) or "There is no key. Make one: trlm keys create NAME"
        )


def revoke(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Its id, or its name.")],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Ends a key; whoever has it gets in no more, from the next request on."""
    from terraphim_rlm.service.keys import Keys

    with speaking("keys revoke", mode(as_json), debug) as voice:
        found = Keys().revoke(key)
        voice.give(found.shown(), f"Key {found.id} of {found.name} is over.")
