"""Credentials do not leave in an export: what looks like one, and what the environment holds as one, is masked."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

MASK = "[masked]"
_LEAST = 8
"""Characters of a variable's value below which masking it would hit ordinary words."""
_NAMED = re.compile(r"(?:^|_)(?:API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$", re.IGNORECASE)
_SHAPES = re.compile(
    r"""
    -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----.*?(?:-----END\ [A-Z ]*PRIVATE\ KEY-----|\Z)
    | \b(?:sk|rk|pk)-(?:[A-Za-z0-9]+-)*[A-Za-z0-9_-]{20,}           # model providers
    | \b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})
    | \b(?:AKIA|ASIA)[0-9A-Z]{16}\b
    | \bAIza[0-9A-Za-z_-]{35}
    | \b(?:xox[abeprs]|xapp)-[0-9A-Za-z-]{10,}
    | \bhf_[A-Za-z0-9]{30,}
    | (?<![A-Za-z0-9_-])(?:[A-Za-z0-9_-]{0,40}-)?eyJ[A-Za-z0-9_-]{10,}+\.eyJ[A-Za-z0-9_-]{10,}+\.[A-Za-z0-9_-]{10,}+  # a signed token
    | (?<=[Bb]earer\ )[A-Za-z0-9._~+/-]{16,}=*
    | (?<=://)[^\s/:@]+:[^\s/@]+(?=@)                                # a login in a URL
    """,
    re.VERBOSE | re.DOTALL,
)


class Mask:
    """Masks text and JSON; `count` says how often it had to.

    Args:
        environment: whose variables named like a key, token, secret or password are masked wherever their value stands.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        known = os.environ if environment is None else environment
        values = {value.strip() for name, value in known.items() if _NAMED.search(name)}
        held = sorted((re.escape(value) for value in values if len(value) >= _LEAST), key=len, reverse=True)
        self._held = re.compile("|".join(held)) if held else None
        self.count = 0

    def finds(self, value: str) -> int:
        """How many credentials stand in a text."""
        patterns = [pattern for pattern in (self._held, _SHAPES) if pattern is not None]
        return sum(1 for pattern in patterns for _ in pattern.finditer(value))

    def text(self, value: str) -> str:
        for pattern in (self._held, _SHAPES):
            if pattern is not None:
                value, found = pattern.subn(MASK, value)
                self.count += found
        return value

    def json(self, value: Any) -> Any:
        """The value with every text in it masked, names of fields as well."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(name)): self.json(item) for name, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.json(item) for item in value]
        return value
