"""`trlm runs resume|fork|replay`: a run that is there already, gone on with or gone again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from terraphim_rlm.core.errors import Cancelled
from terraphim_rlm.core.values import Limits
from terraphim_rlm.faces.cli import answers
from terraphim_rlm.faces.cli.answering import answered
from terraphim_rlm.faces.cli.interrupt import Work
from terraphim_rlm.faces.cli.options import AsJson, BaseUrl, Debug, mode, named_as_options
from terraphim_rlm.faces.cli.out import speaking
from terraphim_rlm.faces.cli.progress import shown
from terraphim_rlm.faces.cli.tree import RunTree
from terraphim_rlm.faces.cli.words import clean, plural

if TYPE_CHECKING:
    from terraphim_rlm.service.again import AgainRequest, Replay

RUN = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or the beginning of one.")]
_Model = Annotated[str | None, typer.Option(metavar="M", help="Another model than the run's own.")]
_SubModel = Annotated[str | None, typer.Option(metavar="M", help="Another model for sub-calls.")]
_Tokens = Annotated[
    int | None, typer.Option(metavar="N", help="Most tokens.  [default: the run's own limit]")
]
_Seconds = Annotated[float | None, typer.Option(metavar="S", help="Most wall time.")]
_Turns = Annotated[int | None, typer.Option(metavar="N", help="Most replies per node.")]
_Dollars = Annotated[float | None, typer.Option(metavar="D", help="Most money.")]
_AsJsonl = Annotated[
    bool, typer.Option("--jsonl", help="Print each event as a line, and last what came of it.")
]


def resume(  # noqa: PLR0913 - one parameter per option is Typer's way
    run: RUN,
    *,
    model: _Model = None,
    sub_model: _SubModel = None,
    base_url: BaseUrl = None,
    tokens: _Tokens = None,
    seconds: _Seconds = None,
    turns: _Turns = None,
    dollars: _Dollars = None,
    as_json: AsJson = False,
    as_jsonl: _AsJsonl = False,
    debug: Debug = False,
) -> None:
    """Takes a run up where it broke off; nothing that was settled is asked again."""
    with speaking("runs resume", mode(as_json, as_jsonl), debug) as voice:
        from terraphim_rlm.service import again

        request = again.AgainRequest(run, model, sub_model, base_url)
        request = _limited(request, tokens=tokens, seconds=seconds, turns=turns, dollars=dollars)
        if code := answered(lambda sink, decide: again.resume(request, sinks=(sink,), decide=decide), voice):
            raise typer.Exit(code)


def fork(  # noqa: PLR0913 - one parameter per option is Typer's way
    run: RUN,
    *,
    turn: Annotated[
        int | None, typer.Option(metavar="N", help="The turn that is asked anew.  [default: the last one]")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What the model is told in that turn besides.")
    ] = None,
    model: _Model = None,
    sub_model: _SubModel = None,
    base_url: BaseUrl = None,
    tokens: _Tokens = None,
    seconds: _Seconds = None,
    turns: _Turns = None,
    dollars: _Dollars = None,
    as_json: AsJson = False,
    as_jsonl: _AsJsonl = False,
    debug: Debug = False,
) -> None:
    """Tries a run again from one of its turns, with another model or a further word, as a new run."""
    with speaking("runs fork", mode(as_json, as_jsonl), debug) as voice:
        from terraphim_rlm.service import again

        request = again.AgainRequest(run, model, sub_model, base_url, None, turn, prompt)
        request = _limited(request, tokens=tokens, seconds=seconds, turns=turns, dollars=dollars)
        if code := answered(lambda sink, decide: again.fork(request, sinks=(sink,), decide=decide), voice):
            raise typer.Exit(code)


def replay(run: RUN, as_json: AsJson = False, as_jsonl: _AsJsonl = False, debug: Debug = False) -> None:
    """Does a run again from its record, with no model, and names what came out differently (exit code 1)."""
    with speaking("runs replay", mode(as_json, as_jsonl), debug) as voice:
        from terraphim_rlm.service import again

        tree = RunTree()
        with shown(tree, voice.mode, lambda: work.cancel()) as sink:  # noqa: PLW0108 - made below
            work: Work[Replay] = Work(
                lambda: again.replay(run, sinks=(sink,)),
                lambda: Cancelled("Stopped; a replay leaves nothing.", fix="Replay it again."),
            )
            found = work.run()
        voice.give(found.to_json(), _as_text(found))
        if not found.same:
            raise typer.Exit(1)


def _limited(request: AgainRequest, **given: Any) -> AgainRequest:
    """The request, with the run's own limits but for what is given."""
    changed = {name: value for name, value in given.items() if value is not None}
    if not changed:
        return request
    from terraphim_rlm.service.recall import recall

    with named_as_options():
        Limits(**changed)
        return replace(request, limits=replace(recall(request.run).limits, **changed))


def _as_text(found: Replay) -> str:
    done = ", ".join([
        plural(found.turns, "turn"), plural(found.cells, "cell"), plural(found.calls, "sub-call"),
    ])  # fmt: skip
    lines = [f"{found.run}: {done} from the record, no model asked."]
    lines += [f"  differs: {clean(each.execution_id)}: {clean(each.why)}" for each in found.differences]
    lines.append("All of it came out as recorded." if found.same else "Not all of it came out as recorded.")
    if not found.whole:
        lines.append(f"The record ends before the run's end: {clean(found.error or '')}")
    elif found.error is not None:
        lines.append(f"It ended as it had: {clean(found.error)}")
    if found.answer is not None:
        lines += [
            "",
            clean(found.answer.text) or "(no answer)",
            *answers.evidence_lines(found.answer.evidence),
        ]
    return "\n".join(lines)
