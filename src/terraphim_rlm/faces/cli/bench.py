"""`trlm bench`: measures of this installation, made by the testing room."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Annotated, Any

import typer

from terraphim_rlm.core.errors import Cancelled
from terraphim_rlm.core.values import SCHEMA_VERSION
from terraphim_rlm.faces.cli.interrupt import Work
from terraphim_rlm.faces.cli.options import AsJson, AsJsonl, Debug, Model, Sandbox, mode
from terraphim_rlm.faces.cli.out import Voice, as_json, speaking, write_out
from terraphim_rlm.faces.cli.words import one_line

Emit = Callable[[Mapping[str, Any]], None]
_WIDTHS = "{row:<48} {p50:>9} {p95:>9} {p99:>9} {unit:<6} {goal:>8} {met:<4} {why}"
GOAL_MISSED = 1


def engine(
    with_peers: Annotated[
        bool,
        typer.Option("--with-peers", help="Also other engines; pip installs them the first time."),
    ] = False,
    as_json: AsJson = False,
    as_jsonl: AsJsonl = False,
    debug: Debug = False,
) -> None:
    """Measures what the engine itself costs, with the sandbox on and a model that answers at once."""
    with speaking("bench engine", mode(as_json, as_jsonl), debug) as voice:
        from terraphim_rlm.testing.bench import engine as bench

        _measured(voice, lambda emit: bench.engine(emit, with_peers=with_peers))


def guard(
    with_peers: Annotated[
        bool,
        typer.Option("--with-peers", help="Also terraphim-automata; pip installs it the first time."),
    ] = False,
    as_json: AsJson = False,
    as_jsonl: AsJsonl = False,
    debug: Debug = False,
) -> None:
    """Measures what the guard finds, what it stops wrongly, and what it costs to judge code before it runs."""
    with speaking("bench guard", mode(as_json, as_jsonl), debug) as voice:
        from terraphim_rlm.testing.bench import guard as bench

        _measured(voice, lambda emit: bench.guard(emit, with_peers=with_peers))


def sandbox(
    backend: Sandbox = "auto",
    long: Annotated[bool, typer.Option("--long", help="Also the rows that take minutes.")] = False,
    with_peers: Annotated[
        bool,
        typer.Option("--with-peers", help="Also other ways to run code; pip installs them the first time."),
    ] = False,
    as_json: AsJson = False,
    as_jsonl: AsJsonl = False,
    debug: Debug = False,
) -> None:
    """Measures what a sandbox costs to start, to use, to keep and to go back to."""
    with speaking("bench sandbox", mode(as_json, as_jsonl), debug) as voice:
        from terraphim_rlm.testing.bench import sandbox as bench

        _measured(voice, lambda emit: bench.sandbox(emit, backend=backend, long=long, with_peers=with_peers))


def tasks(  # noqa: PLR0913, PLR0917 - the options
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TASK..]", help="s-niah, ruler, oolong, oolong-pairs, needles.  [default: all]"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Which inputs and questions are made.")] = 1,
    sizes: Annotated[
        list[int] | None,
        typer.Option(
            "--size", metavar="TOKENS", help="Of an input; may be repeated.  [default: 8000, 32000, 128000]"
        ),
    ] = None,
    errors: Annotated[
        list[float] | None,
        typer.Option(
            "--errors",
            metavar="SHARE",
            help="Sub-calls answered wrongly; may be repeated.  [default: 0, 0.1]",
        ),
    ] = None,
    latency: Annotated[float, typer.Option(metavar="SECONDS", help="Of each sub-call.")] = 0.01,
    model: Model = None,
    as_json: AsJson = False,
    as_jsonl: AsJsonl = False,
    debug: Debug = False,
) -> None:
    """Plays long-input tasks end to end, at depth 0, 1 and 2: by scripts and an oracle, so without a key.

    What is measured is the engine: the same scripts and the same oracle must always come to the same score. Only `needles`
    asks a model, how much it finds of what was planted in a megabyte of real text.
    """
    with speaking("bench tasks", mode(as_json, as_jsonl), debug) as voice:
        from terraphim_rlm.testing.bench.yardsticks import running

        plan = running.planned(seed, sizes, errors, latency)
        _measured(voice, lambda emit: running.bench(names or [], plan, emit, model=model))


def _measured(voice: Voice, work: Callable[[Emit], Coroutine[Any, Any, bool]]) -> None:
    """Rows as they are measured: a table for people, a bare object a line or one at the end for programs."""
    from terraphim_rlm.testing.bench.rows import machine

    rows: list[Mapping[str, Any]] = []

    def emit(row: Mapping[str, Any]) -> None:
        rows.append(row)
        if voice.mode == "jsonl":
            write_out(as_json({**row, "machine": machine()}) + "\n")
        elif not voice.quiet:
            voice.say(_line(row))
            for name, told in row["peers"].items():
                voice.say(_beside(name, told))

    if not voice.quiet:
        voice.note(" ".join(f"{name} {value}" for name, value in machine().items()))
        voice.say(_line({name: name for name in ("row", "p50", "p95", "p99", "unit", "goal", "met", "why")}))
    met = Work(lambda: work(emit), lambda: Cancelled("Stopped before the last row.")).run()
    if voice.mode == "json":
        write_out(
            as_json(
                {"schema_version": SCHEMA_VERSION, "met": met, "machine": machine(), "rows": rows}, indent=2
            )
            + "\n"
        )
    if not met:
        raise typer.Exit(GOAL_MISSED)


def _line(row: Mapping[str, Any]) -> str:
    words = {True: "yes", False: "NO", None: ""}
    cells = {name: "" if row.get(name) is None else row[name] for name in ("p50", "p95", "p99", "goal")}
    met = row.get("met")
    return _WIDTHS.format(
        row=row.get("row"),
        unit=row.get("unit", ""),
        met=met if isinstance(met, str) else words[met],
        why=one_line(str(row.get("why", "")), 200),
        **cells,
    ).rstrip()


def _beside(name: str, told: Mapping[str, Any]) -> str:
    """A peer's line, under the row that it belongs to."""
    return _line({"row": f"  {name} {told.get('version') or ''}", "why": told.get("error", ""), **told})
