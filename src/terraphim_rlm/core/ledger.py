"""The one account of a run: reserve the worst case, call, settle what it really cost.

Invariant: settled + reserved <= limit at every instant, for every limit. The one way past it is a
provider that bills more than was reserved: that is booked as billed, and from then on every
reservation is refused.

A `Ledger` belongs to one event loop and its methods never await, so no other task can run between
the check and the booking; that is the whole of its locking. Used from a second thread it is wrong.

A reservation and its settlement take 2.0 us together, 2.1 us with leases (CPython 3.11, two busy
shared cores, timeit, best of five rounds of 100,000 pairs with limits of tokens, time and money).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import TracebackType
from typing import NoReturn

from terraphim_rlm.core.bills import believable
from terraphim_rlm.core.clock import SYSTEM_CLOCK, Clock
from terraphim_rlm.core.errors import InternalError, InvalidArgument
from terraphim_rlm.core.leases import LeaseBook, Leases
from terraphim_rlm.core.refusals import refusal
from terraphim_rlm.core.standing import LedgerStatistics, Remaining, Spent
from terraphim_rlm.core.values import Limits, Usage

WARN_AT = 0.8
"""Share of a limit at which `on_warning` is told, once for each limit."""

OnWarning = Callable[[str, float, float], None]
"""`(limit, used, of)`; `limit` is the field's name in `Limits`. Must not raise."""


class Hold:
    """A reservation. Ends by exactly one of `settle`, `release` and `forfeit`.

    As a context manager it is forfeited when the block leaves it open, so that a call cut short by
    an error or a cancellation is paid for: the provider may have billed it.
    """

    __slots__ = ("_ledger", "microdollars", "open", "tokens")

    def __init__(self, ledger: Ledger, tokens: int, microdollars: int) -> None:
        self._ledger = ledger
        self.tokens = tokens
        """What the call may use, prompt and reply together; less than was asked after `at_least`."""
        self.microdollars = microdollars
        self.open = True

    def settle(self, usage: Usage) -> None:
        """Books what the provider billed, as one call whatever `usage.calls` says.

        What no provider can mean is not believed (see `bills.believable`).
        """
        self._close()
        self._ledger._settle(self, usage)

    def release(self) -> None:
        """Gives everything back: the call never reached the provider."""
        self._close()

    def forfeit(self) -> None:
        """Books the whole hold, as output: nobody knows what the call cost."""
        self.settle(Usage(tokens_out=self.tokens, microdollars=self.microdollars, estimated=True))

    def _close(self) -> None:
        if not self.open:
            raise InternalError("A reservation was ended twice.")
        self.open = False
        ledger = self._ledger
        ledger._held_tokens -= self.tokens
        ledger._held_money -= self.microdollars
        ledger._held_calls -= 1

    def __enter__(self) -> Hold:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.open:
            self.forfeit()


class Account:
    """One node's door to the run's ledger: its own turns and depth, everything else shared."""

    __slots__ = ("_ledger", "depth", "turns")

    def __init__(self, ledger: Ledger, depth: int) -> None:
        self._ledger = ledger
        self.depth = depth
        self.turns = 0
        """Turns taken."""
        ledger._nodes += 1

    def child(self) -> Account:
        """An account one level deeper.

        Raises:
            DepthLimitExceeded: this node is at the limit.
        """
        limit = self._ledger.limits.depth
        if self.depth >= limit:
            self._ledger._refuse("depth", self.depth, 0, 1, limit)
        return Account(self._ledger, self.depth + 1)

    def reserve(
        self,
        *,
        tokens: int,
        microdollars: int | None = 0,
        at_least: int | None = None,
        at_least_microdollars: int | None = None,
    ) -> Hold:
        """Holds the worst case of one model call; see `Ledger.reserve`."""
        return self._ledger.reserve(
            tokens=tokens,
            microdollars=microdollars,
            at_least=at_least,
            at_least_microdollars=at_least_microdollars,
        )

    def take_turn(self) -> int:
        """Counts a turn of this node; returns its number, from 1. Warns for the root's turns only.

        Raises:
            TurnLimitExceeded, TimeBudgetExceeded: no further turn is allowed.
        """
        self._ledger.check_time()
        limit = self._ledger.limits.turns
        if limit is not None and self.turns >= limit:
            self._ledger._refuse("turns", self.turns, 0, 1, limit)
        self.turns += 1
        if limit is not None and self.depth == 0 and self.turns >= WARN_AT * limit:
            self._ledger._warn("turns", self.turns, limit)
        return self.turns

    def check_time(self) -> None:
        """Raises `TimeBudgetExceeded` when the run's time is over."""
        self._ledger.check_time()

    def remaining(self) -> Remaining:
        """What a reservation could still get now."""
        return self._ledger.remaining()

    def remaining_seconds(self) -> float:
        """Seconds until the run's deadline, never negative; `math.inf` without one."""
        return self._ledger.remaining_seconds()

    @property
    def most_turns(self) -> int | None:
        """Turns that this node may take; None = any number."""
        return self._ledger.limits.turns

    @property
    def nearly_spent(self) -> tuple[str, ...]:
        """Limits that have reached `WARN_AT`, in order, by their names in `Limits`."""
        return tuple(self._ledger._warned)


class Ledger:
    """What a run has spent, holds and may still spend. The run's time starts when this is made.

    Args:
        limits: of the whole run; turns count for each node.
        on_warning: told once for each limit when `WARN_AT` of it is spent.
        lease: written ahead of spending; the first block is noted here, and is durable once the
            caller has awaited the journal's commit of `run.started`.
        spent: what the run had spent before, when it is taken up again.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        clock: Clock = SYSTEM_CLOCK,
        on_warning: OnWarning | None = None,
        lease: LeaseBook | None = None,
        spent: Spent | None = None,
    ) -> None:
        self.limits = limits
        spent = spent or Spent()
        self._clock = clock
        self._on_warning = on_warning
        self._cap_tokens: float = math.inf if limits.tokens is None else int(limits.tokens)
        self._cap_money: float = math.inf if limits.dollars is None else round(limits.dollars * 1_000_000)
        self._cap_calls: float = math.inf if limits.calls is None else int(limits.calls)
        self._started = clock.now() - spent.seconds
        seconds = math.inf if limits.seconds is None else limits.seconds
        self._deadline = self._started + seconds
        self._time_mark = self._started + WARN_AT * seconds
        before = spent.usage
        self._tokens_in, self._tokens_cached = before.tokens_in, before.tokens_cached
        self._tokens_out, self._tokens_reasoning = before.tokens_out, before.tokens_reasoning
        self._tokens, self._money, self._calls = before.tokens, before.microdollars, before.calls
        self._estimated = before.estimated
        self._held_tokens = self._held_money = self._held_calls = 0
        self._nodes = self._refused = 0
        self._warned: list[str] = []
        caps = self._cap_tokens, self._cap_money
        self._leases = Leases(lease, *caps, spent=(self._tokens, self._money)) if lease is not None else None
        self.root = Account(self, 0)

    def reserve(
        self,
        *,
        tokens: int,
        microdollars: int | None = 0,
        at_least: int | None = None,
        at_least_microdollars: int | None = None,
    ) -> Hold:
        """Holds the worst case of one model call: all of `tokens` when that much is left.

        With `at_least`, a call may shrink to what is left: the hold is then the largest between
        `at_least` and `tokens` that fits, and its cost lies on the straight line between
        `at_least_microdollars` and `microdollars` (the price of a reply is linear in its length).
        The caller cuts the reply's max_tokens to `hold.tokens` less the prompt.

        Args:
            tokens: prompt and longest reply together.
            microdollars: their price; None = unknown, which no run with a limit of money accepts.
            at_least: smallest hold worth a call; None = all or nothing.
            at_least_microdollars: price of `at_least` tokens; None = `microdollars`.

        Raises:
            BudgetExceeded: the leaf of the limit that is breached; nothing is held.
            InvalidArgument: the price is unknown and the run has a limit of money.
            StoreError: the lease could not be made durable; nothing is held.
        """
        money = self._unpriced() if microdollars is None else microdollars
        if self._clock.now() >= self._time_mark:
            self.check_time()
        used_tokens = self._tokens + self._held_tokens
        used_money = self._money + self._held_money
        if (
            used_tokens + tokens > self._cap_tokens
            or used_money + money > self._cap_money
            or self._calls + self._held_calls >= self._cap_calls
        ):
            least = tokens if at_least is None else min(at_least, tokens)
            least_money = money if at_least_microdollars is None else min(at_least_microdollars, money)
            tokens, money = self._shrink(tokens, money, least, least_money)
        if tokens < 0 or money < 0:
            raise InternalError(f"A reservation of {tokens} tokens and {money} microdollars was asked for.")
        if self._leases is not None:
            self._leases.cover(used_tokens + tokens, used_money + money)
        self._held_tokens += tokens
        self._held_money += money
        self._held_calls += 1
        return Hold(self, tokens, money)

    def check_time(self) -> None:
        """Raises `TimeBudgetExceeded` when the run's time is over."""
        now = self._clock.now()
        if now < self._time_mark:
            return
        seconds = self._deadline - self._started
        self._time_mark = self._deadline
        self._warn("seconds", now - self._started, seconds)
        if now >= self._deadline:
            self._refuse("seconds", round(now - self._started, 3), 0, 0, seconds)

    def remaining_seconds(self) -> float:
        """Seconds until the deadline, never negative; `math.inf` without one."""
        return max(0.0, self._deadline - self._clock.now())

    def remaining(self) -> Remaining:
        """What a reservation could still get now."""
        left = self.remaining_seconds()
        return Remaining(
            _left(self._cap_tokens, self._tokens + self._held_tokens),
            _left(self._cap_money, self._money + self._held_money),
            _left(self._cap_calls, self._calls + self._held_calls),
            None if left == math.inf else left,
        )

    @property
    def in_flight(self) -> int:
        """Reservations that are neither settled nor released; what they hold may come back."""
        return self._held_calls

    @property
    def usage(self) -> Usage:
        """What is settled."""
        return Usage(
            self._tokens_in,
            self._tokens_cached,
            self._tokens_out,
            self._tokens_reasoning,
            self._calls,
            self._money,
            self._estimated,
        )

    def statistics(self) -> LedgerStatistics:
        leases = self._leases
        return LedgerStatistics(
            settled=self.usage,
            reserved_tokens=self._held_tokens,
            reserved_microdollars=self._held_money,
            reserved_calls=self._held_calls,
            leased_tokens=leases.tokens.noted if leases else 0,
            leased_microdollars=leases.money.noted if leases else 0,
            nodes=self._nodes,
            refused=self._refused,
            warnings=tuple(self._warned),
        )

    def _settle(self, hold: Hold, usage: Usage) -> None:
        usage = believable(usage, hold.tokens, hold.microdollars)
        tokens_in, tokens_out, money = usage.tokens_in, usage.tokens_out, usage.microdollars
        self._tokens_in += tokens_in
        self._tokens_out += tokens_out
        self._tokens_cached += usage.tokens_cached
        self._tokens_reasoning += usage.tokens_reasoning
        self._tokens += tokens_in + tokens_out
        self._money += money
        self._calls += 1
        if usage.estimated:
            self._estimated = True
        if self._tokens >= WARN_AT * self._cap_tokens:
            self._warn("tokens", self._tokens, self._cap_tokens)
        if self._money >= WARN_AT * self._cap_money:
            self._warn("dollars", self._money / 1e6, self._cap_money / 1e6)
        if self._calls >= WARN_AT * self._cap_calls:
            self._warn("calls", self._calls, self._cap_calls)

    def _shrink(self, tokens: int, money: int, least: int, least_money: int) -> tuple[int, int]:
        """The largest hold that fits, or the breach."""
        if self._calls + self._held_calls >= self._cap_calls:
            self._refuse("calls", self._calls, self._held_calls, 1, self._cap_calls)
        left = self._cap_tokens - self._tokens - self._held_tokens
        if least > left:
            self._refuse("tokens", self._tokens, self._held_tokens, least, self._cap_tokens)
        if least == tokens:
            least_money = money
        left_money = self._cap_money - self._money - self._held_money
        if least_money > left_money:
            self._refuse("dollars", self._money, self._held_money, least_money, self._cap_money)
        granted = int(min(tokens, left))
        step, rise = tokens - least, money - least_money
        if money > left_money:
            granted = min(granted, least + (int(left_money) - least_money) * step // rise)
        if step:
            money = least_money - (-rise * (granted - least) // step)
        return granted, money

    def _unpriced(self) -> int:
        if self._cap_money == math.inf:
            return 0
        raise InvalidArgument(
            "The price of this model is not known, so a limit of dollars cannot be kept.",
            fix="Limit tokens in place of dollars, name a model with a known price, or let this one be charged "
            'the highest price known: --unpriced maximum, or Limits(unpriced="maximum").',
            limit="dollars",
        )

    def _warn(self, limit: str, used: float, of: float) -> None:
        if limit in self._warned:
            return
        self._warned.append(limit)
        if self._on_warning is not None:
            self._on_warning(limit, used, of)

    def _refuse(self, limit: str, used: float, reserved: float, asked: float, of: float) -> NoReturn:
        self._refused += 1
        raise refusal(limit, used, reserved, asked, of)


def _left(cap: float, used: int) -> int | None:
    return None if cap == math.inf else max(0, int(cap) - used)
