"""Keeps the record of one sandbox's network: told to whoever listens, counted, and bounded whatever code does."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace

from terraphim_rlm.core.network import Access, NetworkStatistics

Tell = Callable[[Access], None]
MOST_TOLD = 5_000
"""Records that one sandbox may make; the last one says so. What comes after is counted only, and its closing says how
much of what."""
_MOST_KINDS = 1_000
"""Different refusals that are told apart."""
_REMEMBERED = 200
_MOST_NOTES = 5
_MOST_TEXT = 500


def escaped(text: str, most: int = _MOST_TEXT) -> str:
    """Text from inside, safe to show on one line of a terminal or a log, and of at most `most` characters."""
    plain = text[:most].encode("unicode_escape").decode("ascii")
    return plain if len(plain) <= most and len(text) <= most else plain[: most - 2] + ".."


class Records:
    """What happened. Refusals are told before the code that caused them is answered."""

    def __init__(self, quota: int) -> None:
        self._quota = quota
        self._told = 0
        self._untold: Counter[str] = Counter()
        self._kinds: Counter[tuple[str, int, str]] = Counter()
        self._latest: deque[tuple[int, str]] = deque(maxlen=_REMEMBERED)
        self.open = self.allowed = self.refused = self.bytes_up = self.bytes_down = 0

    def tell(self, access: Access, tell: Tell) -> None:
        """Writes one down, and hands it on if that is not more than can be read."""
        if access.decision == "refused":
            self.refused += 1
            self._latest.append((self.refused, access.reason))
            access = self._counted(access)
            if not _is_power_of_ten(access.count):
                return
        elif access.decision == "allowed":
            self.allowed += 1
        if self._told >= MOST_TOLD:
            self._untold[access.decision] += 1
            return
        self._told += 1
        tell(access)
        if self._told == MOST_TOLD:
            tell(
                _of_itself(f"{MOST_TOLD:,} records are kept of a sandbox; from here on they are counted only")
            )

    def _counted(self, access: Access) -> Access:
        kind = (access.name, access.port, access.reason)
        if kind not in self._kinds and len(self._kinds) >= _MOST_KINDS:
            kind = ("", 0, "")
            access = replace(access, name="..", port=0, reason="many others as well")
        self._kinds[kind] += 1
        return replace(access, count=self._kinds[kind])

    def end(self, tell: Tell) -> None:
        """Says how much was not told. Once, last."""
        if self._untold:
            counts = ", ".join(f"{count:,} {decision}" for decision, count in sorted(self._untold.items()))
            tell(_of_itself(f"{self._untold.total():,} more records were not kept: {counts}"))

    def notes(self, since: int) -> list[str]:
        """What was refused after the first `since` refusals, a sentence each; different ones only, and few."""
        found = list(dict.fromkeys(reason for number, reason in self._latest if number > since))
        more = len(found) - _MOST_NOTES
        notes = [f"Network refused: {reason}." for reason in found[:_MOST_NOTES]]
        return [*notes, f"Network refused: {more} more, see the history."] if more > 0 else notes

    def take(self, count: int, *, up: bool) -> bool:
        """Counts bytes; False when that is more than the sandbox may carry, and these must not go on."""
        if self.left < count:
            return False
        if up:
            self.bytes_up += count
        else:
            self.bytes_down += count
        return True

    @property
    def left(self) -> int:
        return self._quota - self.bytes_up - self.bytes_down

    def statistics(self) -> NetworkStatistics:
        return NetworkStatistics(
            self.open, self.allowed, self.refused, self.bytes_up, self.bytes_down, self.left
        )


def _of_itself(text: str) -> Access:
    """What the record says of itself."""
    return Access("closed", "..", 0, "http", text)


def _is_power_of_ten(count: int) -> bool:
    return str(count).rstrip("0") == "1"
