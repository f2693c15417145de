"""Facts about families of models, as data."""

from __future__ import annotations

import re
from dataclasses import dataclass

SMALL_BILLIONS = 3.0
"""Up to this many parameters a model does not write programs that work; the host writes them."""


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """How to treat a family of models."""

    small: bool = False
    """True = the host writes the program, and the model decides leaves."""
    batch_width: int = 20
    """Sub-calls that a cell is advised to batch."""
    thinking_headroom: int = 0
    """Tokens kept free, on top of the visible reply, for hidden reasoning."""


PROFILES: dict[str, ModelProfile] = {
    "default": ModelProfile(),
    "small": ModelProfile(small=True, batch_width=4),
    "thinking": ModelProfile(thinking_headroom=8192),
}

_SIZE = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])")
_KNOWN_SMALL = re.compile(
    r"smollm|tinyllama|tinydolphin|gemma-?3n?:(?:270m|1b)|(?:^|/)llama3\.2(?::latest)?$"
)
_THINKING = re.compile(
    r"(?:^|/)o[1-9](?:-|$)|(?:^|/)gpt-[5-9](?!-chat)|deepseek-r\d|reason|think|qwq|magistral"
)


def billions(name: str) -> float | None:
    """Parameters that a model's name tells, in billions: 3.0 for `llama3.2:3b`, 30.0 for `qwen3-30b-a3b`."""
    sizes = [float(number) / (1 if unit == "b" else 1000) for number, unit in _SIZE.findall(name.lower())]
    return max(sizes, default=None)


def profile_of(name: str) -> str:
    """Key of `PROFILES` for a model's name."""
    size = billions(name)
    if (size is not None and size <= SMALL_BILLIONS) or (size is None and _KNOWN_SMALL.search(name.lower())):
        return "small"
    return "thinking" if _THINKING.search(name.lower()) else "default"
