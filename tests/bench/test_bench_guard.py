"""`trlm bench guard`, in small."""

from __future__ import annotations

from typing import Any

from terraphim_rlm.testing.bench.guard import guard
from terraphim_rlm.testing.bench.knowledge import Sizes
from terraphim_rlm.testing.bench.safety import Sizes as SafetySizes

SMALL = Sizes(terms=3_000, growing=(1_000, 2_000), repeats=3, builds=1, peer_seconds=0.1)


async def test_each_row_has_figures_and_says_what_was_found() -> None:
    rows: list[dict[str, Any]] = []
    await guard(rows.append, sizes=SMALL, safety_sizes=SafetySizes(programs=20, repeats=8))
    assert [row["row"] for row in rows[9:]] == [
        "terms in 10 KB of Python",
        "terms in 10 KB of prose",
        "vocabulary of 10 KB of Python",
        "suggestions for an unknown word",
        "connectivity of 10,000 concepts",
        "growth: compiling 1,000 terms",
        "growth: compiling 2,000 terms",
    ]
    assert [row["row"] for row in rows[:9]] == [
        "start of a reader, and a verdict",
        "evasions found",
        "evasions found, of those known",
        "evasions found, of those held out",
        "benign programs not simply allowed",
        "benign programs blocked",
        "verdict on 10 KB of python",
        "verdict on 10 KB of bash",
        "1 MiB of hostile text",
    ]
    assert all(row["p50"] > 0 for row in rows if "benign" not in row["row"])
    assert rows[9]["goal"] == 2.0
