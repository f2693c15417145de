"""The snapshots of one living session: what `Sandbox` does with them, written down before it is answered."""

from __future__ import annotations

from collections.abc import Iterable

from terraphim_rlm.core.errors import SnapshotLost
from terraphim_rlm.core.events import EventLog, EventType
from terraphim_rlm.core.values import Snapshot, SnapshotDiff, to_json
from terraphim_rlm.sandbox.sandbox import Sandbox
from terraphim_rlm.store.journal import Journal


class LiveSnapshots:
    """Each method raises what the one of `Sandbox` does that it calls, and StoreError."""

    def __init__(self, box: Sandbox, journal: Journal, log: EventLog) -> None:
        self._box = box
        self._journal = journal
        self._log = log

    async def create(self, name: str | None = None, *, partial: bool = False) -> Snapshot:
        """See `Sandbox.snapshot`. One that cannot be written down is not kept."""
        snapshot = await self._box.snapshot(name, partial=partial)
        try:
            await self._tell("snapshot.created", **to_json(snapshot))
        except BaseException:
            self._emit("snapshot.forgotten", id=snapshot.id, name=snapshot.name)
            await self._box.forget(snapshot)
            raise
        return snapshot

    async def rollback(self, snapshot: str) -> Snapshot:
        """See `Sandbox.rollback`."""
        known = self._found(snapshot)
        try:
            restored = await self._box.rollback(snapshot)
        except SnapshotLost as error:
            if known is not None:
                await self._tell("snapshot.lost", id=known.id, name=known.name, why=error.message)
            raise
        await self._tell("snapshot.rolled_back", id=restored.id, name=restored.name)
        return restored

    async def restore_files(self, snapshot: str, paths: Iterable[str]) -> list[str]:
        """See `Sandbox.restore_files`."""
        wanted = list(paths)
        missing = await self._box.restore_files(snapshot, wanted)
        if (known := self._found(snapshot)) is not None:
            await self._tell("snapshot.restored", id=known.id, name=known.name, paths=wanted)
        return missing

    async def diff(self, before: str, after: str | None = None) -> SnapshotDiff:
        """See `Sandbox.diff`."""
        return await self._box.diff(before, after)

    async def forget(self, snapshot: str) -> None:
        """See `Sandbox.forget`."""
        known = self._found(snapshot)
        await self._box.forget(snapshot)
        if known is not None:
            await self._tell("snapshot.forgotten", id=known.id, name=known.name)

    def _found(self, wanted: str) -> Snapshot | None:
        return next((each for each in self._box.snapshots() if wanted in (each.id, each.name)), None)

    def _emit(self, kind: EventType, **data: object) -> None:
        self._log.emit(kind, self._log.run, None, **data)

    async def _tell(self, kind: EventType, **data: object) -> None:
        self._emit(kind, **data)
        await self._journal.commit()
