"""The parts of a daemon as one tree of supervisors, after OTP: one that dies is begun again, and the others serve on."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

from terraphim_rlm.core.errors import JournalUnavailable
from terraphim_rlm.service.sessions import Sessions
from terraphim_rlm.store.journal import Journal
from terraphim_rlm.supervision.children import Link, linked
from terraphim_rlm.supervision.reports import Report
from terraphim_rlm.supervision.spec import ChildSpec, Flags, Health, Start
from terraphim_rlm.supervision.supervisor import Supervisor, supervised

FLAGS = Flags(intensity=3, period=60)
_JOURNAL_SECONDS = 1.0
_SILENT = ("started", "ended")


def make_tree(journal: Journal, sessions: Sessions, servers: dict[str, Start]) -> Supervisor:
    """The daemon's tree: journal writer, what keeps sessions, and a server for each socket. In this order.

    More than three restarts of its own within a minute end it, as do those of its parts that give up.
    """
    return Supervisor(
        [
            ChildSpec(
                "journal", linked(_watched(journal)), health=Health(_writes(journal), _JOURNAL_SECONDS)
            ),
            ChildSpec("sandboxes", supervised(lambda: sessions.tree(told)), type="supervisor"),
            *(ChildSpec(name, start, shutdown=20.0) for name, start in servers.items()),
        ],
        FLAGS,
        name="service",
        on_report=told,
    )


def told(report: Report) -> None:
    """Writes down what is not as it should be, in the daemon's log."""
    if report.what not in _SILENT:
        with suppress(OSError, ValueError):
            sys.stderr.write(f"{report}\n")
            sys.stderr.flush()


def _writes(journal: Journal) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        if (failure := journal.statistics().failure) is not None:
            raise JournalUnavailable(failure)
        return True

    return check


def _watched(journal: Journal) -> Callable[[Link], Awaitable[None]]:
    async def writer(link: Link) -> None:
        """Stands for the journal's writer. Failed by its disk or its file, that does not come back in this process:
        what a disk says after a failed sync cannot be believed."""
        if (failure := journal.statistics().failure) is not None:
            raise JournalUnavailable(failure)
        link.ready()
        await link.stop()

    return writer
