"""`trlm parse`: which commands a model's reply holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from terraphim_rlm.faces.cli.options import AsJson, Debug, mode
from terraphim_rlm.faces.cli.out import speaking
from terraphim_rlm.faces.cli.words import clean, one_line

_SHOWN = ("language", "name", "text", "prompt", "repairs")


def parse(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="The reply; - is standard input.")],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Shows the commands in a model's reply; runs nothing."""
    with speaking("parse", mode(as_json), debug) as voice:
        from terraphim_rlm.service.parse import parse_file

        found = parse_file(file)
        voice.give(found, _as_text(found))


def _as_text(found: Mapping[str, Any]) -> str:
    lines = []
    for number, command in enumerate(found["commands"], 1):
        lines.append(f"{number}. {command['kind']}  {_about(command)}  {_span(command)}")
        body = command.get("code") or command.get("command")
        if body:
            lines += [f"     {line}" for line in clean(body).splitlines()]
    lines += ["no command"] if not lines else []
    for each in found["dropped"]:
        detail = f" {one_line(each['detail'], 40)}" if each["detail"] else ""
        lines.append(f"dropped: {each['reason']}{detail}  {_span(each)}")
    if found["notice"]:
        lines.append(f"the model is told: {clean(found['notice'])}")
    return "\n".join(lines)


def _span(item: Mapping[str, Any]) -> str:
    return f"(characters {item['start']} to {item['end']})"


def _about(fields: Mapping[str, Any]) -> str:
    values = [value for name in _SHOWN if (value := fields.get(name))]
    return "  ".join(
        one_line(", ".join(each) if isinstance(each, list) else str(each), 200) for each in values
    )
