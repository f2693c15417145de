"""`trlm parse`: which commands a model's reply holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from terraphim_rlm.faces.cli import files
from terraphim_rlm.faces.cli.options import AsJson, Debug, mode
from terraphim_rlm.faces.cli.out import speaking
from terraphim_rlm.faces.cli.words import clean, one_line

if TYPE_CHECKING:
    from terraphim_rlm.engine.replies import ParsedReply

_MOST = 5_000_000
_SHOWN = ("language", "name", "text", "prompt", "repairs")


def parse(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="The reply; - is standard input.")],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Shows the commands in a model's reply; runs nothing."""
    with speaking("parse", mode(as_json), debug) as voice:
        reply = files.text(file, _MOST)
        from terraphim_rlm.service import parse as service

        found = service.parse(reply)
        voice.give(service.parsed_to_json(found), _as_text(found))


def _as_text(found: ParsedReply) -> str:
    from terraphim_rlm.core.values import to_json

    lines = []
    for number, command in enumerate(found.commands, 1):
        fields = to_json(command)
        lines.append(
            f"{number}. {command.kind}  {_about(fields)}  (characters {command.start} to {command.end})"
        )
        body = fields.get("code") or fields.get("command")
        if body:
            lines += [f"     {line}" for line in clean(body).splitlines()]
    lines += ["no command"] if not lines else []
    for each in found.dropped:
        detail = f" {one_line(each.detail, 40)}" if each.detail else ""
        lines.append(f"dropped: {each.reason}{detail}  (characters {each.start} to {each.end})")
    if found.notice:
        lines.append(f"the model is told: {clean(found.notice)}")
    return "\n".join(lines)


def _about(fields: Mapping[str, Any]) -> str:
    values = [value for name in _SHOWN if (value := fields.get(name))]
    return "  ".join(
        one_line(", ".join(each) if isinstance(each, list) else str(each), 200) for each in values
    )
