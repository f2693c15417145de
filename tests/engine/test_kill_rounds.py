"""Runs killed with SIGKILL at named moments, the model in a process of its own; `scripts/kill-rounds` plays hundreds."""

from __future__ import annotations

import secrets

import pytest

from terraphim_rlm.testing.crash.rounds import Rounds
from terraphim_rlm.testing.crash.victim import STATES

pytestmark = pytest.mark.sandbox
PLAYED = 4


def test_a_killed_run_comes_to_the_same_answer_and_nothing_settled_is_asked_again() -> None:
    seed = secrets.randbelow(10**9)
    with Rounds(seed) as rounds:
        for number in range(seed % len(STATES), seed % len(STATES) + PLAYED):
            rounds.play(number, STATES[number % len(STATES)])
    assert rounds.outcome.problems == [], f"seed {seed}"
    assert rounds.outcome.rounds == PLAYED
    assert rounds.outcome.acknowledged > 0
