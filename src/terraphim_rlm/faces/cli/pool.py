"""`trlm pool`: the sandboxes that the daemon keeps ready for its next sessions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from terraphim_rlm.core.errors import PoolExhausted
from terraphim_rlm.core.values import SCHEMA_VERSION
from terraphim_rlm.faces.cli.options import AsJson, Debug, Sandbox, mode
from terraphim_rlm.faces.cli.out import speaking
from terraphim_rlm.faces.cli.reach import asked, asked_if_running
from terraphim_rlm.faces.cli.words import columns, number, one_line, plural, seconds

_NONE = "No sandbox is kept ready. The first session begins it, or: trlm pool warm"


def status(as_json: AsJson = False, debug: Debug = False) -> None:
    """Shows how many sandboxes stand ready, and how fast they were handed out."""
    with speaking("pool status", mode(as_json), debug) as voice:
        found = asked_if_running(lambda daemon: daemon.get("/api/pools"))
        pools = found["pools"] if found else []
        voice.give(
            found or {"schema_version": SCHEMA_VERSION, "pools": []}, _table(pools) if pools else _NONE
        )


def warm(
    count: Annotated[
        int | None, typer.Argument(metavar="[N]", help="How many, at most 10.  [default: 4]", min=1, max=10)
    ] = None,
    sandbox: Sandbox = "auto",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Makes sandboxes ready for the next sessions; starts the daemon where none runs.

    A daemon without sessions ends after a while, and what it kept ready with it.
    """
    with speaking("pool warm", mode(as_json), debug) as voice:
        body = {"backend": sandbox, "count": count}
        found = asked(lambda daemon: daemon.post("/api/pools/warm", body))
        for each in found["pools"]:
            if each["ready"] < each["goal"] and each["last_error"]:
                raise PoolExhausted(
                    f"{each['ready']} of {each['goal']} stand ready. The last start failed: {each['last_error']}"
                )
        ready = sum(each["ready"] for each in found["pools"])
        voice.give(found, f"{plural(ready, 'sandbox', 'sandboxes')} ready.")


def drain(as_json: AsJson = False, debug: Debug = False) -> None:
    """Ends every sandbox that stands ready; sessions go on."""
    with speaking("pool drain", mode(as_json), debug) as voice:
        found = asked_if_running(lambda daemon: daemon.post("/api/pools/drain", {}))
        voice.give(
            found or {"schema_version": SCHEMA_VERSION, "pools": []}, "No sandbox is kept ready any more."
        )


def _table(pools: list[Mapping[str, Any]]) -> str:
    head = ("sandbox", "state", "ready", "starting", "waiting", "handed out", "hits", "p50", "p95", "p99")
    text = columns(head, [_row(each) for each in pools])
    return "\n".join([text, *(_why(each) for each in pools if each["state"] == "failing")])


def _row(pool: Mapping[str, Any]) -> list[str]:
    counts = [
        f"{pool['ready']} of {pool['goal']}",
        *(number(pool[name]) for name in ("starting", "waiting", "handed_out")),
    ]
    share = f"{pool['hits'] / pool['handed_out']:.0%}" if pool["handed_out"] else ""
    times = [
        f"{pool['handout_ms'][name]:.1f} ms" if pool["handout_ms"] else "" for name in ("p50", "p95", "p99")
    ]
    return [pool["backend"], pool["state"], *counts, share, *times]


def _why(pool: Mapping[str, Any]) -> str:
    again = seconds(pool["retry_seconds"] or 0.0)
    return f"{pool['backend']} fails: {one_line(pool['last_error'] or '', 300)} Tried again in {again}."
