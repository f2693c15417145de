"""`trlm attack`: the attack catalogue run against this machine's sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from terraphim_rlm.core.errors import Cancelled
from terraphim_rlm.core.values import SCHEMA_VERSION
from terraphim_rlm.faces.cli.interrupt import Work
from terraphim_rlm.faces.cli.options import AsJson, Debug, mode
from terraphim_rlm.faces.cli.out import as_json as to_text
from terraphim_rlm.faces.cli.out import speaking, write_out
from terraphim_rlm.faces.cli.soak import soak
from terraphim_rlm.faces.cli.words import one_line, plural, seconds

BROKEN = 1


def attack(
    backend: Annotated[
        str, typer.Option(metavar="NAME", help="The sandbox that is attacked.")
    ] = "bubblewrap",
    tier: Annotated[
        str,
        typer.Option(
            metavar="TIER", help="How much: pr is every row once, soak thousands of mixed executions."
        ),
    ] = "pr",
    executions: Annotated[
        int | None, typer.Option(metavar="N", help="Of a soak: how many; 5,000 when nothing is said.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(metavar="M", help="Of a soak: how long.")] = None,
    seed: Annotated[int, typer.Option(metavar="S", help="Of a soak: another one makes another plan.")] = 1,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Attacks the sandbox on this machine, and proves each attack real.

    Every row of the catalogue must do no harm; the same row with its one protection off must do it.
    A soak shows what grows, and what is left, when a sandbox is used for long.
    """
    if tier == "soak":
        soak(backend, executions, minutes, seed, as_json=as_json, debug=debug)
        return
    with speaking("attack", mode(as_json), debug) as voice:
        from terraphim_rlm.testing.attack.harness import attack as attacked

        def emit(row: Mapping[str, Any]) -> None:
            if not voice.quiet:
                voice.say(_line(row))

        found = Work(
            lambda: attacked(backend, tier, emit), lambda: Cancelled("Stopped before the last row.")
        ).run()
        if voice.quiet:
            write_out(to_text({"schema_version": SCHEMA_VERSION, **found}, indent=2) + "\n")
        else:
            voice.say(_sum(found))
        if found["failed"] or found["p0_failed"]:
            raise typer.Exit(BROKEN)


def _line(row: Mapping[str, Any]) -> str:
    why = "; ".join(str(row[name]) for name in ("why", "control_why") if row.get(name))
    head = f"{row['id']:<5} {row['severity']:<3} {row['verdict']:<8} {seconds(row['seconds']):>8}"
    return f"{head}  control {row['control']:<8} {one_line(row['name'], 60)}  {one_line(why, 300)}".rstrip()


def _sum(found: Mapping[str, Any]) -> str:
    failed = ", ".join(found["failed"]) or "none"
    unproven = ", ".join(found["p0_failed"]) or "none"
    return (
        f"{found['backend']}: {found['passed']} of {plural(found['cases'], 'row')} passed, failed: {failed}; "
        f"P0 failed or unproven: {unproven}; {plural(found['controls_proven'], 'control')} did harm as they should"
    )
