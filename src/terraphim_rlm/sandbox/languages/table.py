"""The languages that sandboxes run, as one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from terraphim_rlm.core.errors import InvalidArgument

STANDARD_SECONDS = 30.0
"""Time-out of an execution whose caller names none, before the language's multiplier."""


@dataclass(frozen=True, slots=True)
class Language:
    """One language."""

    name: str
    stateful: bool
    """Whether variables live on from one execution to the next."""
    timeout_multiplier: float
    """Of the time-out when the caller names none: what compiles needs more of it."""
    compiled: bool = False
    """Whether an execution is one whole program, compiled first."""


LANGUAGES: Mapping[str, Language] = {
    language.name: language
    for language in (
        Language("python", stateful=True, timeout_multiplier=1.0),
        Language("javascript", stateful=True, timeout_multiplier=1.0),
        Language("bash", stateful=True, timeout_multiplier=1.5),
        Language("rust", stateful=False, timeout_multiplier=3.0, compiled=True),
        Language("go", stateful=False, timeout_multiplier=3.0, compiled=True),
    )
}
SHELL = Language("sh", stateful=False, timeout_multiplier=1.5)
"""A shell command from start to end: what `Sandbox.sh` runs."""
SPOKEN: Mapping[str, Language] = {**LANGUAGES, SHELL.name: SHELL}
"""What an execution may name as its language."""
ALIASES: Mapping[str, str] = {
    "py": "python",
    "python3": "python",
    "js": "javascript",
    "node": "javascript",
    "rs": "rust",
    "golang": "go",
    "shell": "sh",
}
SUFFIXES: Mapping[str, str] = {
    ".py": "python",
    ".js": "javascript",
    ".mjs": "javascript",
    ".cjs": "javascript",
    ".bash": "bash",
    ".sh": "sh",
    ".rs": "rust",
    ".go": "go",
}


def language(name: str, among: Mapping[str, Language] = LANGUAGES) -> Language:
    """The entry of `name`, or of what it is another name for.

    Raises:
        InvalidArgument: there is none; the names are listed.
    """
    found = among.get(ALIASES.get(name, name)) if isinstance(name, str) else None
    if found is None:
        raise InvalidArgument(
            f"There is no language {str(name)[:40]!r} here.",
            fix=f"Use one of: {', '.join(among)}.",
            language=str(name)[:40],
        )
    return found
