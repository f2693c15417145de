"""Every model call of a run goes through here: reserve, call, settle, tell."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace

from terraphim_rlm.core.errors import (
    BudgetExceeded,
    ModelError,
    ModelRateLimited,
    ModelTimeout,
    ModelUnreachable,
    PromptTooLong,
    RlmError,
    TimeBudgetExceeded,
)
from terraphim_rlm.core.ledger import Account, Hold, Ledger
from terraphim_rlm.core.values import Unpriced, Usage
from terraphim_rlm.engine.letters import Letters
from terraphim_rlm.llm.client import ModelClient, ModelReply, ModelRequest
from terraphim_rlm.llm.prices import highest, worst_case
from terraphim_rlm.llm.profiles import PROFILES
from terraphim_rlm.llm.tokens import estimate_messages

Heard = Callable[[str], None]
"""Gets the pieces of a reply as they come."""
DEFAULT_REPLY = 4096
"""Tokens kept free for a reply when nothing else is said."""
LEAST_REPLY = 64
"""A reply with fewer tokens left than this is not worth a call."""
UNKNOWN_WINDOW = 500_000
"""Characters of a sub-prompt when the model's window is unknown."""


class Asker:
    """Calls models for one run, under its one ledger.

    Args:
        letters: hooks before and after each call; None = none.
        speculates: whether nodes listen to their replies and begin what those will ask for.
    """

    def __init__(self, ledger: Ledger, letters: Letters | None = None, *, speculates: bool = False) -> None:
        self._ledger = ledger
        self._letters = letters
        self.speculates = speculates
        self._settled = asyncio.Event()
        self._line = asyncio.Lock()  # first come, first served; only the first of a long line wakes and tries

    async def ask(
        self, model: ModelClient, account: Account, request: ModelRequest, heard: Heard | None = None
    ) -> ModelReply:
        """One call. Waits for room when other calls hold the rest of the budget.

        Args:
            heard: gets the reply as it grows; None asks for it whole.

        Raises:
            BudgetExceeded, ModelError.
        """
        if self._letters is not None:
            request = await self._letters.before(model, request)
        hold, request = await self._room(model, account, request)
        try:
            with hold:  # cut short by a cancellation, it counts as spent
                reply = await self._call(model, account, request, hold, heard)
                reply = self._charged(model, reply)
                hold.settle(reply.usage)
        finally:
            self._settled.set()
        return reply if self._letters is None else await self._letters.after(model, request, reply)

    async def _call(
        self, model: ModelClient, account: Account, request: ModelRequest, hold: Hold, heard: Heard | None
    ) -> ModelReply:
        left = account.remaining_seconds()
        limit = asyncio.timeout(None if left == math.inf else left)
        try:
            async with limit:
                return await (model.complete(request) if heard is None else _listened(model, request, heard))
        except TimeoutError:
            if limit.expired():
                account.check_time()
                raise TimeBudgetExceeded("The run's seconds are over.") from None  # two clocks, a hair apart
            raise
        except ModelError:
            hold.settle(Usage(tokens_in=estimate_messages(request.messages), estimated=True))
            raise

    def has_room(self, model: ModelClient, account: Account, request: ModelRequest) -> bool:
        """Whether a call would neither wait nor be refused now."""
        if self._line.locked():
            return False
        try:
            hold, _ = self._reserve(model, account, request)
        except RlmError:
            return False
        hold.release()
        return True

    def at_most(self, model: ModelClient, request: ModelRequest) -> Usage:
        """What a call is charged that is cut short."""
        prompt, wanted = estimate_messages(request.messages), request.max_tokens or reply_tokens(model)
        money = most(model.info.name, prompt, wanted, self._ledger.limits.unpriced)
        return Usage(tokens_out=prompt + wanted, calls=1, microdollars=money or 0, estimated=True)

    def ask_nowait(self, model: ModelClient, account: Account, request: ModelRequest) -> ModelReply | None:
        """The same without waiting, or None when that cannot be."""
        if self._letters is not None:
            return None
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


async def _listened(model: ModelClient, request: ModelRequest, heard: Heard) -> ModelReply:
    """The reply of a stream. One that breaks off is asked for whole, with all the attempts that this has."""
    reply: ModelReply | None = None
    try:
        async for piece in model.stream(request):
            if isinstance(piece, str):
                heard(piece)
            else:
                reply = piece
    except (ModelUnreachable, ModelTimeout, ModelRateLimited):
        reply = None
    return await model.complete(request) if reply is None else reply


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
