"""What a provider says a call cost, as far as it can be believed."""

from __future__ import annotations

from dataclasses import replace

from terraphim_rlm.core.values import Usage

ABSURD_TOKENS = 100_000_000
"""Most tokens of each kind that one call is believed to have used; ten times the largest window sold."""
ABSURD_MICRODOLLARS = 10_000_000_000
"""Most that one call is believed to have cost: 10,000 dollars."""


def believable(usage: Usage, tokens: int, microdollars: int) -> Usage:
    """`usage` itself when it can be meant; else what is booked in its place, marked as estimated.

    Figures above `ABSURD_*` are cut to that. If one is negative or no integer, the whole reservation
    of `tokens` and `microdollars` is charged. Parts larger than their whole count as none.
    """
    counts = (usage.tokens_in, usage.tokens_out, usage.microdollars)
    if any(type(count) is not int or count < 0 for count in counts):
        return Usage(tokens_out=tokens, microdollars=microdollars, estimated=True)
    if (
        usage.tokens_in > ABSURD_TOKENS
        or usage.tokens_out > ABSURD_TOKENS
        or usage.microdollars > ABSURD_MICRODOLLARS
    ):
        usage = replace(
            usage,
            tokens_in=min(usage.tokens_in, ABSURD_TOKENS),
            tokens_out=min(usage.tokens_out, ABSURD_TOKENS),
            microdollars=min(usage.microdollars, ABSURD_MICRODOLLARS),
            estimated=True,
        )
    cached, reasoning = usage.tokens_cached, usage.tokens_reasoning
    if _is_part(cached, usage.tokens_in) and _is_part(reasoning, usage.tokens_out):
        return usage
    return replace(
        usage,
        tokens_cached=cached if _is_part(cached, usage.tokens_in) else 0,
        tokens_reasoning=reasoning if _is_part(reasoning, usage.tokens_out) else 0,
    )


def _is_part(count: int, whole: int) -> bool:
    return type(count) is int and 0 <= count <= whole
