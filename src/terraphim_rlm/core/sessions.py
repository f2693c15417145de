"""Sessions as everybody sees them: a caller's lasting hold on a sandbox, and what was executed in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from terraphim_rlm.core.errors import RlmError, SessionExpired, SessionLost, SessionNotFound

SessionStatus = Literal["live", "expired", "destroyed", "lost"]
SESSION_SECONDS = 1800.0
"""How long a session lasts, and how much each extension adds."""
MOST_EXTENSIONS = 3


@dataclass(frozen=True, slots=True)
class Session:
    """A session on one line. Times are seconds since the epoch."""

    id: str
    status: SessionStatus
    name: str | None
    """Unique among the living ones of one owner."""
    backend: str
    resources: Mapping[str, Any]
    """By the names of `Resources`."""
    packages: tuple[str, ...]
    origin: str | None
    """The session that it was branched from."""
    snapshot: str | None
    """The snapshot of `origin` that it began with; None = its state at that moment."""
    created: float
    expires: float
    extensions: int
    ended: float | None
    executions: int
    failures: int
    """Executions that did not end with `ok`."""
    used: float
    """When something was last done in it."""
    once: bool = False
    """Made for one execution, such as `trlm exec` without a session."""


@dataclass(frozen=True, slots=True)
class ExecutionRecord:
    """One execution of a session's history; long texts are cut to their first 2,000 characters."""

    id: str
    session: str
    language: str
    code: str
    status: str
    """One of `values.Status`, or `running`."""
    exit_code: int | None
    started: float
    finished: float | None
    seconds: float | None
    stdout: str
    stderr: str
    error: Mapping[str, str] | None
    """{type, message, traceback} of what a cell raised."""
    state_after: str | None
    whole: Mapping[str, Any] = field(default_factory=dict)
    """`code` and the result as JSON, in full; only when asked for."""


@dataclass(frozen=True, slots=True)
class SnapshotRecord:
    """A snapshot as the journal knows it."""

    id: str
    session: str
    name: str
    status: Literal["kept", "forgotten", "lost"]
    created: float
    ended: float | None
    rollbacks: int
    data: Mapping[str, Any]
    """The snapshot as its sandbox described it (`values.Snapshot`)."""


def gone(session: Session) -> RlmError:
    """Why a session that is not live cannot be used."""
    known = {"session": session.id, "status": session.status}
    if session.status == "expired":
        return SessionExpired(f"The session {session.name or session.id} has expired.", **known)
    if session.status == "lost":
        return SessionLost(
            f"The session {session.name or session.id} is lost: its sandbox ended, or the process that kept it.",
            **known,
        )
    return SessionNotFound(f"The session {session.name or session.id} was destroyed.", **known)
