"""Facts about families of models, as data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Thinking = Literal["none", "budget", "adaptive"]

SMALL_BILLIONS = 3.0
"""Up to this many parameters a model does not write programs that work; the host writes them."""


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """How to treat a family of models."""

    batch_width: int = 20
    """Sub-calls that a cell is advised to batch."""
    thinking_headroom: int = 0
    """Tokens kept free, on top of the visible reply, for hidden reasoning."""
    advice: str = ""
    """What this family is told at the end of the system prompt, besides what all are told."""
    thinking: Thinking = "none"
    """How hidden reasoning is asked for, where the provider wants to be asked (Anthropic)."""


_FEW_CALLS = (
    "Sub-calls cost time and money: put as much text into each as its window takes, and never make one call for each "
    "line. Search with grep and plain Python first, and ask a model only what code cannot tell."
)
PROFILES: dict[str, ModelProfile] = {
    "default": ModelProfile(),
    "small": ModelProfile(batch_width=4),
    "thinking": ModelProfile(
        thinking_headroom=8192,
        advice="Think briefly; do the work in code, where you can see what is true. Every reply must hold a block or an answer.",
    ),
    "coder": ModelProfile(batch_width=10, advice=_FEW_CALLS),
    "claude": ModelProfile(
        batch_width=50,
        advice="Write one block, then stop and wait for its output: never write what it might print.",
    ),
    "claude-budget": ModelProfile(
        batch_width=50,
        thinking_headroom=4096,
        thinking="budget",
        advice="Write one block, then stop and wait for its output: never write what it might print.",
    ),
    "claude-adaptive": ModelProfile(
        batch_width=50,
        thinking_headroom=8192,
        thinking="adaptive",
        advice="Write one block, then stop and wait for its output: never write what it might print.",
    ),
}
"""Zhang et al. (arXiv 2512.24601) add such a line for a coder, which else makes forty times the sub-calls."""

_SIZE = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])")
_KNOWN_SMALL = re.compile(
    r"smollm|tinyllama|tinydolphin|gemma-?3n?:(?:270m|1b)|(?:^|/)llama3\.2(?::latest)?$"
)
_FAMILIES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"claude-(?:3|instant|[12](?!\d))(?![.-]7)"), "claude"),
    (
        re.compile(r"claude-3[.-]7|claude-(?:opus|sonnet|haiku)-4(?:[.-][015])?(?![.-]?[1-9]\b)"),
        "claude-budget",
    ),
    (re.compile(r"claude"), "claude-adaptive"),
    (
        re.compile(r"(?:^|/)o[1-9](?:-|$)|(?:^|/)gpt-[5-9](?!-chat)|deepseek-r\d|reason|think|qwq|magistral"),
        "thinking",
    ),
    (re.compile(r"coder|codestral|devstral|starcoder|codellama"), "coder"),
)
"""The first that fits a name, in lower case."""


def billions(name: str) -> float | None:
    """Parameters that a model's name tells, in billions: 3.0 for `llama3.2:3b`, 30.0 for `qwen3-30b-a3b`."""
    sizes = [float(number) / (1 if unit == "b" else 1000) for number, unit in _SIZE.findall(name.lower())]
    return max(sizes, default=None)


def profile_of(name: str) -> str:
    """Key of `PROFILES` for a model's name."""
    size, plain = billions(name), name.lower()
    if (size is not None and size <= SMALL_BILLIONS) or (size is None and _KNOWN_SMALL.search(plain)):
        return "small"
    return next((profile for pattern, profile in _FAMILIES if pattern.search(plain)), "default")
