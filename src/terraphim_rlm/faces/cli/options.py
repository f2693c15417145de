"""Options that several commands have, said once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.faces.cli.out import Mode

if TYPE_CHECKING:
    from terraphim_rlm.guard.judging import GuardMode

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
AsJsonl = Annotated[bool, typer.Option("--jsonl", help="Print one JSON object a line, as they come.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="M",
        help="ollama/NAME, anthropic/NAME, openrouter/NAME, openai/NAME, local, scripted:FILE or manual:DIR.  [default: the built-in one]",
    ),
]
BaseUrl = Annotated[
    str | None, typer.Option(metavar="U", help="The provider's server, if not at its usual place.")
]
Sandbox = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="What isolates the code: auto (takes bubblewrap alone), bubblewrap, docker+runsc or docker+runc.",
    ),
]

Packages = Annotated[
    list[str] | None,
    typer.Option(
        metavar="P,..", help="Python packages that the code may import, such as numpy==2.*; may be repeated."
    ),
]


Allow = Annotated[
    list[str] | None,
    typer.Option(
        metavar="HOST",
        help="A host that the code may reach, such as docs.example.org, *.example.com or example.org:8443; may be repeated.",
    ),
]


Guard = Annotated[
    str,
    typer.Option(
        metavar="block|warn|off",
        help="Code that breaks a rule of the guard is not run, or run and told of, or not looked at.",
    ),
]


def allowed(given: list[str] | None) -> tuple[str, ...]:
    """What `--allow` came to, each of them checked."""
    if not given:
        return ()
    from terraphim_rlm.sandbox.egress.rules import allowlist

    names = tuple(part for each in given for part in each.split(",") if part)
    try:
        allowlist(names)
    except InvalidArgument as error:
        message = error.message.replace("network holds", "--allow holds").replace(
            "network may", "--allow may"
        )
        raise InvalidArgument(message, fix=error.fix) from None
    return names


def guard_mode(given: str) -> GuardMode:
    """What `--guard` came to."""
    from terraphim_rlm.guard.judging import check_mode

    return check_mode(given)


def named_packages(given: list[str] | None) -> tuple[str, ...]:
    """What `--packages` came to, each of them checked."""
    from terraphim_rlm.sandbox.packages.requirements import listed, normalised

    return normalised(part for each in given or () for part in listed(each))


@contextmanager
def named_as_options() -> Iterator[None]:
    """Complaints of `Limits` and `Resources` about a field name the option that it came from."""
    try:
        yield
    except InvalidArgument as error:
        field = str(error.details.get("name", ""))
        option = f"--{field.removesuffix('_mb')}"
        message = re.sub(rf"^\w+\.{re.escape(field)}\b", option, error.message)
        fix = f"Give {option} a sensible value, or leave it out for the default."
        raise InvalidArgument(message, fix=fix, **error.details) from None


def mode(as_json: bool, as_jsonl: bool = False) -> Mode:
    return "jsonl" if as_jsonl else "json" if as_json else "text"
