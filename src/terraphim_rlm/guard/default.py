"""The guard of whoever asks for none in particular."""

from __future__ import annotations

from terraphim_rlm.guard.judging import Guard, GuardMode
from terraphim_rlm.guard.safety.judge import SafetyJudge


def default_guard(mode: GuardMode = "block") -> Guard:
    """The safety rules. Whoever makes it closes it."""
    return Guard([SafetyJudge()], mode)
