"""One question over a long input: how its right answer is told, how code and sub-models come to it, how it is scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Reader = Callable[[str], str]
"""What a sub-model that makes no mistake says of a piece of the input."""


@dataclass(frozen=True, slots=True)
class Instance:
    """A question with all that is needed to play it."""

    task: str
    """`s-niah`, `ruler`, `oolong` or `oolong-pairs`."""
    kind: str
    context: str
    question: str
    expected: Any
    score: Callable[[Any, Any], float]
    """(expected, value of the answer) -> 0 to 1."""
    instruction: str
    """What a sub-model is asked of each piece; one line."""
    reader: Reader
    """Answers it truly."""
    code: str
    """Defines, for the policies: `direct(text)`, what code alone finds; `gather(pieces, answers)`, what sub-answers come
    to; both a list that can be joined with those of other parts; `answer(found)`, the question's answer; and `SIZE`, the
    least characters of a sub-model's piece (pieces end with a line)."""


def exact(expected: Any, value: Any) -> float:
    """Right or not."""
    return float(str(value).strip() == str(expected))


def near(expected: int, value: Any) -> float:
    """0.75 to the power of the distance, as OOLONG scores counts."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return 0.0
    return float(0.75 ** abs(expected - value))


def share(expected: Any, value: Any) -> float:
    """How much of what was asked for is there, as RULER scores."""
    said = {str(each) for each in value} if isinstance(value, list) else {str(value)}
    return len(said & set(map(str, expected))) / len(expected)


def f1(expected: Any, value: Any) -> float:
    """Of unordered pairs: the harmonic mean of precision and recall; two empty sets agree."""
    wanted = {frozenset(pair) for pair in expected}
    said = (
        {frozenset(map(str, pair)) for pair in value if isinstance(pair, list)}
        if isinstance(value, list)
        else set()
    )
    if not wanted and not said:
        return 1.0
    return 2 * len(wanted & said) / (len(wanted) + len(said))


Maker = Callable[[int, int], list[Instance]]
"""(seed, characters) -> the instances of a task, one a kind of question."""
