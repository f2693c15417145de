"""`trlm image`: root filesystems for sandboxes in containers."""

from __future__ import annotations

from typing import Annotated

import typer

from terraphim_rlm.core.errors import Cancelled
from terraphim_rlm.faces.cli.interrupt import Work
from terraphim_rlm.faces.cli.options import AsJson, Debug, mode
from terraphim_rlm.faces.cli.out import speaking
from terraphim_rlm.faces.cli.words import clean, columns, size

Name = Annotated[
    str | None,
    typer.Argument(metavar="[NAME]", help="An image.  [default: TRLM_IMAGE, else terraphim-rlm/sandbox]"),
]
NOT_GOOD = 1


def build(
    name: Name = None,
    language: Annotated[
        list[str] | None,
        typer.Option(
            "--language", metavar="NAME", help="Besides python and bash; may be repeated.  [default: all]"
        ),
    ] = None,
    package: Annotated[
        list[str] | None,
        typer.Option(
            "--package",
            metavar="NAME",
            help="A Python package that Debian has, such as scipy; may be repeated.",
        ),
    ] = None,
    dockerfile: Annotated[
        str | None,
        typer.Option("--dockerfile", metavar="FILE", help="Build by this instead of from Debian's packages."),
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Builds an image for sandboxes in containers, on this machine's Docker engine; no registry is asked.

    The same packages give the same root filesystem, byte by byte.
    """
    with speaking("image build", mode(as_json), debug) as voice:
        from terraphim_rlm.service import images

        order = images.Order(name, tuple(language or ()), tuple(package or ()), dockerfile)

        def step(line: str) -> None:
            voice.note(f"trlm: {clean(line)}")

        made = Work(lambda: images.build(order, step), _stopped).run()
        voice.give(
            images.images_to_json([made]), f"{made.name} is built: {made.id[:19]}, {size(made.bytes)}."
        )


def list_images(as_json: AsJson = False, debug: Debug = False) -> None:
    """Lists the images that were built for sandboxes."""
    with speaking("image list", mode(as_json), debug) as voice:
        from terraphim_rlm.service import images

        found = Work(images.listed, _stopped).run()
        rows = [(each.name, size(each.bytes), each.id[:19], each.made_from[:19]) for each in found]
        text = columns(("image", "size", "id", "made from"), rows) if rows else "None yet: trlm image build"
        voice.give(images.images_to_json(found), text)


def check(name: Name = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """Runs a line of every language of an image, in a sandbox of each runtime."""
    with speaking("image check", mode(as_json), debug) as voice:
        from terraphim_rlm.service import images

        found = Work(lambda: images.check(name), _stopped).run()
        rows = [
            (backend, what, clean(came))
            for backend, each in found["found"].items()
            for what, came in each.items()
        ]
        voice.give(found, columns(("backend", "language", "came of it"), rows))
        if any(came != "ok" for _, _, came in rows):
            raise typer.Exit(NOT_GOOD)


def _stopped() -> Cancelled:
    return Cancelled("Stopped before the image was done.")
