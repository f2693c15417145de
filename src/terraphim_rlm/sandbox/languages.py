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


LANGUAGES: Mapping[str, Language] = {
    language.name: language
    for language in (
        Language("python", stateful=True, timeout_multiplier=1.0),
        Language("bash", stateful=True, timeout_multiplier=1.5),
    )
}
SHELL = Language("sh", stateful=False, timeout_multiplier=1.5)
"""A shell command from start to end: what `Sandbox.sh` runs."""


def language(name: str) -> Language:
    """The entry of `name`.

    Raises:
        InvalidArgument: there is none; the names are listed.
    """
    if name not in LANGUAGES:
        raise InvalidArgument(
            f"There is no language {str(name)[:40]!r} here.",
            fix=f"Use one of: {', '.join(LANGUAGES)}.",
            language=str(name)[:40],
        )
    return LANGUAGES[name]
