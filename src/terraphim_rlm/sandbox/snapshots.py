"""The named snapshots of one sandbox: what they are called, how many there may be, which are still there."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from terraphim_rlm.core.clock import SYSTEM_CLOCK, Clock
from terraphim_rlm.core.errors import InvalidArgument, SnapshotLimit, SnapshotNotFound
from terraphim_rlm.core.ids import new_id
from terraphim_rlm.core.values import Snapshot
from terraphim_rlm.sandbox.contract import MachineState

MOST = 10
"""Snapshots of one sandbox: each frozen interpreter holds what the live one has changed since."""
MOST_BRANCHES = 64
_NAME = re.compile(r"[a-z0-9._-]{1,64}")
_MOST_PATHS = 1_000


@dataclass(frozen=True, slots=True)
class Kept:
    """A snapshot with what the machine needs to go back to it."""

    snapshot: Snapshot
    state: MachineState


class Snapshots:
    """Those of one sandbox, oldest first."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._kept: dict[str, Kept] = {}
        self._clock = clock
        self._count = 0

    def new_name(self, name: str | None) -> str:
        """`name`, or a free one; there is room for it.

        Raises:
            InvalidArgument: it is no name, or taken.
            SnapshotLimit: there are as many as there may be.
        """
        if len(self._kept) >= MOST:
            raise SnapshotLimit(
                f"A sandbox keeps at most {MOST} snapshots: {', '.join(self._kept)}.",
                snapshots=list(self._kept),
            )
        if name is None:
            self._count += 1
            while f"snapshot-{self._count}" in self._kept:
                self._count += 1
            return f"snapshot-{self._count}"
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidArgument(
                f"{str(name)[:80]!r} is no name of a snapshot.",
                fix="Use 1 to 64 of: a to z, 0 to 9, dot, dash, underscore.",
            )
        if name in self._kept:
            raise InvalidArgument(
                f"There is a snapshot {name!r} already.", fix="Choose another name, or forget that one first."
            )
        return name

    def add(self, name: str, state: MachineState) -> Snapshot:
        snapshot = Snapshot(
            new_id("snap"), name, self._clock.wall(), dict(state.languages), state.variables, state.missing
        )
        self._kept[name] = Kept(snapshot, state)
        return snapshot

    def find(self, wanted: Snapshot | str) -> Kept:
        """By name, id, or the snapshot itself.

        Raises:
            SnapshotNotFound: there is none; the names are listed.
        """
        for kept in self._kept.values():
            if wanted in (kept.snapshot.name, kept.snapshot.id) or wanted == kept.snapshot:
                return kept
        shown = wanted.name if isinstance(wanted, Snapshot) else str(wanted)[:80]
        known = ", ".join(self._kept) or "none"
        raise SnapshotNotFound(
            f"There is no snapshot {shown!r} here.", fix=f"There are: {known}.", name=shown
        )

    def remove(self, kept: Kept) -> None:
        self._kept.pop(kept.snapshot.name, None)

    def all(self) -> tuple[Snapshot, ...]:
        return tuple(kept.snapshot for kept in self._kept.values())


def absolute(paths: Iterable[str], roots: Iterable[str], home: str) -> list[str]:
    """Paths as a machine takes them: absolute, below one of `roots`, without `.` and `..`.

    Raises:
        InvalidArgument: one is none, or lies elsewhere; or they are too many.
    """
    listed = list(paths) if not isinstance(paths, str) else [paths]
    if not 0 < len(listed) <= _MOST_PATHS:
        raise InvalidArgument(f"Name 1 to {_MOST_PATHS:,} paths at once, not {len(listed):,}.")
    return [_absolute(path, tuple(roots), home) for path in listed]


def _absolute(path: str, roots: tuple[str, ...], home: str) -> str:
    import os.path

    if not isinstance(path, str) or not path or "\0" in path or len(path) > 4096:
        raise InvalidArgument(f"{str(path)[:80]!r} is no path.")
    full = os.path.normpath(os.path.join(home, path))
    if not any(full.startswith(root + "/") for root in roots):
        raise InvalidArgument(f"{path[:80]!r} does not lie below {' or '.join(roots)}.")
    return full
