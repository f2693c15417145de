"""Sandboxes that go back to another state than the one that was kept, or branch wrongly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from terraphim_rlm.core.errors import SandboxLost, SnapshotNotFound
from terraphim_rlm.core.values import ExecutionResult, Snapshot
from terraphim_rlm.testing.conformance.lies.wrapped import Wrapped, fault
from terraphim_rlm.testing.conformance.model import Box


async def _packed(box: Box, paths: Sequence[str] = ("/work", "/tmp")) -> bytes:  # noqa: S108 - the sandbox's own
    names = "\0".join(path.lstrip("/") for path in paths)
    packed: bytes = (await box.sh("tar -C / --null -T - -cf -", stdin=names)).stdout_bytes
    return packed


async def _unpack(box: Box, packed: bytes) -> None:
    await box.sh("tar -C / -xf - 2>/dev/null", stdin=packed)


async def _found(box: Box, snapshot: Any) -> Snapshot:
    for each in box.snapshots():
        if snapshot in (each, each.name, each.id):
            found: Snapshot = each
            return found
    raise SnapshotNotFound(f"{snapshot!r} is not there.")


@fault("goes back with nothing", "rollback")
class GoesNowhere(Wrapped):
    async def rollback(self, snapshot: Any) -> Snapshot:
        return await _found(self._box, snapshot)


@fault("goes back with files only", "rollback")
class OnlyFiles(Wrapped):
    async def rollback(self, snapshot: Any) -> Snapshot:
        found = await self._box.diff(snapshot)
        await self._box.restore_files(snapshot, [*found.added, *found.changed, *found.removed])
        return await _found(self._box, snapshot)


@fault("goes back with variables only", "rollback")
class OnlyVariables(Wrapped):
    async def rollback(self, snapshot: Any) -> Snapshot:
        files = await _packed(self._box)
        kept: Snapshot = await self._box.rollback(snapshot)
        await self._box.sh("find /work /tmp -mindepth 1 -delete")
        await _unpack(self._box, files)
        return kept


@fault("leaves files that are new at a rollback", "rollback")
class LeavesNew(Wrapped):
    async def rollback(self, snapshot: Any) -> Snapshot:
        files = await _packed(self._box, (await self._box.diff(snapshot)).added)
        kept: Snapshot = await self._box.rollback(snapshot)
        await _unpack(self._box, files)
        return kept


@fault("goes back to the newest snapshot, whichever is named", "rollback")
class OnlyNewest(Wrapped):
    async def rollback(self, snapshot: Any) -> Snapshot:
        await self._box.rollback(self._box.snapshots()[-1])
        return await _found(self._box, snapshot)


@fault("goes back to a snapshot once only", "rollback")
class OnceOnly(Wrapped):
    async def rollback(self, snapshot: Any) -> Snapshot:
        used = self.__dict__.setdefault("used", set())
        if snapshot in used:
            return await _found(self._box, snapshot)
        used.add(snapshot)
        kept: Snapshot = await self._box.rollback(snapshot)
        return kept


@fault("lets what was started since live on after a rollback", "rollback")
class LeavesProcesses(Wrapped):
    async def rollback(self, snapshot: Any) -> Snapshot:
        told = (await self._box.sh("pgrep -xa sleep")).stdout
        kept: Snapshot = await self._box.rollback(snapshot)
        for line in told.splitlines():
            await self._box.sh(f"setsid {line.partition(' ')[2]} </dev/null >/dev/null 2>&1 &")
        return kept


class Afterwards(Wrapped):
    """Spoils something after each rollback."""

    code: ClassVar[str] = ""
    language: ClassVar[str] = "python"

    async def rollback(self, snapshot: Any) -> Snapshot:
        kept: Snapshot = await self._box.rollback(snapshot)
        await self._box.run(self.code, self.language)
        return kept


@fault("goes back to another folder", "rollback")
class ForgetsFolder(Afterwards):
    code = "import os; os.chdir('/work')"


@fault("does not go back with the environment", "rollback")
class ForgetsEnvironment(Afterwards):
    code = "import os; os.environ.pop('M', None)"


@fault("goes on with other random numbers after a rollback", "rollback")
class Reseeds(Afterwards):
    code = "import random; random.seed()"


@fault("opens files anew at a rollback", "rollback")
class Rewinds(Afterwards):
    code = "for _each in list(globals().values()):\n    if hasattr(_each, 'seek'): _each.seek(0)"


@fault("loses modes at a rollback", "rollback")
class LosesModes(Afterwards):
    code = "import os; os.system('chmod -R a+rwX /work')"


@fault("loses links at a rollback", "rollback")
class LosesLinks(Afterwards):
    code = "import os; os.system('find /work -type l -delete')"


@fault("loses times at a rollback", "rollback")
class LosesTimes(Afterwards):
    code = "import os; os.system('find /work -type f -exec touch {} +')"


@fault("loses one file of a thousand at a rollback", "rollback")
class LosesOne(Afterwards):
    code = "import os; os.system('rm -f /work/many/77')"


@fault("gives branches that are all the same sandbox", "branch")
class OneForAll(Wrapped):
    async def branch(self, count: Any = 1, snapshot: Any = None) -> list[Any]:
        boxes = await self._box.branch(count, snapshot)
        for each in boxes[1:]:
            await each.close()
        return [_Closed(boxes[0])] * len(boxes)


class _Closed(Wrapped):
    async def close(self) -> None:
        """Only once."""
        if self._box.is_open:
            await self._box.close()


@fault("gives branches that are the sandbox they come from", "branch")
class Itself(Wrapped):
    async def branch(self, count: Any = 1, snapshot: Any = None) -> list[Any]:
        for each in await self._box.branch(count, snapshot):
            await each.close()
        return [_Kept(self._box)] * int(count)


class _Kept(Wrapped):
    async def close(self) -> None:
        """Is another's to close."""


class _Writes(Wrapped):
    """Writes into the files of another sandbox."""

    origin: Box = None

    async def run(self, code: Any, language: Any = "python", **options: Any) -> ExecutionResult:
        result = await super().run(code, language, **options)
        if self.origin.is_open:
            await _unpack(self.origin, await _packed(self._box))
        return result


@fault("gives branches that write into the files they come from", "branch")
class SharesFiles(Wrapped):
    async def branch(self, count: Any = 1, snapshot: Any = None) -> list[Any]:
        boxes = [_Writes(box) for box in await self._box.branch(count, snapshot)]
        for each in boxes:
            each.origin = self._box
        return boxes


@fault("branches from now where a snapshot is named", "branch")
class IgnoresSnapshot(Wrapped):
    async def branch(self, count: Any = 1, snapshot: Any = None) -> list[Any]:
        return await super().branch(count)


@fault("gives branches the same random numbers", "branch")
class SameNumbers(Wrapped):
    async def branch(self, count: Any = 1, snapshot: Any = None) -> list[Any]:
        boxes = await super().branch(count, snapshot)
        for each in boxes:
            await each.run("import random; random.seed(1)")
        return boxes


@fault("leaves a snapshot behind for every branch", "branch")
class LeavesSnapshot(Wrapped):
    async def branch(self, count: Any = 1, snapshot: Any = None) -> list[Any]:
        kept = snapshot or await self._box.snapshot()
        return await super().branch(count, kept)


@fault("gives one branch where several are asked for", "branch")
class GivesOne(Wrapped):
    async def branch(self, count: Any = 1, snapshot: Any = None) -> list[Any]:
        boxes = await super().branch(count, snapshot)
        for each in boxes[1:]:
            await each.close()
        return boxes[:1]


@fault("takes any number of branches for one", "branch")
class TakesAnyNumber(Wrapped):
    async def branch(self, count: Any = 1, snapshot: Any = None) -> list[Any]:
        fair = type(count) is int and 1 <= count <= 64
        return await super().branch(count if fair else 1, snapshot)


@fault("ends branches with the sandbox they come from", "branch", raises=(SandboxLost,))
class EndsBranches(Wrapped):
    async def branch(self, count: Any = 1, snapshot: Any = None) -> list[Any]:
        boxes = await super().branch(count, snapshot)
        self.__dict__.setdefault("made", []).extend(boxes)
        return boxes

    async def close(self) -> None:
        for each in self.__dict__.get("made", []):
            await each.close()
        await self._box.close()
