"""An interpreter that lives on between executions, as far as states of the sandbox's files are concerned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from terraphim_rlm.sandbox.link.streams import text

_MOST_PHRASES, _PHRASE = 1_000, 300


@dataclass(frozen=True, slots=True)
class Parked:
    """What an interpreter that left the sandbox's files said of itself."""

    problems: tuple[str, ...]
    """What a frozen one would not keep, one phrase each."""
    variables: tuple[str, ...]


class Living(Protocol):
    """One that can leave the files and come back."""

    async def park(self, roots: Sequence[str]) -> Parked:
        """Leaves the roots; nothing of it has a file there open for writing any more, or it says so."""
        ...

    async def enter(self) -> None:
        """Takes up its files and its folder again."""
        ...


def listed(value: object) -> list[object]:
    """A list, as far as it is one."""
    return value if isinstance(value, list) else []


def phrases(value: object) -> tuple[str, ...]:
    """A list of short texts, as far as it is one."""
    items = listed(value)[:_MOST_PHRASES]
    return tuple(text(item[:_PHRASE].encode("utf-8", "replace")) for item in items if isinstance(item, str))
