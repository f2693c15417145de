"""Reads code of any language: what it says, held against the rules. Runs in the reader's process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from terraphim_rlm.guard.safety import hidden_text
from terraphim_rlm.guard.safety.notes import Finding, GaveUp, Notes
from terraphim_rlm.guard.safety.rules import rule_set

__all__ = ["GaveUp", "Unparsed", "inside", "read"]

MOST_DEPTH = 6
"""Of code within strings of code."""


class Unparsed(Exception):
    """It does not follow its language's grammar, as far as we know that."""


def read(code: str, language: str) -> list[Finding]:
    """Findings on `code`.

    Raises:
        GaveUp: it is more than can be judged.
        MemoryError, RecursionError: the same.
    """
    notes = Notes(rule_set(), language)
    hidden_text.look(code, notes)
    _parsed(code, language, notes, (0, len(code)))
    notes.together()
    return notes.findings()


def inside(code: str, language: str, notes: Notes, span: tuple[int, int], **known: Any) -> None:
    """Reads code that stands in a string of other code; all it does is found at `span`.

    Raises:
        GaveUp: it stands too deep.
    """
    notes.deeper(MOST_DEPTH)
    pinned, own = notes.pinned, notes.language
    notes.pinned, notes.language = pinned or span, language
    try:
        hidden_text.look(code, notes)
        _parsed(code, language, notes, span, **known)
    finally:
        notes.pinned, notes.language = pinned, own
        notes.depth -= 1


def _parsed(code: str, language: str, notes: Notes, span: tuple[int, int], **known: Any) -> None:
    try:
        _READERS[language](code, notes, **known)
    except Unparsed:
        notes.find(rule_set().first_of("unparsed"), span)
        hidden_text.lexical(code, notes)


def _python(code: str, notes: Notes, **known: Any) -> None:
    from terraphim_rlm.guard.safety import python

    python.read(code, notes, **known)


def _bash(code: str, notes: Notes, **known: Any) -> None:
    from terraphim_rlm.guard.safety import shell

    shell.read(code, notes, **known)


def _other(language: str) -> Callable[..., None]:
    def reader(code: str, notes: Notes, **known: Any) -> None:
        from terraphim_rlm.guard.safety import grammars

        grammars.read(code, language, notes)

    return reader


_READERS: dict[str, Callable[..., None]] = {
    "python": _python,
    "bash": _bash,
    "sh": _bash,
    "javascript": _other("javascript"),
    "rust": _other("rust"),
    "go": _other("go"),
}
