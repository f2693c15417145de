"""Rows of the attack catalogue that are tests: marked by their ids, counted, and printed at the end of a run.

A row of groups G, H or I is tried by tests marked `row("G01")`; each of their items is a named variation with its own
bytes and its own check.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

_PROPERTY = "rows"
ROWS = {
    "G01": "what a text says ends no run", "G02": "what a reply quotes does not run",
    "G03": "FINAL counts where the model means it", "G05": "fences nest as CommonMark says",
    "G06": "what is not closed does not run", "G07": "only known languages run",
    "G08": "broken tool calls are told and counted", "G09": "fake speakers are data",
    "G11": "code chooses no model and no address", "G12": "no key is in reach of code",
    "G13": "output that becomes code is held like any code", "G14": "isolation and limits are the caller's",
    "G15": "the helpers' names come back", "G17": "odd characters are kept, and shown escaped",
    "G18": "an answer is of this run", "G19": "code reaches no history", "G20": "circles are ended",
    "H01": "what cannot be reached is tried again and named", "H03": "a provider that recovers is paid once",
    "H04": "silence has an end", "H05": "a cut stream is no reply", "H06": "empty replies are asked again, not for ever",
    "H07": "a refusal is told as one", "H09": "a huge reply is cut off", "H10": "a reply cut by length is not run",
    "H11": "usage that cannot be true is not believed", "H12": "a prompt too long is compacted once",
    "H13": "what will not get better is asked once", "H15": "cancelling ends calls and settles them",
    "H16": "one call is paid once", "H17": "a batch is in order, with errors by item",
    "I-01": "depth has an end", "I-02": "what a cell says of itself is not believed", "I-04": "a tree has one budget",
    "I-05": "a huge prompt is refused by its size", "I-06": "who may call ends with its execution",
    "I-07": "what a crash cuts short counts as spent", "I-08": "an unknown price is refused or charged the highest",
    "I-10": "waiting holds no slot", "I-11": "a cell's clock has a cap", "I-12": "recursion starts few sandboxes, and leaves none",
}  # fmt: skip
"""Every row of the three groups."""
LEAST = 3
"""Variations of a row."""


def named(variations: Mapping[str, Any]) -> list[Any]:
    """Parameters of a test by the names of its variations; a tuple holds several."""
    return [
        pytest.param(*value, id=name) if isinstance(value, tuple) else pytest.param(value, id=name)
        for name, value in variations.items()
    ]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        ids = rows_of(item)
        if ids:
            item.user_properties.append((_PROPERTY, ids))


def rows_of(item: pytest.Item) -> list[str]:
    """The rows that an item is a variation of.

    Raises:
        pytest.UsageError: there is no such row.
    """
    ids = [row for mark in item.iter_markers("row") for row in mark.args]
    if unknown := set(ids) - ROWS.keys():
        raise pytest.UsageError(f"{item.nodeid}: there is no row {', '.join(sorted(unknown))}")
    return ids


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Ids times variations, and how they ended."""
    ended: dict[str, Counter[str]] = defaultdict(Counter)
    for verdict in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(verdict, []):
            for row in _rows_of_report(getattr(report, "user_properties", ())):
                ended[row][verdict] += 1
    if not ended:
        return
    terminalreporter.section("rows of the attack catalogue: groups G, H and I")
    for row, claim in ROWS.items():
        if row in ended:
            terminalreporter.write_line(f"{row:<5} {_counted(ended[row]):<24} {claim}")
    total = sum(ended.values(), Counter())
    terminalreporter.write_line(
        f"{len(ended)} of {len(ROWS)} ids, {total.total()} variations: {_counted(total)}"
    )


def _rows_of_report(properties: Iterable[tuple[str, Any]]) -> list[str]:
    return [row for name, rows in properties if name == _PROPERTY for row in rows]


def _counted(verdicts: Counter[str]) -> str:
    return ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())
