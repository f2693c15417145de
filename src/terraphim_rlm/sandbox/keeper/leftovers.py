"""What dead keepers left, ended and removed by one that lives."""

from __future__ import annotations

from time import monotonic, sleep

from . import orphans

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .groups import Groups

_TRIES = 10
_LINGER_SECONDS = 0.02


class Leftovers:
    """Swept once, and again while what was ended lingers in its group."""

    def __init__(self, groups: Groups) -> None:
        self._groups = groups
        self._left = _TRIES

    @property
    def due(self) -> bool:
        return self._left > 0

    def sweep(self) -> None:
        """When nobody waits: it looks at every process of the machine."""
        if self.due:
            orphans.sweep()
            self._left = 0 if self._groups.reclaimed() else self._left - 1

    def finish(self, until: float) -> None:
        """All sweeps that are due, in a row. `until` is the last moment, by the monotonic clock."""
        self.sweep()
        while self.due and monotonic() < until:
            sleep(_LINGER_SECONDS)
            self.sweep()
