"""The use case: one run of the journal in one of the formats. Reads the journal only, also of a run that never ended."""

from __future__ import annotations

import errno
import json
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from terraphim_rlm.core.errors import DiskFull, InvalidArgument
from terraphim_rlm.service.exports.html import as_page
from terraphim_rlm.service.exports.lines import as_lines
from terraphim_rlm.service.exports.masking import Mask
from terraphim_rlm.service.exports.rlms import as_log
from terraphim_rlm.service.exports.spans import as_spans
from terraphim_rlm.service.exports.story import Story, tell
from terraphim_rlm.service.exports.transcript import as_trajectories
from terraphim_rlm.service.exports.upstream import as_trajectory
from terraphim_rlm.service.runs import show_run
from terraphim_rlm.store.reader import RunDetail, RunNode

EVERYTHING = 1 << 40
"""Events of a run: an export gives all of them."""


@dataclass(frozen=True, slots=True)
class Export:
    """A run in a format."""

    run: str
    format: str
    text: str
    masked: int
    """Credentials that were found in it and masked."""


def _masked(detail: RunDetail, mask: Mask) -> RunDetail:
    """The run without credentials, before any format sees it."""
    about = detail.summary
    clean = replace(
        about,
        question=mask.text(about.question),
        answer=None if about.answer is None else mask.text(about.answer),
        error=None if about.error is None else mask.json(about.error),
    )
    return replace(detail, summary=clean, nodes=[_masked_node(node, mask) for node in detail.nodes])


def _masked_node(node: RunNode, mask: Mask) -> RunNode:
    events = [{**event, "data": mask.json(_bare(event))} for event in _unsplit(node.events, mask)]
    return RunNode(node.id, events, [_masked_node(child, mask) for child in node.children])


def _bare(event: Mapping[str, Any]) -> Any:
    """An event's data without the input that the journal keeps: encoded, it could not be masked."""
    data = event["data"]
    if event["type"] != "run.started" or not isinstance(data, Mapping):
        return data
    return {name: value for name, value in data.items() if name != "input"}


def _unsplit(events: list[dict[str, Any]], mask: Mask) -> list[dict[str, Any]]:
    """The events with no credential cut in two: where pieces of an output hold one together, the first takes them all."""
    pieces: dict[tuple[Any, Any], list[int]] = {}
    for at, event in enumerate(events):
        data = event["data"]
        if event["type"] == "cell.output" and isinstance(data.get("text"), str):
            pieces.setdefault((data.get("execution_id"), data.get("stream")), []).append(at)
    found = list(events)
    for places in pieces.values():
        texts = [events[at]["data"]["text"] for at in places]
        if mask.finds("".join(texts)) > sum(map(mask.finds, texts)):
            for at, said in zip(places, ["".join(texts), *[""] * (len(places) - 1)], strict=True):
                found[at] = {**events[at], "data": {**events[at]["data"], "text": said}}
    return found


def _json_lines(objects: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(each, ensure_ascii=False, allow_nan=False) + "\n" for each in objects)


FORMATS: dict[str, tuple[str, Callable[[Story], str]]] = {
    "jsonl": ("every event, by our own schema", lambda story: _json_lines(as_lines(story))),
    "upstream": (
        "the trajectory log of the Rust crate terraphim_rlm",
        lambda story: _json_lines(as_trajectory(story)),
    ),
    "rlms": ("the log of the Python library rlms", lambda story: _json_lines(as_log(story))),
    "otel": ("OpenTelemetry spans, as OTLP's JSON", lambda story: _json_lines([as_spans(story)])),
    "sft": ("chat messages for training, a node a line", lambda story: _json_lines(as_trajectories(story))),
    "html": ("one page to look at: tree, timeline, cost, quotes", as_page),
}
"""Name -> what it is, and how it is made."""


def export_run(run: str, form: str) -> Export:
    """A run by its id, or the beginning of one, as text in the format `form`.

    Raises:
        InvalidArgument: there is no such format, or several runs begin so.
        RunNotFound, StoreError: see `show_run`.
    """
    if form not in FORMATS:
        raise InvalidArgument(
            f"There is no format {form[:80]!r}.", fix=f"Use one of: {', '.join(FORMATS)}.", name="format"
        )
    mask = Mask()
    story = tell(_masked(show_run(run, max_events=EVERYTHING, whole=True), mask))
    return Export(story.summary.id, form, FORMATS[form][1](story), mask.count)


def save(path: Path, text: str) -> int:
    """Writes a file that only its owner may read, since a run holds what its input held; the bytes written.

    It is written beside its place and then moved there: whoever reads it sees all of it, or what was there before.

    Raises:
        InvalidArgument: it cannot be written there.
        DiskFull: there is no space left for it.
    """
    data = text.encode("utf-8", "backslashreplace")  # a lone surrogate, which JSON reads back as the same
    draft = None
    try:
        if path.exists() and not path.is_file():  # a device, a pipe
            path.write_bytes(data)
            return len(data)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".trlm-", delete=False) as file:
            draft = Path(file.name)
            file.write(data)
        draft.replace(path)
    except OSError as error:
        if draft is not None:
            draft.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"There is no space left for {path}.", path=str(path)) from error
        raise InvalidArgument(
            f"{path} cannot be written: {error.strerror}.",
            fix="Name a file in a folder that you may write to.",
        ) from error
    return len(data)
