"""Sandboxes that keep, list or refuse snapshots wrongly."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from terraphim_rlm.core.errors import InvalidArgument, SnapshotLimit, SnapshotNotFound, SnapshotRefused
from terraphim_rlm.core.ids import new_id
from terraphim_rlm.core.values import Snapshot, SnapshotDiff
from terraphim_rlm.testing.conformance.lies.wrapped import Wrapped, fault


@fault("takes no snapshot where it says it did", "snapshots", "rollback")
class TakesNone(Wrapped):
    async def snapshot(self, name: Any = None, **options: Any) -> Snapshot:
        if not self._box.snapshots():
            first: Snapshot = await self._box.snapshot(name, **options)
            return first
        other: Snapshot = self._box.snapshots()[0]
        return replace(other, name=name or "snapshot", id=new_id("snap"))


@fault("lists the newest snapshot first", "snapshots")
class ListsBackwards(Wrapped):
    def snapshots(self) -> tuple[Snapshot, ...]:
        return tuple(reversed(self._box.snapshots()))


@fault("takes any name for a snapshot", "snapshots")
class TakesAnyName(Wrapped):
    async def snapshot(self, name: Any = None, **options: Any) -> Snapshot:
        try:
            kept: Snapshot = await self._box.snapshot(name, **options)
        except InvalidArgument:
            kept = await self._box.snapshot(None, **options)
        return kept


@fault("replaces a snapshot of the same name", "snapshots")
class Replaces(Wrapped):
    async def snapshot(self, name: Any = None, **options: Any) -> Snapshot:
        if name in [each.name for each in self._box.snapshots()]:
            await self._box.forget(name)
        kept: Snapshot = await self._box.snapshot(name, **options)
        return kept


@fault("forgets the oldest snapshot where there are as many as there may be", "snapshots")
class DropsOldest(Wrapped):
    async def snapshot(self, name: Any = None, **options: Any) -> Snapshot:
        try:
            kept: Snapshot = await self._box.snapshot(name, **options)
        except SnapshotLimit:
            await self._box.forget(self._box.snapshots()[0])
            kept = await self._box.snapshot(name, **options)
        return kept


@fault("leaves out what it cannot keep, and does not say so", "snapshots")
class LeavesOut(Wrapped):
    async def snapshot(self, name: Any = None, *, partial: bool = False) -> Snapshot:
        kept: Snapshot = await self._box.snapshot(name, partial=True)
        return replace(kept, missing=())


@fault("names nothing that a partial snapshot lacks", "snapshots")
class NamesNothing(Wrapped):
    async def snapshot(self, name: Any = None, *, partial: bool = False) -> Snapshot:
        kept: Snapshot = await self._box.snapshot(name, partial=partial)
        return replace(kept, missing=())


@fault("refuses a snapshot and does not say for what", "snapshots")
class RefusesWordless(Wrapped):
    async def snapshot(self, name: Any = None, **options: Any) -> Snapshot:
        try:
            kept: Snapshot = await self._box.snapshot(name, **options)
        except SnapshotRefused:
            raise SnapshotRefused("Something cannot be kept.") from None
        return kept


@fault("draws other random numbers once a snapshot was taken", "snapshots")
class Reseeds(Wrapped):
    async def snapshot(self, name: Any = None, **options: Any) -> Snapshot:
        kept: Snapshot = await self._box.snapshot(name, **options)
        await self._box.run("import random; random.seed()")
        return kept


@fault("forgets no snapshot", "snapshots")
class ForgetsNone(Wrapped):
    async def forget(self, snapshot: Any) -> None:
        """Does nothing."""


@fault("takes another snapshot where the named one is not there", "snapshots")
class TakesAnother(Wrapped):
    async def rollback(self, snapshot: Any) -> Snapshot:
        try:
            kept: Snapshot = await self._box.rollback(snapshot)
        except SnapshotNotFound:
            kept = await self._box.rollback(self._box.snapshots()[-1])
        return kept


class Differs(Wrapped):
    """Tells differences otherwise."""

    async def diff(self, before: Any, after: Any = None) -> SnapshotDiff:
        return self.compared(await self._box.diff(before, after))

    def compared(self, found: SnapshotDiff) -> SnapshotDiff:
        """What is said of a difference."""
        return found


@fault("misses what was removed", "differences")
class MissesRemoved(Differs):
    def compared(self, found: SnapshotDiff) -> SnapshotDiff:
        return replace(found, removed=())


@fault("misses what was added", "differences")
class MissesAdded(Differs):
    def compared(self, found: SnapshotDiff) -> SnapshotDiff:
        return replace(found, added=())


@fault("misses one of several changes", "differences")
class MissesChanges(Differs):
    def compared(self, found: SnapshotDiff) -> SnapshotDiff:
        return replace(found, changed=found.changed[:1])


@fault("misses variables in a difference", "differences")
class MissesVariables(Differs):
    def compared(self, found: SnapshotDiff) -> SnapshotDiff:
        return replace(found, variables_added=(), variables_removed=())


@fault("tells a difference the wrong way round", "differences")
class Reverses(Differs):
    def compared(self, found: SnapshotDiff) -> SnapshotDiff:
        return replace(found, added=found.removed, removed=found.added)


@fault("always compares with now", "differences")
class ComparesWithNow(Wrapped):
    async def diff(self, before: Any, after: Any = None) -> SnapshotDiff:
        found: SnapshotDiff = await self._box.diff(before)
        return found


@fault("takes what was only read for changed", "differences")
class TakesReadForChanged(Differs):
    def compared(self, found: SnapshotDiff) -> SnapshotDiff:
        return replace(found, changed=(*found.changed, "/work/d/a")) if not found.changed else found


class Restores(Wrapped):
    """Puts single files back otherwise."""

    async def restore_files(self, snapshot: Any, paths: Iterable[str]) -> list[str]:
        found: list[str] = await self._box.restore_files(snapshot, paths)
        return found


@fault("goes back with everything where single files were named", "rollback")
class RestoresAll(Restores):
    async def restore_files(self, snapshot: Any, paths: Iterable[str]) -> list[str]:
        found = await super().restore_files(snapshot, paths)
        await self._box.rollback(snapshot)
        return found


@fault("restores none of the files that were named", "rollback")
class RestoresNone(Restores):
    async def restore_files(self, snapshot: Any, paths: Iterable[str]) -> list[str]:
        return await super().restore_files(snapshot, list(paths)[-1:])


@fault("does not tell which files it could not restore", "rollback")
class TellsNoMissing(Restores):
    async def restore_files(self, snapshot: Any, paths: Iterable[str]) -> list[str]:
        await super().restore_files(snapshot, paths)
        return []


@fault("ignores paths that it may not restore", "rollback")
class IgnoresPaths(Restores):
    async def restore_files(self, snapshot: Any, paths: Iterable[str]) -> list[str]:
        try:
            return await super().restore_files(snapshot, paths)
        except InvalidArgument:
            return []
