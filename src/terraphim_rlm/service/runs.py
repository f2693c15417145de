"""The runs there were: a list, and one in full. Works beside a run in progress, and makes no journal."""

from __future__ import annotations

import difflib
import re
from typing import Any, get_args

from terraphim_rlm.core.errors import InvalidArgument, RunNotFound
from terraphim_rlm.core.paths import data_dir
from terraphim_rlm.core.values import SCHEMA_VERSION, RunStatus, to_json
from terraphim_rlm.store.database import FILE_NAME
from terraphim_rlm.store.reader import JournalReader, RunDetail, RunNode, RunSummary

__all__ = ["list_runs", "show_run", "runs_to_json", "RunSummary", "RunDetail", "RunNode"]

MAX_LISTED = 10_000
MAX_EVENTS = 10_000
_STATUSES: tuple[str, ...] = get_args(RunStatus)
_ID = re.compile(r"(?:run-)?([0-9a-z]{1,26})", re.IGNORECASE)


def list_runs(limit: int = 20, status: RunStatus | None = None) -> list[RunSummary]:
    """The latest runs, newest first; an empty list when there is no journal.

    Raises:
        InvalidArgument: `limit` is not 1 to 10,000, or there is no such status.
        StoreError: the journal cannot be read.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_LISTED:
        raise InvalidArgument(f"limit must be 1 to {MAX_LISTED:,}, not {limit!r}.", name="limit")
    if status is not None and status not in _STATUSES:
        raise InvalidArgument(
            f"There is no status {status!r}.", fix=f"Use one of: {', '.join(_STATUSES)}.", name="status"
        )
    with _reader() as reader:
        return reader.runs(limit=limit, status=status)


def show_run(run: str, *, max_events: int = MAX_EVENTS, whole: bool = False) -> RunDetail:
    """One run, by its id or by a beginning of it that no other run has (`run-` may be left out).

    Args:
        max_events: the first so many events are given; `events_total` says how many there are.
        whole: fetch long outputs; without it a long field is `{"blob": sha256, "bytes": n}`.

    Raises:
        RunNotFound: no run has that id; the fix names the nearest.
        InvalidArgument: several runs begin with it.
        StoreError: the journal cannot be read, or what it holds of this run is damaged.
    """
    with _reader() as reader:
        match = _ID.fullmatch(run.strip())
        found = reader.ids(f"run-{match[1].upper()}", limit=6) if match else []
        if len(found) > 1:
            raise InvalidArgument(
                f"Several runs begin with {run!r}: {', '.join(found[:5])}{' ..' if found[5:] else ''}.",
                fix="Give more of the id.",
                run=run,
            )
        detail = reader.run(found[0], max_events=max_events, whole=whole) if found else None
        if detail is None:
            raise _not_found(run, reader)
        return detail


def runs_to_json(runs: list[RunSummary]) -> dict[str, Any]:
    """`{"schema_version", "runs": [..]}`, each run by the names of `RunSummary`."""
    return {"schema_version": SCHEMA_VERSION, "runs": to_json(runs)}


def _reader() -> JournalReader:
    return JournalReader(data_dir() / FILE_NAME)


def _not_found(run: str, reader: JournalReader) -> RunNotFound:
    latest = reader.ids("run-", limit=200)
    if not latest:
        return RunNotFound(
            f"There is no run {run[:80]!r}; there are no runs yet.", fix="Ask something first: `trlm ask`."
        )
    near = difflib.get_close_matches(run[:80].upper(), [each.upper() for each in latest], n=1)
    suggestion = f"run-{near[0][4:]}" if near else latest[0]
    word = "nearest" if near else "latest"
    return RunNotFound(
        f"There is no run {run[:80]!r}.",
        fix=f"The {word} is {suggestion}; `trlm runs list` shows them all.",
        suggestion=suggestion,
    )


def events_of(run: str, after: int = 0) -> list[dict[str, Any]]:
    """A run's events as the journal has them, those with a `seq` beyond `after`, in order.

    Raises:
        RunNotFound, InvalidArgument, StoreError: as `show_run`.
    """
    nodes = list(show_run(run, max_events=10**9, whole=True).nodes)
    found: list[dict[str, Any]] = []
    while nodes:
        node = nodes.pop()
        found += [event for event in node.events if event["seq"] > after]
        nodes += node.children
    return sorted(found, key=lambda event: int(event["seq"]))
