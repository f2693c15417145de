"""`trlm models`: the built-in models on this machine, and a test of any model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from terraphim_rlm.core.errors import Cancelled
from terraphim_rlm.core.values import SCHEMA_VERSION
from terraphim_rlm.faces.cli.interrupt import Work
from terraphim_rlm.faces.cli.options import AsJson, BaseUrl, Debug, mode
from terraphim_rlm.faces.cli.out import complain, speaking
from terraphim_rlm.faces.cli.progress import live_terminal
from terraphim_rlm.faces.cli.words import clean, columns, seconds, size, spent

Name = Annotated[str, typer.Argument(metavar="NAME", help="A built-in model, such as smollm2.")]
Progress = Callable[[str, int, int], None]
_EVERY = 2.0  # seconds between plain lines of progress


def list_models(as_json: AsJson = False, debug: Debug = False) -> None:
    """Lists the built-in models."""
    with speaking("models list", mode(as_json), debug) as voice:
        from terraphim_rlm.service import models

        found = models.list_models()
        rows = [
            (each.name, "yes" if each.installed else "no", size(each.bytes), each.license, each.description)
            for each in found
        ]
        voice.give(
            models.models_to_json(found),
            columns(("model", "installed", "size", "licence", "what it is"), rows),
        )


def get(name: Name, as_json: AsJson = False, debug: Debug = False) -> None:
    """Fetches a built-in model's weights, checks them, and puts them in place whole."""
    with speaking("models get", mode(as_json), debug) as voice:
        from terraphim_rlm.service import models

        with _progress(name, quiet=voice.quiet) as progress:
            path = models.get_model(name, progress)
        data = {"schema_version": SCHEMA_VERSION, "model": name, "path": str(path)}
        voice.give(data, f"{name} is installed: {clean(str(path))}")


def remove(name: Name, as_json: AsJson = False, debug: Debug = False) -> None:
    """Deletes a built-in model's weights."""
    with speaking("models rm", mode(as_json), debug) as voice:
        from terraphim_rlm.service import models

        gone = models.remove_model(name)
        data = {"schema_version": SCHEMA_VERSION, "model": name, "removed": gone}
        voice.give(data, f"{name} is removed." if gone else f"{name} was not installed.")


def try_out(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="As --model takes it. [default: the built-in one]")] = None,
    base_url: BaseUrl = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Sends one tiny request to a model; shows its reply, tokens and latency."""
    with speaking("models test", mode(as_json), debug) as voice:
        from terraphim_rlm.service import models

        work = Work(lambda: models.try_model(model, base_url=base_url), _unanswered)
        found = work.run()
        said = clean(found.reply) or "(nothing)"
        cost = " · ".join([*spent(found.usage, free=found.local), seconds(found.seconds)])
        voice.give(found.to_json(), f"{clean(found.model)} replied: {said}\ncost {cost}")


def _unanswered() -> Cancelled:
    return Cancelled("Stopped before the model replied.")


@contextmanager
def _progress(name: str, *, quiet: bool) -> Iterator[Progress]:
    if quiet:
        yield lambda phase, done, total: None
    elif live_terminal():
        with _bar(name) as progress:
            yield progress
    else:
        yield _plain(name)


def _plain(name: str) -> Progress:
    """A line at the start of each phase, and every few seconds."""
    last = ("", 0.0)

    def told(phase: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if phase != last[0] or now - last[1] >= _EVERY:
            last = (phase, now)
            complain(f"{name}: {phase} {size(done)} of {size(total)}")

    return told


@contextmanager
def _bar(name: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    parts = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Bars(*parts, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(name)

        def told(phase: str, done: int, total: int) -> None:
            bars.update(task, description=f"{name}: {phase}", completed=done, total=total)

        yield told
