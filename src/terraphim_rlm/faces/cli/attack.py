"""`trlm attack`: the attack catalogue run against this machine's sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from terraphim_rlm.core.errors import Cancelled
from terraphim_rlm.core.values import SCHEMA_VERSION
from terraphim_rlm.faces.cli.interrupt import Work
from terraphim_rlm.faces.cli.options import AsJson, AsJsonl, Debug, mode
from terraphim_rlm.faces.cli.out import Voice, speaking, write_out
from terraphim_rlm.faces.cli.out import as_json as to_text
from terraphim_rlm.faces.cli.soak import soak
from terraphim_rlm.faces.cli.words import one_line, plural, seconds

BROKEN = 1


def attack(  # noqa: PLR0913, PLR0917 - the command's options
    backend: Annotated[
        str, typer.Option(metavar="NAME", help="The sandbox that is attacked.")
    ] = "bubblewrap",
    tier: Annotated[
        str,
        typer.Option(
            metavar="TIER",
            help="How much: pr is every row once, full 20 times, soak thousands of mixed executions.",
        ),
    ] = "pr",
    row: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Only this row; may be repeated.")
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(metavar="N", help="How often each row is run, in place of the tier's number."),
    ] = None,
    executions: Annotated[
        int | None, typer.Option(metavar="N", help="Of a soak: how many; 5,000 when nothing is said.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(metavar="M", help="Of a soak: how long.")] = None,
    seed: Annotated[
        int,
        typer.Option(metavar="S", help="Of whatever is random; a row that is run again has the next one."),
    ] = 1,
    as_json: AsJson = False,
    as_jsonl: AsJsonl = False,
    debug: Debug = False,
) -> None:
    """Attacks the sandbox on this machine, and proves each attack real.

    Every row of the catalogue must do no harm; the same row with its one protection off must do it.
    A soak shows what grows, and what is left, when a sandbox is used for long.
    """
    if tier == "soak":
        soak(backend, executions, minutes, seed, as_json=as_json, debug=debug)
        return
    with speaking("attack", mode(as_json, as_jsonl), debug) as voice:
        _attack(voice, backend, (tier, repeats, seed, tuple(row or ())))


def _attack(voice: Voice, backend: str, planned: tuple[str, int | None, int, tuple[str, ...]]) -> None:
    from terraphim_rlm.testing.attack.tiers import Plan, attack

    plan = Plan(*planned)

    def emit(one: Mapping[str, Any]) -> None:
        if voice.mode == "jsonl":
            write_out(to_text({"schema_version": SCHEMA_VERSION, **one}) + "\n")
        elif not voice.quiet:
            voice.say(_line(one))

    found = Work(
        lambda: attack(backend, plan, emit, voice.note), lambda: Cancelled("Stopped before the last row.")
    ).run()
    _told(voice, found)
    if not found["met"] or (plan.tier == "pr" and found["failed"]):
        raise typer.Exit(BROKEN)


def _told(voice: Voice, found: Mapping[str, Any]) -> None:
    if voice.quiet:
        indent = None if voice.mode == "jsonl" else 2
        write_out(to_text({"schema_version": SCHEMA_VERSION, **found}, indent=indent) + "\n")
        return
    for name, why in found["not_run"].items():
        voice.say(f"{name:<13} not run: {one_line(why, 200)}")
    voice.say(_sum(found))


def _line(row: Mapping[str, Any]) -> str:
    why = "; ".join(str(row[name]) for name in ("why", "control_why") if row.get(name))
    often = f" {row['passes']}/{row['repeats']}" if row["repeats"] > 1 else ""
    head = f"{row['id']:<5} {row['severity']:<3} {row['verdict'] + often:<8} {seconds(row['seconds']):>8}"
    return f"{head}  control {row['control']:<8} {one_line(row['name'], 60)}  {one_line(why, 300)}".rstrip()


def _sum(found: Mapping[str, Any]) -> str:
    ids = {key for key in found["not_run"] if " " not in key}
    rate = "no P1 row ran" if found["p1_rate"] is None else f"P1 rows passed {found['p1_rate']:.2%}"
    return (
        f"{found['backend']}, tier {found['tier']}, seed {found['seed']}, each row {plural(found['repeats'], 'time')}: "
        f"{found['passed']} of {plural(found['cases'], 'case')} passed, {len(ids)} not run; "
        f"failed: {', '.join(found['failed']) or 'none'}; "
        f"P0 failed or unproven: {', '.join(found['p0_failed']) or 'none'}; hung: {', '.join(found['hung']) or 'none'}; "
        f"{rate}; {plural(found['controls_proven'], 'control')} did harm as they should"
    )
