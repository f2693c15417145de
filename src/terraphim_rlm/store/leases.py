"""The ledger's lease book, kept in the journal."""

from __future__ import annotations

from terraphim_rlm.core.events import EventLog
from terraphim_rlm.store.journal import Journal


class JournalLeases:
    """A `core.leases.LeaseBook` for the run of `log`, which must have `journal.sink` among its sinks.

    The first lease is made durable by the caller's commit of `run.started`; each later one is sent to
    the disk at once, in the background.
    """

    def __init__(self, journal: Journal, log: EventLog, node: str) -> None:
        self._journal = journal
        self._log = log
        self._node = node
        self._position = 0

    def lease(self, tokens: int, microdollars: int) -> None:
        self._log.emit("budget.leased", self._node, None, tokens=tokens, microdollars=microdollars)
        if self._position:
            self._journal.sync_soon()
        self._position = self._journal.position

    def wait(self) -> None:
        if self._journal.durable < self._position:
            self._journal.flush()
