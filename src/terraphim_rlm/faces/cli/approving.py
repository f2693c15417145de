"""A person at the terminal decides whether code may run."""

from __future__ import annotations

import select
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from terraphim_rlm.faces.cli.out import complain, write_err
from terraphim_rlm.faces.cli.words import clean, one_line, seconds

if TYPE_CHECKING:
    from terraphim_rlm.guard.asking import Asked, Decider

_MOST_LINES = 40
_MOST_FINDINGS = 8


def at_terminal(pause: Callable[[], AbstractContextManager[None]], *, quiet: bool) -> Decider | None:
    """Whom a run asks: whoever sits at the terminal, or None where nobody does.

    Args:
        pause: what is drawn meanwhile stands still.
        quiet: a program reads along, and no person.
    """
    if quiet or sys.stdin is None or not sys.stdin.isatty() or sys.stderr is None or not sys.stderr.isatty():
        return None

    def decide(asked: Asked) -> bool:
        with pause():
            complain(shown(asked))
            write_err(f"Let it run? y or N (no after {seconds(asked.seconds)}): ")
            answer = _line(asked.seconds)
            if answer is None:
                complain("\nNo answer: it does not run.")
            return answer is not None and answer.strip().lower() in ("y", "yes")

    return decide


def shown(asked: Asked) -> str:
    """What is asked, for a person to read."""
    lines = clean(asked.text).splitlines() or [""]
    more = [f"  .. {len(lines) - _MOST_LINES} more lines"] if len(lines) > _MOST_LINES else []
    told = []
    for each in asked.findings[:_MOST_FINDINGS]:
        there = one_line(asked.text[each.start : each.end], 40)
        told.append(f"  {there}: {one_line(f'{each.message} {each.suggestion}', 160)}")
    return "\n".join(
        [f"\n{clean(asked.question)}", *(f"  | {line}" for line in lines[:_MOST_LINES]), *more, *told]
    )


def _line(most: float) -> str | None:
    """A line that is typed; None when none is in time, or the terminal is gone."""
    ready, _, _ = select.select([sys.stdin], [], [], most)
    return (sys.stdin.readline() or None) if ready else None
