"""What calls cost, in whole microdollars, by the price list that genai-prices carries (offline).

What a provider itself reports wins over this list. Models that run on the user's own machine cost nothing here;
a remote model that is not on the list has no price (`None`), which is not the same as being free.
"""

from __future__ import annotations

import contextlib
import functools
import math
import re
from decimal import Decimal
from typing import Any

from terraphim_rlm.core.values import Usage

PRICED = {"openai": "openai", "openrouter": "openrouter", "anthropic": "anthropic"}
"""Our providers that the list knows, by its own ids."""
FREE = frozenset({"local", "ollama", "llamacpp", "vllm", "lmstudio", "scripted", "manual", "oracle"})
"""Providers whose calls cost no money per token."""


def cost(name: str, usage: Usage, written: int = 0) -> int | None:
    """Microdollars of `usage` by the model `name` (`provider/model`), rounded up; None when there is no price.

    Args:
        written: part of `tokens_in` that was written to the provider's cache, where that has a price of its own.
    """
    cached = min(usage.tokens_cached, usage.tokens_in)
    return _price(name, (usage.tokens_in, cached, min(written, usage.tokens_in - cached), usage.tokens_out))


def worst_case(name: str, tokens_in: int, tokens_out: int) -> int | None:
    """Microdollars to reserve for a call with nothing cached; None when there is no price.

    Where writing to the cache costs more than reading the prompt, all of the prompt may be written.
    """
    found = [_price(name, (tokens_in, 0, written, tokens_out)) for written in (0, tokens_in)]
    return None if found[0] is None or found[1] is None else max(found[0], found[1])


@functools.lru_cache(maxsize=1)
def _dearest() -> tuple[Decimal, Decimal]:
    """The highest price of a token in and of a token out, in dollars, over the whole list."""
    import genai_prices
    from genai_prices import data_snapshot

    highest = [Decimal(0), Decimal(0)]
    for provider in data_snapshot.get_snapshot().providers:
        for model in provider.models:
            for side, usage in enumerate(_ONE_MILLION):
                with contextlib.suppress(LookupError, ValueError, TypeError):
                    price = genai_prices.calc_price(
                        genai_prices.Usage(**usage), model.id, provider_id=provider.id
                    )
                    highest[side] = max(highest[side], price.total_price / 1_000_000)
    return highest[0], highest[1]


_ONE_MILLION: tuple[dict[str, int], dict[str, int]] = (
    {"input_tokens": 1_000_000},
    {"output_tokens": 1_000_000},
)


def highest(tokens_in: int, tokens_out: int) -> int:
    """Microdollars by the dearest prices on the list: what a model without a price may cost at most, as far as known."""
    price_in, price_out = _dearest()
    return math.ceil((tokens_in * price_in + tokens_out * price_out) * 1_000_000)


def context_window(name: str) -> int | None:
    """Tokens that the model takes, where the price list says so."""
    found = _find(name)
    window = found.context_window if found is not None else None
    return window if isinstance(window, int) and window > 0 else None


def _price(name: str, tokens: tuple[int, int, int, int]) -> int | None:
    """Of tokens in, and which of them were read from and written to a cache, and out."""
    provider, model = _split(name)
    if provider in FREE:
        return 0
    if _find(name) is None:
        return None
    import genai_prices

    tokens_in, cached, written, tokens_out = tokens
    usage = genai_prices.Usage(
        input_tokens=tokens_in,
        output_tokens=tokens_out,
        cache_read_tokens=cached,
        cache_write_tokens=written or None,
    )
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
