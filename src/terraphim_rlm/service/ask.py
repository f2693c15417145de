"""The use case of one question, as every face asks it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.core.events import EventSink
from terraphim_rlm.core.values import Answer, Limits, Resources
from terraphim_rlm.guard.null import NullGuard
from terraphim_rlm.llm.select import open_model, read_settings
from terraphim_rlm.service.desk import Desk, Question, Settings


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


async def ask(request: AskRequest, *, sinks: Sequence[EventSink] = ()) -> Answer:
    """Answers it. Cancel the task to stop it; what happened so far stays in the journal.

    Raises:
        RlmError: what happened, why and the fix. Limits do not raise: they give a partial answer.
    """
    context = _context(request)
    model = open_model(request.model, base_url=request.base_url)
    sub_model = model
    try:
        named = request.sub_model or (read_settings().sub_model if request.model is None else None)
        if named is not None:
            sub_model = open_model(named, base_url=request.base_url)
        settings = Settings(
            model, sub_model, request.sandbox, request.limits, request.resources, NullGuard(), "auto"
        )
        async with Desk(settings, keeps_spare=False) as desk:
            return await desk.ask(Question(request.question, context, request.schema, sinks=tuple(sinks)))
    finally:
        await model.aclose()
        if sub_model is not model:
            await sub_model.aclose()


def _context(request: AskRequest) -> Any:
    if request.text is not None:
        return request.text
    if request.paths == ("-",):
        return sys.stdin.buffer
    if "-" in request.paths:
        raise InvalidArgument("Standard input (-) cannot be mixed with paths.", fix="Give - alone.")
    return [Path(path) for path in request.paths] or None
