"""`trlm conform`: a conformance suite run over a sandbox of this machine, or over somebody's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from terraphim_rlm.core.errors import Cancelled
from terraphim_rlm.faces.cli.interrupt import Work
from terraphim_rlm.faces.cli.options import AsJson, Debug, mode
from terraphim_rlm.faces.cli.out import Voice, as_json, speaking, write_out
from terraphim_rlm.faces.cli.words import one_line, plural, seconds

if TYPE_CHECKING:
    from terraphim_rlm.testing.conformance import Outcome

NOT_CONFORMING = 1


def conform(
    kind: Annotated[str, typer.Option(metavar="KIND", help="What is tested: sandbox.")] = "sandbox",
    target: Annotated[
        str, typer.Option(metavar="NAME", help="A backend, or MODULE:ATTRIBUTE of your own Target.")
    ] = "bubblewrap",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Runs the conformance suite: everything that a sandbox promises, tried on this machine.

    A case is skipped only where the target's own capabilities say that it lacks something.
    """
    with speaking("conform", mode(as_json), debug) as voice:
        found = Work(lambda: _suite(kind, target, voice), _stopped).run()
        _told(voice, found)
        if found["failed"]:
            raise typer.Exit(NOT_CONFORMING)


async def _suite(kind: str, name: str, voice: Voice) -> dict[str, Any]:
    from terraphim_rlm.testing.conformance import cases, run_all, summary
    from terraphim_rlm.testing.conformance.targets import opened

    def emit(outcome: Outcome) -> None:
        if not voice.quiet:
            voice.say(_line(outcome))

    suite = cases(kind)
    async with opened(name) as target:
        return summary(target.name, await run_all(target, suite, emit))


def _line(outcome: Outcome) -> str:
    case = outcome.case
    took = "" if outcome.verdict == "skipped" else seconds(outcome.seconds)
    why = f"  {one_line(outcome.why, 300)}" if outcome.why else ""
    return f"{outcome.verdict:<8} {took:>8}  {case.group}: {case.name}{why}"


def _told(voice: Voice, found: dict[str, Any]) -> None:
    if voice.quiet:
        write_out(as_json(found, indent=2) + "\n")
        return
    failed = "; ".join(found["failed"]) or "none"
    skipped = f", {len(found['skipped'])} skipped" if found["skipped"] else ""
    voice.say(
        f"{found['target']}: {found['passed']} of {plural(found['of'], 'case')} passed{skipped}, failed: {failed}"
    )


def _stopped() -> Cancelled:
    return Cancelled("Stopped before the last case.")
