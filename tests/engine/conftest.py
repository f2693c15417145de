"""A way to run one question with a scripted model in a real sandbox, and to see every event."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from terraphim_rlm import Answer, Limits, Rlm
from terraphim_rlm.core.events import Event
from terraphim_rlm.engine.guards import Checks
from terraphim_rlm.llm.client import ModelRequest
from terraphim_rlm.testing import ScriptedModel

UNASKED = Checks(look_first=False, literal=False, unread=False)
"""For tests of other things, whose cells need not look at their input."""


@dataclass
class Asked:
    """What a question came to."""

    answer: Answer
    model: ScriptedModel
    events: list[Event] = field(default_factory=list)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [dict(event.data) for event in self.events if event.type == kind]

    def said(self, turn: int) -> str:
        """The last message that the model saw before its reply number `turn` (from 1)."""
        return self.turns[turn - 1].messages[-1].content

    @property
    def turns(self) -> list[ModelRequest]:
        return [request for request in self.model.requests if request.purpose != "query"]


Ask = Callable[..., Awaitable[Asked]]


@pytest.fixture
def ask(request: pytest.FixtureRequest) -> Ask:
    """Rows of the attack catalogue are tried without a guard: what holds must hold without its help."""
    unguarded = request.node.get_closest_marker("row") is not None

    async def run(
        replies: list[Any], context: Any = "some input", *, question: str = "What?", **options: Any
    ) -> Asked:
        sub = {name: options.pop(name) for name in ("sub_replies", "sub_reply") if name in options}
        model = ScriptedModel(replies, window=options.pop("window", None), **sub)
        events: list[Event] = []
        schema = options.pop("schema", None)
        options.setdefault("checks", UNASKED)
        options.setdefault("guard", "off" if unguarded else None)
        rlm = Rlm(
            model, route=options.pop("route", "loop"), limits=options.pop("limits", Limits()), **options
        )
        answer = await rlm.ask(question, context, schema=schema, sinks=(events.append,))
        return Asked(answer, model, events)

    return run
