"""The page about what a sandbox costs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from terraphim_rlm.testing.bench.report import main
from terraphim_rlm.testing.bench.rows import machine, row, summary


def test_a_report_has_each_row_with_what_was_beside_it_and_what_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    peers = {
        "fast": {"version": "1.0", **summary([1.0, 2.0])},
        "slow": {"version": None, "error": "it|broke"},
    }
    rows = [
        row("round trip", "ms", [1.0, 3.0, 2.0], 1.5, peers=peers, why="print(1)"),
        row("memory", "MB", [], None, why="cannot be measured"),
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({**each, "machine": machine()}) + "\n" for each in rows))
    assert main(["abc", "2026-11-25", f"{file}=Here = there"]) == 0
    said = capsys.readouterr().out
    assert "Commit abc, 2026-11-25." in said
    assert "## Here = there\n" in said
    assert (
        "| round trip | 2.0 ms | 3.0 ms | 3.0 ms | 1.5 ms | no | 3 | fast 1.0: 1.0; slow : it\\|broke | print(1) |"
        in said
    )
    assert main(["engine", "abc", "2026-11-25", f"{file}=Here"]) == 0
    assert capsys.readouterr().out.startswith("# What the engine costs\n")
    assert "| memory |  |  |  |  |  | 0 |  | cannot be measured |" in said


def test_rows_that_grow_are_drawn_to_the_scale_of_their_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row(f"growth: {n:,} calls", "s", [n / 1000], None, why="w") for n in (500, 1_000)]
    rows.append(row("growth: load 10 MB", "s", [9.0], None, why="w"))
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({**each, "machine": machine()}) + "\n" for each in rows))
    main(["engine", "abc", "2026-11-25", f"{file}=Here"])
    bars = [line.rpartition(" ")[2] for line in capsys.readouterr().out.splitlines() if line.endswith("#")]

    assert bars == ["#" * 20, "#" * 40, "#" * 40]
