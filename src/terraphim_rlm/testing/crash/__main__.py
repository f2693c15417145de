"""`python -m terraphim_rlm.testing.crash`: kills runs at named moments, takes them up, and prints what held."""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections.abc import Sequence

from terraphim_rlm.testing.crash.rounds import Outcome, play
from terraphim_rlm.testing.crash.victim import STATES


def main(arguments: Sequence[str]) -> int:
    """The exit code: 1 when something did not hold."""
    parser = argparse.ArgumentParser(prog="scripts/kill-rounds", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200, metavar="N", help="how many (200)")
    parser.add_argument("--seed", type=int, metavar="S", help="of all that is random (a fresh one)")
    wanted = parser.parse_args(arguments)
    seed = secrets.randbelow(10**9) if wanted.seed is None else wanted.seed
    _say(f"seed {seed}")
    began = time.monotonic()
    outcome = play(wanted.rounds, seed, _told)
    _say(report(outcome, seed, time.monotonic() - began))
    return 1 if outcome.problems else 0


def report(outcome: Outcome, seed: int, seconds: float) -> str:
    """The rounds in words and as a histogram."""
    width = max(map(len, STATES))
    bars = [f"{state:<{width}}  {outcome.kills[state]:>4}  {'#' * outcome.kills[state]}" for state in STATES]
    broken = len({each.partition(":")[0] for each in outcome.problems})
    return "\n".join([
        f"{outcome.rounds} runs killed and taken up in {seconds:.0f} s, seed {seed}; killed in",
        *bars,
        f"came to the same answer, lost no acknowledged event, repeated no settled call, and had all booked that was "
        f"billed: {outcome.rounds - broken} of {outcome.rounds}",
        f"requests that the model's process counted: {outcome.requests}; made twice, in flight when killed: {outcome.again}",
        f"acknowledged events looked for: {outcome.acknowledged}",
        f"moments that were missed, and tried again: {outcome.missed}",
        *(f"BROKEN {each}" for each in outcome.problems),
    ])  # fmt: skip


def _told(outcome: Outcome) -> None:
    if outcome.rounds % 10 == 0:
        sys.stderr.write(f"{outcome.rounds} rounds, {len(outcome.problems)} problems\n")
        sys.stderr.flush()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
