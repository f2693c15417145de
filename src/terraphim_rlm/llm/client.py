"""The contract of a model: one request in, one reply out, or the reply as it grows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from terraphim_rlm.core.values import Usage

Role = Literal["system", "user", "assistant"]
Purpose = Literal["turn", "query", "direct"]
FinishReason = Literal["stop", "length", "refusal", "other"]


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """What is asked of a model."""

    messages: tuple[Message, ...]
    purpose: Purpose = "query"
    """`turn`: a node's next step; `query`: a sub-call from a cell; `direct`: question and input at once."""
    node: str = ""
    """Id of the node that asks; for doubles, journals and rate accounting, never sent to a provider."""
    max_tokens: int | None = None
    """Most tokens of the reply; None = the model's own default."""
    temperature: float | None = None
    grammar: str | None = None
    """GBNF that the reply must match; only clients with `supports_grammar` take it."""
    schema: Mapping[str, Any] | None = None
    """JSON Schema that the reply must match, where the provider can enforce it."""
    raw: bool = False
    """True = continue the one message's text itself, without a chat template, where the client can (`local`);
    elsewhere it is sent as a chat message. Small models copy and score far better that way."""


@dataclass(frozen=True, slots=True)
class ModelReply:
    text: str
    usage: Usage = field(default_factory=Usage)
    finish_reason: FinishReason = "stop"
    details: Mapping[str, Any] = field(default_factory=dict)
    """What the provider said besides: its model name, request id. Never a secret.
    `logprob`: sum of the natural log-probabilities of the reply's tokens, before the grammar, where known."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Facts about a model that the engine plans with."""

    name: str
    """`provider/model`, as the user writes it."""
    window: int | None = None
    """Tokens of prompt and reply together; None = unknown."""
    profile: str = "default"
    """Key of `profiles.PROFILES`."""
    supports_grammar: bool = False
    local: bool = False
    """True when no rate limit is known to exist (in-process models, doubles)."""


@runtime_checkable
class ModelClient(Protocol):
    """One model. Safe for many concurrent calls from one event loop.

    Errors are `core.errors.ModelError`s, already retried where that makes sense.
    """

    @property
    def info(self) -> ModelInfo: ...

    async def complete(self, request: ModelRequest) -> ModelReply:
        """The whole reply."""
        ...

    def complete_nowait(self, request: ModelRequest) -> ModelReply | None:
        """The reply when it can be had without waiting, else None. Saves a task per sub-call."""
        ...

    def stream(self, request: ModelRequest) -> AsyncIterator[str | ModelReply]:
        """Pieces of text as they come, and last the whole `ModelReply`."""
        ...

    async def aclose(self) -> None:
        """Ends connections, processes and pending requests. Idempotent."""
        ...
