"""Hooks: what a caller puts before and after each execution and each model call.

There are four points. At each the hooks are heard in order: the first that blocks ends the chain, what one changes is
what the next one sees, and one that asks has a person decide before the next is heard.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar

from terraphim_rlm.core.errors import InvalidArgument

Action = Literal["allow", "block", "modify", "ask"]
Point = Literal["pre_tool", "post_tool", "pre_llm", "post_llm"]
POINTS: tuple[Point, ...] = ("pre_tool", "post_tool", "pre_llm", "post_llm")


@dataclass(frozen=True, slots=True)
class HookDecision:
    """What a hook says."""

    action: Action
    text: str = ""
    """The reason of a block, the new text of a modification, the question of an ask."""

    @classmethod
    def allow(cls) -> HookDecision:
        return _ALLOW

    @classmethod
    def block(cls, reason: str) -> HookDecision:
        """It does not happen, for this reason; of a `post_` point, what came is withheld."""
        return cls("block", reason)

    @classmethod
    def modify(cls, text: str) -> HookDecision:
        """It happens with this code, output, prompt or reply."""
        return cls("modify", text)

    @classmethod
    def ask(cls, question: str) -> HookDecision:
        """A person decides; no is the answer of nobody."""
        return cls("ask", question)


_ALLOW = HookDecision("allow")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """Code that is about to run."""

    text: str
    """The code."""
    language: str
    node: str = ""


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """What code said."""

    text: str
    """The output of one stream."""
    stream: Literal["stdout", "stderr", "error"]
    """`error`: the traceback of what a cell raised."""
    code: str
    language: str
    exit_code: int | None = None
    duration_ms: float = 0.0
    node: str = ""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A message that is about to go to a model. Each is seen once in a run, however often it is sent."""

    text: str
    model: str
    purpose: str
    """`turn` of a node, `query` of a cell, and others."""
    node: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered."""

    text: str
    model: str
    purpose: str
    node: str = ""


class Hook:
    """Allows everything; override what you need. What a hook raises ends the run."""

    name: str = "hook"

    async def pre_tool(self, call: ToolCall) -> HookDecision:
        return _ALLOW

    async def post_tool(self, output: ToolOutput) -> HookDecision:
        return _ALLOW

    async def pre_llm(self, prompt: Prompt) -> HookDecision:
        return _ALLOW

    async def post_llm(self, reply: Reply) -> HookDecision:
        return _ALLOW


Subject = TypeVar("Subject", ToolCall, ToolOutput, Prompt, Reply)
AskPerson = Callable[[str, str], Awaitable[bool]]
"""(question, what it is about) -> whether a person said yes."""
Tell = Callable[[Point, str, HookDecision], None]
"""Is told (point, name of the hook, decision) of all but allowing."""


@dataclass(frozen=True, slots=True)
class Passed(Generic[Subject]):
    """What became of something at a point."""

    subject: Subject
    """With what hooks made of its text."""
    blocked: str = ""
    """Why it may not pass; empty when it may."""


class Hooks:
    """A chain of hooks.

    Args:
        hooks: in the order in which they are heard.
    """

    def __init__(self, hooks: Sequence[Hook] = ()) -> None:
        self._hooks = list(hooks)

    def register(self, hook: Hook) -> None:
        """Adds one at the end of the chain."""
        self._hooks.append(hook)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the hooks, in order."""
        return tuple(hook.name for hook in self._hooks)

    def at(self, point: Point) -> tuple[Hook, ...]:
        """Those that do something at a point. What nobody waits at costs nothing."""
        own = getattr(Hook, point)
        return tuple(hook for hook in self._hooks if getattr(type(hook), point, None) is not own)

    async def passed(
        self, point: Point, subject: Subject, ask: AskPerson, tell: Tell = lambda *_: None
    ) -> Passed[Subject]:
        """Lets something pass a point.

        Raises:
            InvalidArgument: a hook returned what is no decision.
            Exception: what a hook raised.
        """
        for hook in self.at(point):
            decision = await getattr(hook, point)(subject)
            if not isinstance(decision, HookDecision):
                raise InvalidArgument(
                    f"The hook {hook.name!r} returned {type(decision).__name__} at {point}.",
                    fix="Return HookDecision.allow(), .block(..), .modify(..) or .ask(..).",
                )
            if decision.action != "allow":
                tell(point, hook.name, decision)
            if decision.action == "modify":
                subject = replace(subject, text=decision.text)
            elif decision.action == "block":
                return Passed(subject, f"{hook.name}: {decision.text}")
            elif decision.action == "ask" and not await ask(decision.text, subject.text):
                return Passed(
                    subject, f"{hook.name}: {decision.text} A person was asked and did not say yes."
                )
        return Passed(subject)
