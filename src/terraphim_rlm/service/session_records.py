"""Sessions as the journal knows them: a list, one of them, what was executed in it. Needs no daemon and makes no journal."""

from __future__ import annotations

import difflib
import re
from typing import Any, get_args

from terraphim_rlm.core.errors import InvalidArgument, RlmError, SessionNotFound
from terraphim_rlm.core.network import AccessRecord
from terraphim_rlm.core.paths import data_dir
from terraphim_rlm.core.sessions import ExecutionRecord, Session, SessionStatus, SnapshotRecord
from terraphim_rlm.core.values import SCHEMA_VERSION, to_json
from terraphim_rlm.store.database import FILE_NAME
from terraphim_rlm.store.session_reader import SessionReader, Wanted

MOST_LISTED = 10_000
_SHOWN = 20
_STATUSES: tuple[str, ...] = get_args(SessionStatus)
_ID = re.compile(r"(?:sess-)?([0-9a-z]{1,26})", re.IGNORECASE)
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def check_name(name: str) -> None:
    """Raises:
    InvalidArgument: it cannot be a session's name.
    """
    if _NAME.fullmatch(name) is None or name.startswith("sess-"):
        raise InvalidArgument(
            f"A session cannot be called {name[:80]!r}.",
            fix="Use up to 64 of a-z, 0-9, '.', '_' and '-', a letter or digit first, and not sess-.",
            name=name[:80],
        )


def list_sessions(
    limit: int = 100, *, status: SessionStatus | None = None, once: bool = False
) -> list[Session]:
    """The latest sessions, newest first; an empty list when there is no journal.

    Args:
        status: only those; None = all.
        once: also those that were made for one execution (`trlm exec` without a session).

    Raises:
        InvalidArgument: `limit` is not 1 to 10,000, or there is no such status.
        StoreError: the journal cannot be read.
    """
    _check_limit(limit)
    if status is not None and status not in _STATUSES:
        raise InvalidArgument(
            f"There is no status {str(status)[:40]!r}.",
            fix=f"Use one of: {', '.join(_STATUSES)}.",
            name="status",
        )
    with _reader() as reader:
        return reader.sessions(limit=limit, status=status, once=once)


def find_session(wanted: str) -> Session:
    """A session by its id, its name, or a beginning of its id that no other has (`sess-` may be left out).

    A living one wins over those that have ended.

    Raises:
        SessionNotFound: there is none; the fix names what may have been meant.
        InvalidArgument: several begin with it.
        StoreError: the journal cannot be read.
    """
    wanted = wanted.encode("utf-8", "replace").decode().strip()
    with _reader() as reader:
        if wanted and (named := reader.named(wanted)) is not None:
            return named
        match = _ID.fullmatch(wanted)
        found = reader.beginning(f"sess-{match[1].upper()}", limit=6) if match else []
        living = [each for each in found if each.status == "live"]
        if len(living) == 1 or len(found) == 1:
            return (living or found)[0]
        if found:
            raise _several(wanted, living or found)
        raise _not_found(wanted, reader)


def only_session() -> Session:
    """The session that lives, where there is just one.

    Raises:
        SessionNotFound: none lives.
        InvalidArgument: several do; they are listed.
    """
    living = list_sessions(MOST_LISTED, status="live")
    if not living:
        raise SessionNotFound(
            "No session is named, and none lives.", fix="Make one: `trlm session new`, or name it."
        )
    if len(living) > 1:
        raise InvalidArgument(
            f"No session is named, and {len(living)} live: {_names(living)}.",
            fix="Name one of them.",
            sessions=[each.id for each in living[:_SHOWN]],
        )
    return living[0]


def history(
    session: str | None = None, *, failures: bool = False, limit: int = 100, whole: bool = False
) -> list[ExecutionRecord]:
    """What was executed, newest first.

    Args:
        session: as for `find_session`; None = in every session, and by `trlm exec`.
        failures: only what ended in another way than `ok`.
        whole: with code and result in full.

    Raises:
        SessionNotFound, InvalidArgument: as for `find_session`; or `limit` is not 1 to 10,000.
        StoreError: the journal cannot be read, or what it holds of these executions is damaged.
    """
    _check_limit(limit)
    found = None if session is None else find_session(session).id
    with _reader() as reader:
        return reader.history(Wanted(found, failures, limit, whole))


def snapshots(session: str) -> list[SnapshotRecord]:
    """A session's snapshots, oldest first; also those that are no longer there. Raises as `find_session`."""
    found = find_session(session).id
    with _reader() as reader:
        return reader.snapshots(found)


def accesses(session: str, *, refused: bool = False, limit: int = 100) -> list[AccessRecord]:
    """What a session's code reached over the network, or was refused, newest first.

    Args:
        session: as for `find_session`.
        refused: only refusals.

    Raises:
        SessionNotFound, InvalidArgument: as for `find_session`; or `limit` is not 1 to 10,000.
        StoreError: the journal cannot be read, or what it holds of these is damaged.
    """
    _check_limit(limit)
    found = find_session(session).id
    with _reader() as reader:
        return reader.accesses(found, refused=refused, limit=limit)


def accesses_to_json(records: list[AccessRecord]) -> dict[str, Any]:
    """`{"schema_version", "accesses": [..]}`, each by the names of `AccessRecord`."""
    return {"schema_version": SCHEMA_VERSION, "accesses": to_json(records)}


def sessions_to_json(sessions: list[Session]) -> dict[str, Any]:
    """`{"schema_version", "sessions": [..]}`, each by the names of `Session`."""
    return {"schema_version": SCHEMA_VERSION, "sessions": to_json(sessions)}


def history_to_json(records: list[ExecutionRecord]) -> dict[str, Any]:
    """`{"schema_version", "executions": [..]}`, each by the names of `ExecutionRecord`."""
    return {"schema_version": SCHEMA_VERSION, "executions": to_json(records)}


def _reader() -> SessionReader:
    return SessionReader(data_dir() / FILE_NAME)


def _check_limit(limit: int) -> None:
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MOST_LISTED:
        raise InvalidArgument(f"limit must be 1 to {MOST_LISTED:,}, not {limit!r}.", name="limit")


def _names(sessions: list[Session]) -> str:
    more = f" .. and {len(sessions) - _SHOWN} more" if len(sessions) > _SHOWN else ""
    return ", ".join(each.name or each.id for each in sessions[:_SHOWN]) + more


def _several(wanted: str, found: list[Session]) -> RlmError:
    return InvalidArgument(
        f"Several sessions begin with {wanted!r}: {_names(found[:5])}{' ..' if len(found) > 5 else ''}.",
        fix="Give more of the id.",
        session=wanted,
    )


def _not_found(wanted: str, reader: SessionReader) -> RlmError:
    latest = reader.sessions(limit=200)
    if not latest:
        return SessionNotFound(
            f"There is no session {wanted[:80]!r}; there are none yet.",
            fix="Make one: `trlm session new`.",
        )
    known = {word: each for each in latest for word in (each.id.lower(), each.name) if word}
    near = difflib.get_close_matches(wanted[:80].lower(), list(known), n=1)
    if not near:
        return SessionNotFound(f"There is no session {wanted[:80]!r}.")
    suggestion = known[near[0]].name or known[near[0]].id
    return SessionNotFound(
        f"There is no session {wanted[:80]!r}.",
        fix=f"The nearest is {suggestion}; `trlm session list` shows them all.",
        suggestion=suggestion,
    )
