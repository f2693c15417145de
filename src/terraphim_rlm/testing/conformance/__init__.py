"""Conformance suites: what everything of a kind must do, as cases that anybody can run over his own.

Imports no pytest; `plugin` makes each case a test.
"""

from __future__ import annotations

from importlib import import_module

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.testing.conformance.model import Box, Case, Opener, Outcome, Target
from terraphim_rlm.testing.conformance.runner import Conformance, run_all, summary

KINDS = ("sandbox", "engine")

__all__ = [
    "KINDS",
    "Box",
    "Case",
    "Conformance",
    "Opener",
    "Outcome",
    "Target",
    "cases",
    "run_all",
    "summary",
]


def cases(kind: str = "sandbox") -> tuple[Case, ...]:
    """All cases of a kind, in order.

    Raises:
        InvalidArgument: there is no suite for it; those there are, are named.
    """
    if kind not in KINDS:
        raise InvalidArgument(
            f"There is no conformance suite for {kind!r}.", fix=f"Use one of: {', '.join(KINDS)}.", kind=kind
        )
    found: tuple[Case, ...] = import_module(f"{__name__}.{kind}").CASES
    return found
