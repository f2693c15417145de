"""Which files of the work folder an execution changed, for a caller who asks.

It is on request: two listings cost a hundred times what a cell's round trip does, and nothing cheaper is exact. A
folder's own time tells of its entries only, times after the start are taken by what an earlier execution wrote in the
same tick, and a watch would cost every write of everyone.
"""

from __future__ import annotations

from collections.abc import Mapping

from terraphim_rlm.core.errors import RlmError
from terraphim_rlm.core.values import FileInfo
from terraphim_rlm.sandbox.contract import HOME, MachineFiles

MOST = 1_000
"""Paths that are named."""

Listing = Mapping[str, FileInfo]


async def listing(files: MachineFiles) -> Listing:
    """What is in the work folder now.

    Raises:
        FileTooLarge: there are more than 100,000 entries.
    """
    return {info.path: info for info in await files.entries(HOME, deep=True)}


async def since(before: Listing, files: MachineFiles) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Paths that were made, changed or removed, relative to the work folder, and what else is to be said of them."""
    try:
        after = await listing(files)
    except RlmError as error:
        return (), (f"Which files it changed is not known: {error.message}",)
    changed = sorted(path for path in before.keys() | after.keys() if _of(before, path) != _of(after, path))
    if len(changed) <= MOST:
        return tuple(changed), ()
    return tuple(changed[:MOST]), (f"It changed {len(changed):,} files; the first {MOST:,} are named.",)


def _of(listed: Listing, path: str) -> tuple[object, ...] | None:
    """What tells one state of an entry from another; a folder's own time follows its entries, which are named."""
    info = listed.get(path)
    if info is None:
        return None
    return info.kind, info.mode, info.size, None if info.kind == "folder" else info.modified
