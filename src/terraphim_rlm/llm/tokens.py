"""How many tokens a text is, before a provider says so, and what to believe when it does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from terraphim_rlm.core.values import Usage
from terraphim_rlm.llm.client import Message, ModelRequest

BYTES_PER_TOKEN = 4
"""A common rule of thumb for English prose; code and other scripts take more tokens."""
MESSAGE_TOKENS = 4
"""What a chat template wraps around each message, roughly."""
ABSURD_FACTOR = 16
"""A figure this many times more or less than our own estimate is not believed: a byte is at most one
token, templates and preambles add a little, and 64 bytes in one token are rare."""
ABSURD_FLOOR = 20_000
"""Short texts may truly cost more than they show: hidden system prompts, reasoning."""


def estimate(text: str) -> int:
    """Tokens of `text`, by its UTF-8 bytes. Never fails: lone surrogates count as three bytes."""
    return len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN


def estimate_messages(messages: Sequence[Message]) -> int:
    """Tokens of a whole prompt."""
    return sum(estimate(message.content) + MESSAGE_TOKENS for message in messages)


def estimated_usage(request: ModelRequest, text: str) -> Usage:
    """One call's usage by our own estimate."""
    return Usage(
        tokens_in=estimate_messages(request.messages), tokens_out=estimate(text), calls=1, estimated=True
    )


def believed(claim: Any, own: int, *, ceiling: int | None = None) -> int | None:
    """The provider's figure when it is a whole number that can be true, else None.

    Args:
        claim: what the provider sent; anything at all.
        own: our estimate of the same thing.
        ceiling: a figure up to this can be true besides (the `max_tokens` of a reply that reasons unseen).
    """
    if isinstance(claim, bool) or not isinstance(claim, int):
        return None
    most = max(own * ABSURD_FACTOR, ABSURD_FLOOR, ceiling or 0)
    least = max(own // ABSURD_FACTOR, min(own, 1))
    return claim if least <= claim <= most else None
