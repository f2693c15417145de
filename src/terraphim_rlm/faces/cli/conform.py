"""`trlm conform`: a conformance suite run over a sandbox of this machine, or over somebody's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from terraphim_rlm.core.errors import Cancelled
from terraphim_rlm.faces.cli.interrupt import Work
from terraphim_rlm.faces.cli.options import AsJson, Debug, mode
from terraphim_rlm.faces.cli.out import Voice, speaking, write_out
from terraphim_rlm.faces.cli.out import as_json as as_text
from terraphim_rlm.faces.cli.words import one_line, plural, seconds

if TYPE_CHECKING:
    from terraphim_rlm.testing.conformance import Outcome
    from terraphim_rlm.testing.conformance.faults import Caught

NOT_CONFORMING = 1
_OURS = {"sandbox": "bubblewrap", "engine": "terraphim-rlm"}
SHOWN = 3
"""Failing cases that are looked for, a fault."""


def conform(
    kind: Annotated[str, typer.Option(metavar="KIND", help="What is tested: sandbox or engine.")] = "sandbox",
    target: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A backend; terraphim-rlm, rlms, dspy, rlmness or recursive-llm; or MODULE:ATTRIBUTE of your own Target.",
        ),
    ] = None,
    faults: Annotated[
        bool, typer.Option("--faults", help="Test the suite itself: each planted fault must fail a case.")
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Runs a conformance suite: everything that a sandbox or an engine promises, tried on this machine.

    A case is skipped only where the target's own capabilities say that it lacks something.
    """
    with speaking("conform", mode(as_json), debug) as voice:
        work = _faults if faults else _suite
        named = target or _OURS.get(kind, "")
        found = Work(lambda: work(kind, named, voice), _stopped).run()
        if voice.quiet:
            write_out(as_text(found, indent=2) + "\n")
        else:
            voice.say(_sum_of_faults(found) if faults else _sum(found))
        if found["missed" if faults else "failed"]:
            raise typer.Exit(NOT_CONFORMING)


async def _suite(kind: str, name: str, voice: Voice) -> dict[str, Any]:
    from terraphim_rlm.testing.conformance import cases, run_all, summary
    from terraphim_rlm.testing.conformance.targets import opened

    def emit(outcome: Outcome) -> None:
        if not voice.quiet:
            voice.say(_line(outcome))

    suite = cases(kind)
    async with opened(name, kind) as target:
        return summary(target.name, await run_all(target, suite, emit))


def _line(outcome: Outcome) -> str:
    case = outcome.case
    took = "" if outcome.verdict == "skipped" else seconds(outcome.seconds)
    why = f"  {one_line(outcome.why, 300)}" if outcome.why else ""
    return f"{outcome.verdict:<8} {took:>8}  {case.group}: {case.name}{why}"


def _sum(found: dict[str, Any]) -> str:
    failed = "; ".join(found["failed"]) or "none"
    skipped = f", {len(found['skipped'])} skipped" if found["skipped"] else ""
    return f"{found['target']}: {found['passed']} of {plural(found['of'], 'case')} passed{skipped}, failed: {failed}"


async def _faults(kind: str, name: str, voice: Voice) -> dict[str, Any]:
    from terraphim_rlm.testing.conformance import cases
    from terraphim_rlm.testing.conformance.faults import catch_all, table
    from terraphim_rlm.testing.conformance.targets import opened

    def emit(caught: Caught) -> None:
        if not voice.quiet:
            failing = "; ".join(caught.failing) or (
                "not provable here" if caught.skipped else "NO CASE FAILS"
            )
            voice.say(f"{one_line(caught.fault.name, 56):<56}  {failing}")

    suite = cases(kind)
    async with opened(name, kind) as target:
        return table(target.name, await catch_all(target, suite, SHOWN, emit, kind))


def _sum_of_faults(found: dict[str, Any]) -> str:
    missed = "; ".join(found["missed"]) or "none"
    unproven = f", {len(found['unproven'])} not provable here" if found["unproven"] else ""
    return f"{found['target']}: {len(found['caught'])} of {plural(found['of'], 'fault')} caught{unproven}, missed: {missed}"


def _stopped() -> Cancelled:
    return Cancelled("Stopped before the last case.")
