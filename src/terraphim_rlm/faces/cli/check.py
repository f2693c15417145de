"""`trlm check`: what the guard says of code, which is not run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any

import typer

from terraphim_rlm.core.errors import Cancelled
from terraphim_rlm.faces.cli import files
from terraphim_rlm.faces.cli.interrupt import Work
from terraphim_rlm.faces.cli.options import AsJson, Debug, mode
from terraphim_rlm.faces.cli.out import speaking
from terraphim_rlm.faces.cli.words import one_line

_MOST = 4 << 20


def check(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="The code; - is standard input.")],
    language: Annotated[
        str | None,
        typer.Option(
            metavar="python|javascript|bash|sh|rust|go|text",
            help="Default: by the file's name, else python; text is a prompt, looked through for what hides in it.",
        ),
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Says what the guard finds in code, and runs nothing. The exit code is 10 where it would not be run."""
    with speaking("check", mode(as_json), debug) as voice:
        from terraphim_rlm.sandbox.languages.table import SUFFIXES
        from terraphim_rlm.service import check as service

        suffix = PurePath(file).suffix
        tongue = language or SUFFIXES.get(suffix) or ("text" if suffix in (".txt", ".md") else "python")
        code = files.text(file, _MOST)
        verdict = Work(lambda: service.check(code, tongue), lambda: Cancelled("Stopped.")).run()
        found = service.verdict_to_json(code, verdict)
        error = service.refused(verdict)
        voice.give(found, _as_text(found), errors=[error.to_json()] if error else ())
        if error is not None:
            raise typer.Exit(error.row.exit_code)


def _as_text(found: Mapping[str, Any]) -> str:
    lines = [found["decision"]]
    for each in found["findings"]:
        lines.append(f"line {each['line']}: {one_line(each['text'], 80)}")
        lines.append(
            f"  {each['severity']}: {each['message']} [{each['rule']}] {each['suggestion']}".rstrip()
        )
    return "\n".join(lines)
