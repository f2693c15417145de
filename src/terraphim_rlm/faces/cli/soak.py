"""`trlm attack --tier soak`: what grows and what is left after thousands of executions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from terraphim_rlm.core.errors import Cancelled
from terraphim_rlm.core.values import SCHEMA_VERSION
from terraphim_rlm.faces.cli.interrupt import Work
from terraphim_rlm.faces.cli.options import mode
from terraphim_rlm.faces.cli.out import as_json as to_text
from terraphim_rlm.faces.cli.out import speaking, write_out
from terraphim_rlm.faces.cli.words import one_line, plural, seconds

BROKEN = 1


def soak(
    backend: str, executions: int | None, minutes: float | None, seed: int, *, as_json: bool, debug: bool
) -> None:
    """Runs it and says what was found; ends with 1 when something failed."""
    with speaking("attack", mode(as_json), debug) as voice:
        from terraphim_rlm.testing.attack.soak import soak as soaked

        def emit(sample: Mapping[str, Any]) -> None:
            if not voice.quiet:
                voice.say(_line(sample))

        found = Work(
            lambda: soaked(backend, emit, executions=executions, minutes=minutes, seed=seed),
            lambda: Cancelled("Stopped before the soak was over."),
        ).run()
        if voice.quiet:
            write_out(to_text({"schema_version": SCHEMA_VERSION, **found}, indent=2) + "\n")
        else:
            voice.say(_sum(found))
        if found["failed"]:
            raise typer.Exit(BROKEN)


def _line(sample: Mapping[str, Any]) -> str:
    return (
        f"{seconds(sample['seconds']):>14}  {plural(sample['executions'], 'execution'):<20} "
        f"owner {sample['owner_kb']:,} kB, keeper {sample['keeper_kb']:,} kB, "
        f"descriptors {sample['owners_descriptors']} and {sample['keepers_descriptors']}, "
        f"processes {sample['processes']}"
    )


def _sum(found: Mapping[str, Any]) -> str:
    growth = ", ".join(f"{whose} {size:,.0f} bytes" for whose, size in found["growth"].items())
    head = (
        f"{found['backend']}: {plural(found['executions'], 'execution')} in {seconds(found['seconds'])}; "
        f"each added: {growth}; {found['passed']} of {plural(found['cases'], 'check')} passed"
    )
    return "\n".join([head, *(f"{name}: {one_line(why, 300)}" for name, why in found["why"].items())])
