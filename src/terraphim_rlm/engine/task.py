"""What is asked of a run, and which way it is worked on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from terraphim_rlm.core.values import Limits
from terraphim_rlm.engine.asker import DEFAULT_REPLY
from terraphim_rlm.engine.context import Context
from terraphim_rlm.engine.following import Past
from terraphim_rlm.engine.guards import Checks
from terraphim_rlm.engine.judged import Guard
from terraphim_rlm.engine.record import Record
from terraphim_rlm.llm.client import ModelClient

Route = Literal["auto", "direct", "loop", "lookup"]
DIRECT_TOKENS = 16_000
"""Inputs smaller than this go to the model whole: below about 2^14 tokens a direct call is more often right
than a recursive one (Zhang et al., arXiv 2512.24601, figure 1)."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked of a run."""

    question: str
    context: Context | None
    model: ModelClient
    sub_model: ModelClient
    limits: Limits
    guard: Guard
    schema: Mapping[str, Any] | None = None
    route: Route = "auto"
    """As the caller asked for it; `way` says what it comes to."""
    past: Past | None = None
    """The earlier run that this one follows; its steps are done again, unless they are none."""
    record: Record | None = None
    """An earlier working of the run, whose way it goes again."""
    inputs: tuple[str, ...] = ()
    """Absolute paths that the input was read from; empty when it was given otherwise."""
    checks: Checks = field(default_factory=Checks)
    """Of the answer; children have the same ones, but for `verify`."""
    speculate: bool = False
    """Whether what a reply will ask for is begun while it still streams; what is begun for nothing is paid for."""
    made: Mapping[str, Any] = field(default_factory=dict)
    """What else the journal keeps of how the run was set up, so that another process can take it up."""

    @property
    def way(self) -> Route:
        """`direct`: one call with the whole input; `lookup`: the host's program for small models; `loop`: turns."""
        if self.route != "auto":
            return self.route
        if self.context is None:
            return "loop"
        if self.model.info.profile == "small":
            return "lookup"
        window = self.model.info.window
        room = math.inf if window is None else max(window - DEFAULT_REPLY, 0)
        return "direct" if self.context.size // 4 < min(DIRECT_TOKENS, room) else "loop"
