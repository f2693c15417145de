"""What calls cost, in whole microdollars, by the price list that genai-prices carries (offline).

What a provider itself reports wins over this list. Models that run on the user's own machine cost nothing here;
a remote model that is not on the list has no price (`None`), which is not the same as being free.
"""

from __future__ import annotations

import functools
import math
import re
from decimal import Decimal
from typing import Any

from terraphim_rlm.core.values import Usage

PRICED = {"openai": "openai", "openrouter": "openrouter"}
"""Our providers that the list knows, by its own ids."""
FREE = frozenset({"local", "ollama", "llamacpp", "vllm", "lmstudio", "scripted", "manual", "oracle"})
"""Providers whose calls cost no money per token."""


def cost(name: str, usage: Usage) -> int | None:
    """Microdollars of `usage` by the model `name` (`provider/model`), rounded up; None when there is no price."""
    return _price(name, usage.tokens_in, min(usage.tokens_cached, usage.tokens_in), usage.tokens_out)


def worst_case(name: str, tokens_in: int, tokens_out: int) -> int | None:
    """Microdollars to reserve for a call with nothing cached; None when there is no price."""
    return _price(name, tokens_in, 0, tokens_out)


def context_window(name: str) -> int | None:
    """Tokens that the model takes, where the price list says so."""
    found = _find(name)
    window = found.context_window if found is not None else None
    return window if isinstance(window, int) and window > 0 else None


def _price(name: str, tokens_in: int, cached: int, tokens_out: int) -> int | None:
    provider, model = _split(name)
    if provider in FREE:
        return 0
    if _find(name) is None:
        return None
    import genai_prices

    usage = genai_prices.Usage(input_tokens=tokens_in, output_tokens=tokens_out, cache_read_tokens=cached)
    price: Decimal = genai_prices.calc_price(usage, model, provider_id=PRICED[provider]).total_price
    return math.ceil(price * 1_000_000)


@functools.lru_cache(maxsize=256)
def _find(name: str) -> Any:
    provider, model = _split(name)
    if provider not in PRICED:
        return None
    import genai_prices

    try:
        return genai_prices.calc_price(genai_prices.Usage(), model, provider_id=PRICED[provider]).model
    except LookupError:
        return None


def _split(name: str) -> tuple[str, str]:
    """`openai/gpt-5` -> openai, gpt-5; `scripted:file` -> scripted, file."""
    provider, *model = re.split("[:/]", name, maxsplit=1)
    return provider, "".join(model)
