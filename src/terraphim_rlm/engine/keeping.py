"""SNAPSHOT and ROLLBACK of a reply: the state of the root node's sandbox, kept under a name and brought back."""

from __future__ import annotations

from terraphim_rlm.core.errors import InvalidArgument, NotSupported, RlmError, SnapshotError
from terraphim_rlm.core.values import to_json
from terraphim_rlm.engine.replies import Rollback, Snapshot
from terraphim_rlm.engine.telling import Teller
from terraphim_rlm.sandbox.sandbox import Sandbox

_CHILD = "Only the node that owns the sandbox can do that; work with your own variables instead."


async def keep_or_go_back(command: Snapshot | Rollback, sandbox: Sandbox, tell: Teller) -> tuple[bool, str]:
    """Whether it was done, and what the model is told of it."""
    if tell.parent is not None:
        return False, f"{command.kind.upper()}: {_CHILD}"
    try:
        if isinstance(command, Snapshot):
            return True, await _keep(command.name, sandbox, tell)
        return True, await _go_back(command.name, sandbox, tell)
    except (SnapshotError, InvalidArgument, NotSupported) as error:
        return False, f"{command.kind.upper()}: {_told(error)} Nothing has changed."


async def _keep(name: str, sandbox: Sandbox, tell: Teller) -> str:
    kept = await sandbox.snapshot(name)
    tell.told(tell.known.take_state("snapshot.created", name))("snapshot.created", **to_json(kept))
    return f"Snapshot {name} is kept: {len(kept.variables)} variables, and all files."


async def _go_back(name: str, sandbox: Sandbox, tell: Teller) -> str:
    kept = await sandbox.rollback(name)
    tell.told(tell.known.take_state("snapshot.rolled_back", name))(
        "snapshot.rolled_back", id=kept.id, name=kept.name
    )
    return f"Variables and files are again what they were at snapshot {name}."


def _told(error: RlmError) -> str:
    return f"{error.message} {error.fix}"
