"""The project's own format: JSON lines, a head, one line an event, an end. `run.schema.json` describes each line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

from terraphim_rlm import __version__
from terraphim_rlm.core.values import to_json
from terraphim_rlm.service.exports.story import Story

SCHEMA = "terraphim-rlm/run"
SCHEMA_VERSION = 1
"""Raised when a field goes or means something else; new fields and new types of events do not raise it."""


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a line."""
    found: dict[str, Any] = json.loads(
        files("terraphim_rlm.service.exports").joinpath("run.schema.json").read_text("utf-8")
    )
    return found


def as_lines(story: Story) -> Iterator[Mapping[str, Any]]:
    """The objects of the lines, in order. A file without its `end` was cut."""
    yield {
        "kind": "run",
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "producer": f"terraphim-rlm {__version__}",
        "run": to_json(story.summary),
    }
    for event in story.events:
        yield {"kind": "event", **event}
    yield {"kind": "end", "events": len(story.events), "finished": bool(story.finished)}
