"""`trlm kg`: a knowledge graph from documents, and what it says of a text."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from terraphim_rlm.core.errors import CodeBlocked, MissingArgument
from terraphim_rlm.faces.cli import files
from terraphim_rlm.faces.cli.options import AsJson, Debug, mode
from terraphim_rlm.faces.cli.out import complain, speaking
from terraphim_rlm.faces.cli.progress import live_terminal
from terraphim_rlm.faces.cli.words import columns, one_line, plural

if TYPE_CHECKING:
    from terraphim_rlm.guard.kg.vocabulary import Strictness

Progress = Callable[[str, int, int], None]
_MOST_TEXT = 1 << 20
_EVERY = 2.0
_PHASES = {"reading": "1 of 3, reading", "counting": "2 of 3, counting", "joining": "3 of 3, joining"}

Graph = Annotated[
    str,
    typer.Argument(
        metavar="GRAPH",
        help="What `trlm kg build` wrote, a thesaurus in JSON, or a folder of Markdown files with `synonyms::` lines.",
    ),
]


def build(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Markdown documents, in any folders below it.")],
    out: Annotated[str | None, typer.Option(metavar="FILE", help="Where the graph goes.  [default: FOLDER's name with .kg.json, here]")] = None,
    name: Annotated[str | None, typer.Option(metavar="N", help="The graph's name.  [default: FOLDER's]")] = None,
    least: Annotated[int, typer.Option(metavar="N", help="Documents in which a name must occur to be a concept.")] = 2,
    most: Annotated[int, typer.Option(metavar="N", help="Most concepts; those in most documents are kept.")] = 20_000,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is no knowledge graph, too.")] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Builds a knowledge graph from a folder of Markdown documents."""
    with speaking("kg build", mode(as_json), debug) as voice:
        from terraphim_rlm.service.knowledge import BuildRequest, build_graph

        request = BuildRequest(folder, out, name, least, most, force)
        with _progress(quiet=voice.quiet) as told:
            data = build_graph(request, told)
        for each in data["left_out"]:
            voice.note(f"Left out: {one_line(each, 200)}")
        voice.give(data, _built(data))


def check(
    graph: Graph,
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="What is looked at.")] = None,
    file: Annotated[str | None, typer.Option("--file", metavar="FILE|-", help="Look at a file in place of TEXT.")] = None,
    language: Annotated[str, typer.Option(metavar="L", help="Of code: python, bash, javascript, rust, go; what it says in strings and comments is looked at. text: every word.")] = "text",
    strictness: Annotated[str, typer.Option(metavar="permissive|normal|strict", help="How strictly.")] = "normal",
    least_ratio: Annotated[float, typer.Option(metavar="R", help="Least share of known words, from 0 to 1.")] = 0.1,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Says whether a text speaks the language of a knowledge graph; exit code 10 when it would be blocked."""
    with speaking("kg check", mode(as_json), debug) as voice:
        from terraphim_rlm.service.knowledge import check_text

        if (text is None) == (file is None):
            raise MissingArgument(
                "Nothing, or two things, are to be looked at.", fix="Give TEXT or --file FILE."
            )
        given = text if file is None else files.text(file, _MOST_TEXT)
        data, said = check_text(graph, given or "", language, cast("Strictness", strictness), least_ratio)
        blocked = None
        if said.decision == "block":
            why = said.findings[-1]
            blocked = CodeBlocked(f"Blocked: {why.message}", fix=why.suggestion, rule=why.rule)
        voice.give(data, _checked(data), errors=[blocked.to_json()] if blocked else ())
        if blocked is not None:
            raise typer.Exit(blocked.row.exit_code)


def search(
    graph: Graph,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="Words that name concepts.")],
    limit: Annotated[int, typer.Option(metavar="N", help="Most documents.")] = 10,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Finds the documents that name concepts, and what those are named beside."""
    with speaking("kg search", mode(as_json), debug) as voice:
        from terraphim_rlm.service.knowledge import search_graph

        data = search_graph(graph, query, limit)
        voice.give(data, _searched(data))


def connect(
    graph: Graph,
    terms: Annotated[list[str], typer.Argument(metavar="TERM TERM..", help="Two or more.")],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Says whether terms are connected, and the shortest path from each to the next."""
    with speaking("kg connect", mode(as_json), debug) as voice:
        from terraphim_rlm.service.knowledge import connect_terms

        data = connect_terms(graph, terms)
        voice.give(data, _connected(data))


def _built(data: Mapping[str, Any]) -> str:
    parts = data["components"]
    whole = (
        f"{plural(len(parts), 'connected part')}, the largest of {plural(parts[0], 'concept')}"
        if parts
        else "no part"
    )
    top = ", ".join(one_line(each["concept"], 40) for each in data["top"])
    return "\n".join(
        [
            f"{data['path']}: {plural(data['documents'], 'document')}, {plural(data['concepts'], 'concept')}, "
            f"{plural(data['terms'], 'term')}, {plural(data['edges'], 'edge')}; {whole}.",
            f"Named most: {top}.",
        ]
    )


def _checked(data: Mapping[str, Any]) -> str:
    ratio = "no word counts" if data["ratio"] is None else f"{data['ratio']:.0%} of its words are known"
    joined = "" if data["connected"] else "; its concepts are not connected"
    lines = [f"{data['decision']} ({data['strictness']}): {ratio}{joined}"]
    lines += [
        f"  {each['start']}..{each['end']}  {one_line(each['term'], 60)} = {one_line(each['concept'], 60)}"
        for each in data["found"]
    ]
    for each in data["findings"]:
        advice = f" {each['suggestion']}" if each["suggestion"] else ""
        lines.append(
            f"  {each['start']}..{each['end']}  {each['rule']}: {one_line(each['message'] + advice, 240)}"
        )
    return "\n".join(lines)


def _searched(data: Mapping[str, Any]) -> str:
    lines = []
    for each in data["concepts"]:
        beside = ", ".join(
            f"{one_line(other['concept'], 40)} ({other['count']})" for other in each["related"]
        )
        named = f"{each['rank']:,} times in {plural(each['documents'], 'document')}"
        lines.append(f"{one_line(each['concept'], 60)}: {named}" + (f"; beside {beside}" if beside else ""))
    rows = [(str(each["rank"]), each["path"], ", ".join(each["concepts"])) for each in data["documents"]]
    table = columns(("rank", "document", "names"), rows) if rows else "No document names them."
    return "\n".join([*lines, "", table])


def _connected(data: Mapping[str, Any]) -> str:
    lines = ["connected" if data["connected"] else "not connected"]
    for step in data["paths"]:
        path = " - ".join(one_line(each, 40) for each in step["path"])
        lines.append(f"  {path}" if path else f"  {step['from']} .. {step['to']}: no path")
    return "\n".join(lines)


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Progress]:
    """A bar on a terminal; elsewhere a line for each phase that takes long."""
    if quiet:
        yield lambda *_: None
    elif live_terminal():
        with _bar() as told:
            yield told
    else:
        yield _plain()


def _plain() -> Progress:
    last = time.monotonic()

    def told(phase: str, done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _EVERY:
            last = time.monotonic()
            complain(f"{_PHASES[phase]}: {done:,} of {plural(total, 'document')}")

    return told


@contextmanager
def _bar() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    parts = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*parts, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("")

        def told(phase: str, done: int, total: int) -> None:
            bars.update(task, description=_PHASES[phase], completed=done, total=total)

        yield told
