"""`trlm ask`: a question over files, worked on before your eyes, answered with evidence and cost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from terraphim_rlm.core.errors import Cancelled, InvalidArgument, MissingArgument, RlmError
from terraphim_rlm.core.values import Limits, Resources
from terraphim_rlm.faces.cli import answers, files
from terraphim_rlm.faces.cli.answering import answered
from terraphim_rlm.faces.cli.fetching import fetched
from terraphim_rlm.faces.cli.interrupt import Work
from terraphim_rlm.faces.cli.options import (
    Allow,
    AsJson,
    BaseUrl,
    Debug,
    Guard,
    Model,
    Packages,
    Sandbox,
    allowed,
    guard_mode,
    mode,
    named_as_options,
    named_packages,
)
from terraphim_rlm.faces.cli.out import Voice, speaking
from terraphim_rlm.faces.cli.words import clean

if TYPE_CHECKING:
    from terraphim_rlm.core.values import Unpriced
    from terraphim_rlm.guard.kg.vocabulary import Strictness
    from terraphim_rlm.service.ask import AskRequest

_DEFAULT = Limits()
_MOST_SCHEMA = 1_000_000


def ask(  # noqa: PLR0913 - one parameter per option is Typer's way
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What you want to know.")],
    paths: Annotated[list[str] | None, typer.Argument(metavar="PATH..|-", help="Files, folders, globs; - is standard input. With --follow: those of that run.")] = None,
    *,
    model: Model = None,
    sub_model: Annotated[str | None, typer.Option(metavar="M", help="Answers sub-calls, if another one than --model.")] = None,
    base_url: BaseUrl = None,
    tokens: Annotated[int, typer.Option(metavar="N", help="Most tokens of all model calls.")] = _DEFAULT.tokens or 0,
    seconds: Annotated[float, typer.Option(metavar="S", help="Most wall time.")] = _DEFAULT.seconds or 0,
    turns: Annotated[int, typer.Option(metavar="N", help="Most replies per node.")] = _DEFAULT.turns or 0,
    depth: Annotated[int, typer.Option(metavar="N", help="Most levels of child nodes.")] = _DEFAULT.depth,
    dollars: Annotated[float | None, typer.Option(metavar="D", help="Most money, for models with a price.")] = None,
    unpriced: Annotated[str, typer.Option(metavar="refuse|maximum", help="With --dollars, a model without a known price is refused, or charged the highest price known.")] = "refuse",
    follow: Annotated[str | None, typer.Option(metavar="RUN", help="Go on from a run: its files are read again and its code done again, with the answers that its sub-calls had.")] = None,
    speculate: Annotated[bool | None, typer.Option("--speculate/--no-speculate", help="Begin the model calls that a reply will make while it still streams; wasted ones are paid for, and told.  [default: the configuration's `speculate`, or not]", show_default=False)] = None,
    packages: Packages = None,
    allow: Allow = None,
    guard: Guard = "block",
    graph: Annotated[str | None, typer.Option(metavar="FILE", help="A knowledge graph (`trlm kg build`) that the model's code is held to, and that it may ask.")] = None,
    strictness: Annotated[str | None, typer.Option(metavar="permissive|normal|strict", help="How strictly code is held to the graph.  [default: normal]")] = None,
    sandbox: Sandbox = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Ask no model: say which way the question would go.")] = False,
    estimate: Annotated[bool, typer.Option("--estimate", help="With --dry-run: say too what it would cost at most.")] = False,
    schema: Annotated[str | None, typer.Option(metavar="FILE", help="JSON Schema that the answer must fit.")] = None,
    as_json: AsJson = False,
    as_jsonl: Annotated[bool, typer.Option("--jsonl", help="Print each event as a line, and last the answer.")] = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Answers a question over files of any size."""
    with speaking("ask", mode(as_json, as_jsonl), debug) as voice:
        with named_as_options():
            limits = Limits(
                tokens=tokens,
                seconds=seconds,
                turns=turns,
                depth=depth,
                dollars=dollars,
                unpriced=cast("Unpriced", unpriced),
            )
        if not paths and follow is None:
            raise MissingArgument(
                "No input is named.", fix="Name files or folders, - for standard input, or --follow RUN."
            )
        wanted = None if schema is None else _schema(schema)
        from terraphim_rlm.service.ask import AskRequest

        request = AskRequest(
            question,
            tuple(paths or ()),
            model=model,
            sub_model=sub_model,
            base_url=base_url,
            limits=limits,
            sandbox=sandbox,
            schema=wanted,
            packages=named_packages(packages),
            resources=Resources(network=allowed(allow)),
            follow=follow,
            guard=guard_mode(guard),
            speculate=speculate,
            graph=graph,
            strictness=cast("Strictness | None", strictness),
        )
        if dry_run or estimate:
            _estimated(request, voice, costs=estimate)
            return
        if code := _answered(request, voice):
            raise typer.Exit(code)


def _estimated(request: AskRequest, voice: Voice, *, costs: bool) -> None:
    from terraphim_rlm.service.estimate import estimate

    work = Work(lambda: estimate(request), lambda: Cancelled("Stopped.", fix="Ask again."))
    found = work.run()
    voice.give(found.to_json(), answers.estimate_as_text(found, costs=costs))


def _answered(request: AskRequest, voice: Voice) -> int:
    """The exit code."""
    from terraphim_rlm.service.ask import ask as asked

    fetched(request.packages, request.sandbox, voice)
    if request.model and request.model.startswith("manual:"):
        folder = clean(request.model.removeprefix("manual:"))
        voice.note(
            f"You are the model: requests come as {folder}/NNNN.request.json; reply as NNNN.reply.txt."
        )
    return answered(lambda sink, decide: asked(request, sinks=(sink,), decide=decide), voice)


def _schema(name: str) -> Mapping[str, Any]:
    """The JSON Schema in a file."""
    try:
        value = json.loads(files.read(name, _MOST_SCHEMA))
    except (ValueError, RecursionError) as error:
        if isinstance(error, RlmError):
            raise
        raise InvalidArgument(f"The schema {name} is not JSON: {error}.", path=name) from None
    if not isinstance(value, dict):
        raise InvalidArgument(f"The schema {name} must be one JSON object.", path=name)
    return value
