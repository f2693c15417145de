"""`trlm runs export`: a run in a form that other programs read, or a page to look at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from terraphim_rlm.faces.cli.options import AsJson, Debug, mode
from terraphim_rlm.faces.cli.out import Voice, speaking, write_out
from terraphim_rlm.faces.cli.words import plural, size

_FORMATS = "jsonl|upstream|rlms|otel|sft|html"


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or the beginning of one.")],
    form: Annotated[str, typer.Option("--format", metavar=_FORMATS, help="What it is written as.")] = "jsonl",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Where to; without it, standard output."),
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Writes a run for other programs, or as a page; reads the journal only, also of a run that was cut off.

    What looks like a credential is masked. With --json and without --out, the text stands in the result.
    """
    with speaking("runs export", mode(as_json), debug) as voice:
        from terraphim_rlm.service.exports.export import export_run, save

        made = export_run(run, form)
        about = {"run": made.run, "format": made.format, "masked": made.masked}
        if out is not None:
            written = save(out, made.text)
            voice.give(
                {**about, "path": str(out), "bytes": written}, f"{out}: {size(written)}, {made.format}"
            )
        elif voice.quiet:
            voice.give({**about, "text": made.text}, "")
        else:
            write_out(made.text)
        _warn(voice, made.masked)


def schema(debug: Debug = False) -> None:
    """Prints the JSON Schema of a line that `trlm runs export --format jsonl` writes."""
    with speaking("runs schema", "text", debug):
        from terraphim_rlm.service.exports.lines import schema as of_lines

        write_out(json.dumps(of_lines(), ensure_ascii=False, indent=2) + "\n")


def _warn(voice: Voice, masked: int) -> None:
    if masked:
        voice.note(f"{plural(masked, 'credential')} masked.")
