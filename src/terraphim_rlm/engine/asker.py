"""Every model call of a run goes through here: reserve, call, settle, tell."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

from terraphim_rlm.core.errors import BudgetExceeded, ModelError, PromptTooLong, TimeBudgetExceeded
from terraphim_rlm.core.ledger import Account, Hold, Ledger
from terraphim_rlm.core.values import Unpriced, Usage
from terraphim_rlm.llm.client import ModelClient, ModelReply, ModelRequest
from terraphim_rlm.llm.prices import highest, worst_case
from terraphim_rlm.llm.profiles import PROFILES
from terraphim_rlm.llm.tokens import estimate_messages

DEFAULT_REPLY = 4096
"""Tokens kept free for a reply when nothing else is said."""
LEAST_REPLY = 64
"""A reply with fewer tokens left than this is not worth a call."""
UNKNOWN_WINDOW = 500_000
"""Characters of a sub-prompt when the model's window is unknown."""


class Asker:
    """Calls models for one run, under its one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._settled = asyncio.Event()
        self._line = asyncio.Lock()  # first come, first served; only the first of a long line wakes and tries

    async def ask(self, model: ModelClient, account: Account, request: ModelRequest) -> ModelReply:
        """One call. Waits for room when other calls hold the rest of the budget.

        Raises:
            BudgetExceeded, ModelError.
        """
        hold, request = await self._room(model, account, request)
        try:
            with hold:  # cut short by a cancellation, it counts as spent
                reply = await self._call(model, account, request, hold)
                reply = self._charged(model, reply)
                hold.settle(reply.usage)
        finally:
            self._settled.set()
        return reply

    async def _call(
        self, model: ModelClient, account: Account, request: ModelRequest, hold: Hold
    ) -> ModelReply:
        left = account.remaining_seconds()
        limit = asyncio.timeout(None if left == math.inf else left)
        try:
            async with limit:
                return await model.complete(request)
        except TimeoutError:
            if limit.expired():
                account.check_time()
                raise TimeBudgetExceeded("The run's seconds are over.") from None  # two clocks, a hair apart
            raise
        except ModelError:
            hold.settle(Usage(tokens_in=estimate_messages(request.messages), estimated=True))
            raise

    def ask_nowait(self, model: ModelClient, account: Account, request: ModelRequest) -> ModelReply | None:
        """The same without waiting, or None when that cannot be."""
        try:
            hold, request = self._reserve(model, account, request)
        except BudgetExceeded:
            if self._ledger.in_flight:
                return None
            raise
        with hold:
            reply = model.complete_nowait(request)
            if reply is None:
                hold.release()
                return None
            reply = self._charged(model, reply)
            hold.settle(reply.usage)
        return reply

    def _charged(self, model: ModelClient, reply: ModelReply) -> ModelReply:
        """The reply with what it is charged, where its price is not known and such models are charged the highest."""
        usage = reply.usage
        if self._ledger.limits.unpriced != "maximum" or usage.microdollars or self._is_priced(model):
            return reply
        charged = highest(usage.tokens_in, usage.tokens_out)
        return replace(reply, usage=replace(usage, microdollars=charged, estimated=True))

    def _is_priced(self, model: ModelClient) -> bool:
        return worst_case(model.info.name, 1, 1) is not None

    async def _room(
        self, model: ModelClient, account: Account, request: ModelRequest
    ) -> tuple[Hold, ModelRequest]:
        async with self._line:
            while True:
                try:
                    return self._reserve(model, account, request)
                except TimeBudgetExceeded:
                    raise
                except BudgetExceeded:
                    if self._ledger.in_flight == 0:
                        raise
                    self._settled.clear()
                    await self._settled.wait()

    def _reserve(
        self, model: ModelClient, account: Account, request: ModelRequest
    ) -> tuple[Hold, ModelRequest]:
        prompt = estimate_messages(request.messages)
        check_window(model, prompt)
        wanted = request.max_tokens or reply_tokens(model)
        least = min(LEAST_REPLY, wanted)
        name, unpriced = model.info.name, self._ledger.limits.unpriced
        hold = account.reserve(
            tokens=prompt + wanted,
            microdollars=most(name, prompt, wanted, unpriced),
            at_least=prompt + least,
            at_least_microdollars=most(name, prompt, least, unpriced),
        )
        room = max(hold.tokens - prompt, 1)
        return hold, request if room == request.max_tokens else replace(request, max_tokens=room)


def most(name: str, tokens_in: int, tokens_out: int, unpriced: Unpriced) -> int | None:
    """Microdollars that a call may cost; None where the price is not known and such models are refused."""
    price = worst_case(name, tokens_in, tokens_out)
    return highest(tokens_in, tokens_out) if price is None and unpriced == "maximum" else price


def prompt_room(model: ModelClient) -> int:
    """Tokens that a prompt may have, so that a reply still has room in the model's window."""
    window = model.info.window or UNKNOWN_WINDOW // 4
    return max(window - min(reply_tokens(model), window // 2), 1)


def reply_tokens(model: ModelClient) -> int:
    """Most tokens of a reply that names no limit: what is seen of it, and what its family thinks unseen."""
    return DEFAULT_REPLY + PROFILES[model.info.profile].thinking_headroom


def prompt_characters(model: ModelClient) -> int:
    """How long a sub-prompt should at most be: half of what the model reads, so that a reply has room."""
    return min((model.info.window or UNKNOWN_WINDOW // 4) * 2, 100_000)


def check_window(model: ModelClient, prompt_tokens: int) -> None:
    """Raises `PromptTooLong`, with the measured size, when a prompt cannot fit the model's window."""
    window = model.info.window or UNKNOWN_WINDOW // 4
    if prompt_tokens >= window:
        raise PromptTooLong(
            f"The prompt has about {prompt_tokens:,} tokens; {model.info.name} takes {window:,} with its reply.",
            tokens=prompt_tokens,
            window=window,
        )
