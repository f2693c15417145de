"""`trlm runs watch|cancel`: a run of another process, followed and stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from terraphim_rlm.core.errors import Cancelled
from terraphim_rlm.core.events import EVENT_TYPES
from terraphim_rlm.core.values import SCHEMA_VERSION, to_json
from terraphim_rlm.faces.cli.again import RUN
from terraphim_rlm.faces.cli.interrupt import Work
from terraphim_rlm.faces.cli.options import AsJson, AsJsonl, Debug, mode
from terraphim_rlm.faces.cli.out import speaking
from terraphim_rlm.faces.cli.progress import Sink, shown
from terraphim_rlm.faces.cli.runs import event_of
from terraphim_rlm.faces.cli.tree import RunTree
from terraphim_rlm.faces.cli.words import clean

if TYPE_CHECKING:
    from terraphim_rlm.service.runs import RunSummary


def watch(
    run: RUN,
    after: Annotated[int, typer.Option(metavar="SEQ", help="Begin behind the event of this number.")] = 0,
    as_json: AsJson = False,
    as_jsonl: AsJsonl = False,
    debug: Debug = False,
) -> None:
    """Follows a run, also one of another process, until it ends; Ctrl-C stops the following only."""
    with speaking("runs watch", mode(as_json, as_jsonl), debug) as voice:
        from terraphim_rlm.service.runs import show_run

        tree = RunTree()
        with shown(tree, voice.mode, lambda: work.cancel()) as sink:  # noqa: PLW0108 - made below
            work: Work[int] = Work(
                lambda: _followed(run, after, sink),
                lambda: Cancelled(
                    "Stopped following; the run goes on.", fix=f"Again: `trlm runs watch {run}`."
                ),
            )
            last = work.run()
        summary = show_run(run, max_events=0).summary
        data = {"schema_version": SCHEMA_VERSION, "run": to_json(summary), "last_seq": last}
        voice.give(data, _as_text(summary))


def cancel(run: RUN, as_json: AsJson = False, debug: Debug = False) -> None:
    """Stops a run, also one of another process; what it had by then is kept as a partial answer."""
    with speaking("runs cancel", mode(as_json), debug) as voice:
        from terraphim_rlm.service import watching

        work: Work[RunSummary] = Work(
            lambda: watching.cancel(run), lambda: Cancelled("Stopped waiting for its end.")
        )
        summary = work.run()
        data = {"schema_version": SCHEMA_VERSION, "run": to_json(summary)}
        voice.give(data, _as_text(summary))
        voice.note(f"It goes on where it was: `trlm runs resume {summary.id}`.")


async def _followed(run: str, after: int, sink: Sink) -> int:
    """Hands a run's events on; the number of the last."""
    from terraphim_rlm.service import watching

    async for event in watching.watch(run, after=after):
        after = event["seq"]
        if event["type"] in EVENT_TYPES and isinstance(event["data"], dict):
            sink(event_of(event))
    return after


def _as_text(run: RunSummary) -> str:
    lines = [f"{run.id}  {run.status}{'; partial' if run.partial else ''}"]
    if run.answer:
        lines.append(clean(run.answer))
    if run.error:
        lines.append(f"error {run.error.get('code', '')}: {clean(run.error.get('message', ''))}")
    return "\n".join(lines)
