"""Options that several commands have, said once."""

from __future__ import annotations

from typing import Annotated

import typer

from terraphim_rlm.faces.cli.out import Mode

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
AsJsonl = Annotated[bool, typer.Option("--jsonl", help="Print one JSON object a line, as they come.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="M",
        help="ollama/NAME, openrouter/NAME, openai/NAME, local, scripted:FILE or manual:DIR.  [default: the built-in one]",
    ),
]
BaseUrl = Annotated[
    str | None, typer.Option(metavar="U", help="The provider's server, if not at its usual place.")
]
Sandbox = Annotated[str, typer.Option(metavar="auto|bubblewrap", help="What isolates the code.")]


def mode(as_json: bool, as_jsonl: bool = False) -> Mode:
    return "jsonl" if as_jsonl else "json" if as_json else "text"
