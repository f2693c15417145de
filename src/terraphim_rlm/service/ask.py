"""The use case of one question, as every face asks it."""

from __future__ import annotations

import difflib
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from terraphim_rlm.core.errors import InvalidArgument, PathNotFound
from terraphim_rlm.core.events import EventSink
from terraphim_rlm.core.values import Answer, Limits, Resources
from terraphim_rlm.guard.asking import Decider
from terraphim_rlm.guard.judging import GuardMode, check_mode
from terraphim_rlm.guard.settings import configured_guard
from terraphim_rlm.llm.client import ModelClient
from terraphim_rlm.llm.select import open_model, read_settings
from terraphim_rlm.sandbox.packages.requirements import normalised
from terraphim_rlm.service.desk import Desk, Question, Settings

if TYPE_CHECKING:
    from terraphim_rlm.guard.kg.vocabulary import Strictness

_MOST_NAMES = 10_000
"""Names in a folder among which the one that was meant is looked for."""


@dataclass(frozen=True, slots=True)
class AskRequest:
    """One question over named inputs."""

    question: str
    paths: tuple[str, ...] = ()
    """Files, folders and globs; `-` alone is standard input."""
    text: str | None = None
    """The input itself, in place of paths."""
    model: str | None = None
    """`provider/model`; None = `TRLM_MODEL`, the configuration, or the built-in model."""
    sub_model: str | None = None
    base_url: str | None = None
    limits: Limits = field(default_factory=Limits)
    resources: Resources = field(default_factory=Resources)
    sandbox: str = "auto"
    schema: Mapping[str, Any] | None = None
    packages: tuple[str, ...] = ()
    """Python packages for the code to import; see `service.packages`."""
    speculate: bool | None = None
    """Begin what a reply will ask for while it streams; None = as the configuration says."""
    follow: str | None = None
    """Id of a run to go on from; without `paths` and `text`, over its input."""
    guard: GuardMode = "block"
    """How the rules on the model's code act."""
    graph: str | None = None
    """A knowledge graph that the model's code is held to; None = the configuration's, or none."""
    strictness: Strictness | None = None
    """How strictly; None = as configured."""


async def ask(
    request: AskRequest, *, sinks: Sequence[EventSink] = (), decide: Decider | None = None
) -> Answer:
    """Answers it. Cancel the task to stop it; what happened so far stays in the journal.

    Args:
        decide: is asked where the guard asks a person; None = nobody.

    Raises:
        RlmError: what happened, why and the fix. Limits do not raise: they give a partial answer.
    """
    mode = check_mode(request.guard)
    guard = configured_guard(mode, graph=request.graph, strictness=request.strictness, ask=decide)
    async with opened(request) as (model, sub_model):
        settings = Settings(
            model,
            sub_model,
            request.sandbox,
            request.limits,
            request.resources,
            guard,
            "auto",
            normalised(request.packages),
            base_url=request.base_url,
            speculate=read_settings().speculate if request.speculate is None else request.speculate,
        )
        asked = Question(
            request.question, named_inputs(request), request.schema, request.follow, sinks=tuple(sinks)
        )
        try:
            async with Desk(settings, keeps_spare=False) as desk:
                return await desk.ask(asked)
        finally:
            await guard.close()


@asynccontextmanager
async def opened(request: AskRequest) -> AsyncIterator[tuple[ModelClient, ModelClient]]:
    """The request's two models, closed afterwards; what it names is looked at first."""
    _check_sandbox(request.sandbox)
    named_inputs(request)
    model = open_model(request.model, base_url=request.base_url)
    sub_model = model
    try:
        named = request.sub_model or (read_settings().sub_model if request.model is None else None)
        if named is not None:
            sub_model = open_model(named, base_url=request.base_url)
        yield model, sub_model
    except PathNotFound as error:
        raise _with_near(error) from error
    finally:
        await model.aclose()
        if sub_model is not model:
            await sub_model.aclose()


def _check_sandbox(name: str) -> None:
    """Before a run begins: a mistyped name is no run."""
    from terraphim_rlm.sandbox.selection import BACKENDS

    known = ("auto", *BACKENDS)
    if name not in known:
        raise InvalidArgument(
            f"There is no sandbox {name[:80]!r}.", fix=f"Use one of: {', '.join(known)}.", name=name[:80]
        )


def _with_near(error: PathNotFound) -> PathNotFound:
    """The error, with the name beside the missing one that may have been meant."""
    missing = Path(str(error.details.get("path", ""))).expanduser()
    try:
        names = [entry.name for entry in islice(missing.parent.iterdir(), _MOST_NAMES)]
    except (OSError, ValueError):
        return error
    close = difflib.get_close_matches(missing.name, names, n=1, cutoff=0.7)
    if not close:
        return error
    fix = f"Did you mean {missing.with_name(close[0])}?"
    return PathNotFound(error.message, fix=fix, **error.details)


def named_inputs(request: AskRequest) -> Any:
    """What a request names as its input, not yet read; None when it names none."""
    if request.text is not None:
        return request.text
    if request.paths == ("-",):
        return sys.stdin.buffer
    if "-" in request.paths:
        raise InvalidArgument("Standard input (-) cannot be mixed with paths.", fix="Give - alone.")
    return [Path(path) for path in request.paths] or None
