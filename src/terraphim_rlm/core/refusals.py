"""A limit that is reached, in words and figures."""

from __future__ import annotations

from terraphim_rlm.core.errors import (
    BudgetExceeded,
    CallLimitExceeded,
    CostBudgetExceeded,
    DepthLimitExceeded,
    TimeBudgetExceeded,
    TokenBudgetExceeded,
    TurnLimitExceeded,
)

_REFUSALS: dict[str, tuple[type[BudgetExceeded], str]] = {
    "tokens": (
        TokenBudgetExceeded,
        "Of {of:,} tokens {used:,} are used and {reserved:,} held by calls in flight; this needs {asked:,}.",
    ),
    "dollars": (
        CostBudgetExceeded,
        "Of {of:.6g} dollars {used:.6g} are used and {reserved:.6g} held by calls in flight; "
        "this may cost {asked:.6g}.",
    ),
    "calls": (
        CallLimitExceeded,
        "Of {of:,} model calls {used:,} are made and {reserved:,} in flight.",
    ),
    "seconds": (TimeBudgetExceeded, "The run's {of:g} seconds are over."),
    "turns": (TurnLimitExceeded, "This node has taken all its {of:,} turns."),
    "depth": (DepthLimitExceeded, "This node is {used} levels deep, and {of} is the limit."),
}


def refusal(limit: str, used: float, reserved: float, asked: float, of: float) -> BudgetExceeded:
    """The leaf for `limit`, a field of `Limits`; its details are the arguments.

    Money comes in microdollars and is told in dollars.
    """
    if limit == "dollars":
        used, reserved, asked, of = used / 1e6, reserved / 1e6, asked / 1e6, of / 1e6
    leaf, text = _REFUSALS[limit]
    message = text.format(used=used, reserved=reserved, asked=asked, of=of)
    return leaf(message, limit=limit, used=used, reserved=reserved, asked=asked, of=of)
