"""What an answer is asked before it counts.

A guard looks at the code and at what was shown, and asks the model back. Each asks a node once: the model may insist,
since a guard can be mistaken, and a run must not hang on one. A `verify` of the caller is no guess and asks again.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.core.values import Evidence
from terraphim_rlm.engine.reading import facts

PRINT_OUT = 400
"""Characters that a reply's cells print from which on they are a print-out, and more than a note."""
_LONGEST_LOOP = 3
"""Steps of which a loop may consist."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """An answer before it counts."""

    question: str
    value: Any
    text: str
    evidence: tuple[Evidence, ...]
    """What the cells cited, as the host found it in the input."""


Verify = Callable[[Proposal], "Awaitable[str | None] | str | None"]
"""Says what is wrong with an answer, in words for the model; None when nothing is."""


@dataclass(frozen=True, slots=True)
class Checks:
    """Which checks the answer of a node has to pass."""

    look_first: bool = True
    """Whether an answer is asked back that came before any cell read the input."""
    literal: bool = True
    """Whether an answer is asked back that was written out in the cell that looks for it."""
    unread: bool = True
    """Whether an answer is asked back that came with a print-out nobody has read."""
    repeats: int | None = 3
    """Times in a row that the same step, or round of steps, ends a node as stalled; None = any number."""
    verify: Verify | None = None
    """Asked of the root's answer, after all else; see `Verify`."""

    def __post_init__(self) -> None:
        if self.repeats is not None and self.repeats < 2:
            raise InvalidArgument("Checks.repeats must be at least 2, or None.", name="repeats")


class Guards:
    """The checks of one node, and what they have asked so far."""

    def __init__(self, checks: Checks, *, has_input: bool) -> None:
        self._checks = checks
        self._looked = not has_input
        self._asked: set[str] = set()
        self._steps: deque[str] = deque(maxlen=_LONGEST_LOOP * (checks.repeats or 0))

    def saw(self, sources: Sequence[str]) -> None:
        """Notes the code that has run."""
        self._looked = self._looked or any(facts(source).reads for source in sources)

    def objection(
        self, *, code: str | None, before: Sequence[str], printed: int, supported: bool
    ) -> str | None:
        """What the model is asked back about an answer, or None.

        Args:
            code: the cell that gave the answer; None when the reply's own words did.
            before: cells of the same reply that ran before it.
            printed: characters that they all printed.
            supported: whether a quote that the host has found holds the answer.
        """
        checks = self._checks
        if checks.look_first and not self._looked:
            return self._once("look", LOOK_FIRST)
        if code is None or supported:
            return None
        last = facts(code)
        if checks.literal and last.literal and (last.works or any(facts(each).works for each in before)):
            return self._once("literal", LITERAL)
        if checks.unread and printed >= PRINT_OUT and not last.literal:
            return self._once("unread", UNREAD.format(printed=printed))
        return None

    def _once(self, name: str, text: str) -> str | None:
        if name in self._asked:
            return None
        self._asked.add(name)
        return text

    def repeated(self, step: str) -> int:
        """How often in a row the same round of steps was gone, this one included: 1 = a new one."""
        repeats = self._checks.repeats
        if repeats is None:
            return 1
        self._steps.append(step)
        steps, most = list(self._steps), 1
        for length in range(1, _LONGEST_LOOP + 1):
            rounds = 1
            while steps[-length:] == steps[-length * (rounds + 1) : -length * rounds]:
                rounds += 1
            most = max(most, rounds)
        return most

    def is_stalled(self, repeated: int) -> bool:
        return self._checks.repeats is not None and repeated >= self._checks.repeats

    async def verified(self, proposal: Proposal) -> str | None:
        """What the caller's own check says against an answer.

        Raises:
            InvalidArgument: it raised, or gave something else than a text or None.
        """
        verify = self._checks.verify
        if verify is None:
            return None
        try:
            said = verify(proposal)
            said = await said if inspect.isawaitable(said) else said
        except Exception as error:
            raise InvalidArgument(
                f"The check of answers raised {type(error).__name__}: {error}.", fix="Correct `verify`."
            ) from error
        if said is not None and not isinstance(said, str):
            raise InvalidArgument(
                f"The check of answers gave a {type(said).__name__}.",
                fix="Let `verify` return a text that says what is wrong, or None.",
            )
        return said or None


LOOK_FIRST = "You have not looked at the input yet. Look at it with code first; then answer."
LITERAL = (
    "You wrote this answer out in the same code that was to find it, so it rests on nothing that you have seen. "
    "Read the output above; then answer, or compute the answer in code."
)
UNREAD = (
    "You finished in the same reply that printed {printed:,} characters, which you had not seen. "
    "Read the output above; then answer, or give the same answer again."
)
