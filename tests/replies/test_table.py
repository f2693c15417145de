"""The table of replies: one file a failure class, each row a reply and what must come of it."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from terraphim_rlm.engine.replies import REASONS, Code, Command, Final, QueryBatched, parse

_FILES = sorted((Path(__file__).parent / "table").glob("*.toml"))
_ROWS = [(path.stem, row) for path in _FILES for row in tomllib.loads(path.read_text("utf-8"))["reply"]]
_KEYS = {"name", "reply", "commands", "dropped", "notice", "transcript", "repairs", "value"}


def _said(command: Command) -> list[str]:
    match command:
        case Code(language=language, code=code):
            return ["code", language, code]
        case QueryBatched(prompts=prompts):
            return ["query_batched", *prompts]
    content = next(getattr(command, name) for name in command.__slots__)
    return [command.kind, content]


_CATALOGUE = {"nested_fences": "G05", "tilde_fences": "G05", "wrong_language": "G07", "crlf": "G07"}
"""Files that are rows of the attack catalogue, too."""


def _named(group: str, row: dict[str, Any]) -> Any:
    marks = [pytest.mark.row(_CATALOGUE[group])] if group in _CATALOGUE else []
    return pytest.param(group, row, id=f"{group}: {row['name']}", marks=marks)


@pytest.mark.parametrize(("group", "row"), [_named(group, row) for group, row in _ROWS])
def test_a_reply_of_the_table_gives_the_commands_it_says(group: str, row: dict[str, Any]) -> None:
    assert row.keys() <= _KEYS
    parsed = parse(row["reply"])
    assert [_said(command) for command in parsed.commands] == row.get("commands", [])
    assert [item.reason for item in parsed.dropped] == row.get("dropped", [])
    assert row.get("notice", "") in (parsed.notice or "")
    assert (parsed.notice is None) <= bool(parsed.commands)
    assert parsed.transcript == row.get("transcript", row["reply"])
    repairs = [name for command in parsed.commands if isinstance(command, Code) for name in command.repairs]
    assert repairs == row.get("repairs", [])
    if "value" in row:
        assert [c.value for c in parsed.commands if isinstance(c, Final)] == [json.loads(row["value"])]


def test_the_table_holds_five_replies_of_every_failure_class() -> None:
    counts = Counter(group for group, _ in _ROWS)
    assert len(_ROWS) >= 180
    assert min(counts.values()) >= 5
    assert len(counts) >= 20


def test_the_table_shows_every_reason_but_the_bound() -> None:
    shown = {reason for _, row in _ROWS for reason in row.get("dropped", [])}
    assert shown == set(REASONS) - {"too_many"}
