"""`trlm runs`: what was asked before, and how it went."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from terraphim_rlm.core.events import EVENT_TYPES, Event
from terraphim_rlm.faces.cli.answers import evidence_lines, evidence_of
from terraphim_rlm.faces.cli.options import AsJson, Debug, mode
from terraphim_rlm.faces.cli.out import speaking
from terraphim_rlm.faces.cli.tree import RunTree
from terraphim_rlm.faces.cli.words import clean, columns, number, one_line, seconds, spent, when

if TYPE_CHECKING:
    from terraphim_rlm.core.values import RunStatus
    from terraphim_rlm.service.runs import RunDetail, RunNode, RunSummary

_STATUSES = "accepted|running|done|failed|cancelled|interrupted"


def list_runs(
    limit: Annotated[int, typer.Option(metavar="N", help="Most runs shown.")] = 20,
    status: Annotated[str | None, typer.Option(metavar=_STATUSES, help="Only runs of this status.")] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Lists the latest runs, newest first."""
    with speaking("runs list", mode(as_json), debug) as voice:
        from terraphim_rlm.service import runs

        found = runs.list_runs(limit, cast("RunStatus | None", status))
        head = ("run", "started", "status", "tokens", "took", "question", "answer")
        table = (
            columns(head, [_row(each) for each in found])
            if found
            else "No runs yet. Ask: trlm ask QUESTION PATH"
        )
        voice.give(runs.runs_to_json(found), table)


def _row(run: RunSummary) -> list[str]:
    took = "" if run.seconds is None else seconds(run.seconds)
    end = run.answer or (run.error or {}).get("message", "")
    return [
        run.id,
        when(run.started),
        run.status,
        number(run.spent_tokens),
        took,
        one_line(run.question, 40),
        one_line(end, 60),
    ]


def show(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or the beginning of one.")],
    whole: Annotated[bool, typer.Option("--whole", help="Fetch long outputs too (with --json).")] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Shows one run: its tree, its answer, its cost."""
    with speaking("runs show", mode(as_json), debug) as voice:
        from terraphim_rlm.service import runs

        detail = runs.show_run(run, whole=whole)
        voice.give(detail.to_json(), _as_text(detail))


def _as_text(detail: RunDetail) -> str:
    run, tree = detail.summary, RunTree()
    evidence: list[str] = []
    for event in sorted(_events(detail.nodes), key=lambda each: each.seq):
        tree(event)
        if event.type == "answer" and event.parent is None:
            evidence = evidence_lines(evidence_of(event.data))
    lines = [
        f"{run.id}  {run.status}  {when(run.started)}  {one_line(run.model, 80)}",
        *(f"{'  ' * line.indent}{line.text}" for line in tree.lines()),
    ]
    if run.answer is not None:
        lines += ["", clean(run.answer), *evidence]
    if run.confidence:
        lines.append(f"{run.confidence.replace('_', ' ')}{'; partial' if run.partial else ''}")
    if run.error:
        lines.append(f"error {run.error.get('code', '')}: {clean(run.error.get('message', ''))}")
    took = [] if run.seconds is None else [seconds(run.seconds)]
    lines.append(f"cost {' · '.join([*spent(run.usage, free=tree.free), *took])}")
    if run.spent_tokens > run.usage.tokens:
        lines.append(f"  counted as spent: {run.spent_tokens:,} tokens, since the run was cut off")
    return "\n".join(lines)


def _events(nodes: list[RunNode]) -> Iterator[Event]:
    """The journal's events of a run, as events again; what is none is left out."""
    for node in nodes:
        for raw in node.events:
            if raw.get("type") in EVENT_TYPES and isinstance(raw.get("data"), dict):
                yield event_of(raw)
        yield from _events(node.children)


def event_of(raw: dict[str, Any]) -> Event:
    """An event of the journal as an event again."""
    return Event(
        raw["type"], raw["run"], raw["node"], raw["parent"], raw["seq"], raw["time"], raw["data"], raw["id"]
    )
