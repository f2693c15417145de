"""How a ledger keeps a durable record ahead of what it spends, in blocks.

If the process dies, the total last leased counts as spent in the run's record. Blocks make a lease
rare, so a sub-call costs no disk write.
"""

from __future__ import annotations

import math
from typing import Protocol

LEASES_PER_LIMIT = 8
"""A lease block is this part of the limit: at a crash at most two blocks are counted that were not used."""
UNLIMITED_BLOCK = (1_000_000, 1_000_000)
"""Lease block in tokens and microdollars where there is no limit to take a part of."""


class LeaseBook(Protocol):
    """Where a ledger writes down, ahead of spending, how much may have been spent."""

    def lease(self, tokens: int, microdollars: int) -> None:
        """Notes, without waiting, that the run may from now on have spent up to these totals."""
        ...

    def wait(self) -> None:
        """Blocks until every lease noted so far is on the disk; at once when it is there already.

        Raises:
            StoreError: it cannot be written; nothing may be spent against it.
        """
        ...


class _Block:
    """One currency of a lease: what was noted, what is known to be durable, and when to note more."""

    __slots__ = ("cap", "durable", "mark", "noted", "size")

    def __init__(self, cap: float, unlimited: int) -> None:
        self.cap = cap
        self.size = unlimited if cap == math.inf else max(1, math.ceil(cap / LEASES_PER_LIMIT))
        self.durable = 0
        self.noted = 0
        self.mark: float = 0

    def raise_to(self, need: int) -> None:
        """Notes one block above `need`; the next is noted when half of that is used."""
        self.noted = max(self.noted, int(min(need + self.size, self.cap)))
        self.mark = math.inf if self.noted >= self.cap else self.noted - self.size // 2


class Leases:
    """Keeps the book ahead of what is settled and reserved.

    A block is noted while half of the last is still free, so it is durable before it is needed; only
    a reservation larger than that waits for the disk.
    """

    __slots__ = ("_book", "money", "tokens")

    def __init__(
        self, book: LeaseBook, cap_tokens: float, cap_money: float, *, spent: tuple[int, int] = (0, 0)
    ) -> None:
        self._book = book
        self.tokens = _Block(cap_tokens, UNLIMITED_BLOCK[0])
        self.money = _Block(cap_money, UNLIMITED_BLOCK[1])
        self.tokens.raise_to(spent[0])
        if cap_money != math.inf or spent[1]:  # else none is noted before a call has a price
            self.money.raise_to(spent[1])
        book.lease(self.tokens.noted, self.money.noted)

    def cover(self, tokens: int, money: int) -> None:
        """Makes sure that a durable lease covers these totals."""
        if tokens > self.tokens.mark or money > self.money.mark:
            for block, need in ((self.tokens, tokens), (self.money, money)):
                if need > block.mark:
                    block.raise_to(need)
            self._book.lease(self.tokens.noted, self.money.noted)
        if tokens > self.tokens.durable or money > self.money.durable:
            self._book.wait()
            self.tokens.durable, self.money.durable = self.tokens.noted, self.money.noted
