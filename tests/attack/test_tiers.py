"""What is told of the table: tiers, rates, and what did not run, which is never green."""

from __future__ import annotations

from typing import Any

import pytest

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.testing.attack import catalogue, harness, report, tiers
from terraphim_rlm.testing.attack.model import Outcome, Row, Step
from terraphim_rlm.testing.attack.protections import PROTECTIONS
from terraphim_rlm.testing.attack.table import ROWS
from terraphim_rlm.testing.attack.tiers import Plan, Played

pytestmark = pytest.mark.anyio
NONE = Outcome("", "control", "not_run", "only P0 rows have controls")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def played(identity: str, *verdicts: Any, control: Outcome = NONE) -> Played:
    outcomes = [
        Outcome(identity, "row", verdict, "" if verdict == "passed" else "so") for verdict in verdicts
    ]
    return Played(ROWS[identity], outcomes, control)


def told(*rows: Played, plan: Plan | None = None) -> dict[str, Any]:
    return tiers.summary("bubblewrap", plan or Plan(rows=("A20",)), {each.row.id: each for each in rows})


def test_every_case_of_the_catalogue_is_a_row_or_lacks_something_that_is_named() -> None:
    lacking = {case.id for case in catalogue.cases().values() if case.needs in catalogue.LACKING}
    assert set(catalogue.cases()) - set(ROWS) <= lacking


def test_every_row_is_a_case_of_the_catalogue_with_the_same_severity() -> None:
    assert {row.id: row.severity for row in ROWS.values()} == {
        key: catalogue.cases()[key].severity for key in ROWS if key in catalogue.cases()
    }


def test_the_catalogue_has_each_group_in_full() -> None:
    counts: dict[str, int] = {}
    for key in catalogue.cases():
        counts[key[0]] = counts.get(key[0], 0) + 1
    assert counts == {"A": 33, "B": 43, "C": 21, "D": 1, "E": 8, "F": 3, "K": 27, "M": 10}


def test_every_p0_row_has_a_control_or_says_why_not() -> None:
    for row in ROWS.values():
        if row.severity == "P0":
            assert bool(row.off) != bool(row.no_control), row.id
        else:
            assert not row.off, row.id
        assert set(row.off) <= set(PROTECTIONS), row.id


def test_every_row_does_something_and_has_an_end() -> None:
    for row in ROWS.values():
        assert row.steps or row.act, row.id
        assert 0 < row.deadline < 900, row.id


def test_a_case_without_a_row_is_told_as_not_run_and_counted() -> None:
    found = told(played("A20", "passed"), plan=Plan())
    assert found["not_run"]["K02"] == catalogue.LACKING["firecracker"]
    ids = [key for key in found["not_run"] if " " not in key]
    assert found["passed"] + len(found["failed"]) + len(ids) == found["cases"]


def test_a_control_that_does_no_harm_fails_its_row() -> None:
    harmless = Outcome("B01", "control", "failed", "no harm was done")
    found = told(played("B01", "passed", control=harmless))
    assert (found["passed"], found["failed"], found["p0_failed"], found["met"]) == (
        0,
        ["B01"],
        ["B01"],
        False,
    )


def test_one_failure_in_twenty_fails_a_p0_row_and_the_rate_of_p1_rows() -> None:
    proven = Outcome("B01", "control", "passed", "harm")
    nearly = ["passed"] * 19 + ["failed"]
    assert told(played("B01", *nearly, control=proven))["p0_failed"] == ["B01"]
    found = told(played("A20", *nearly))
    assert (found["failed"], found["p0_failed"], found["p1_rate"], found["met"]) == (["A20"], [], 0.95, False)


def test_the_summary_says_why_a_row_or_its_control_failed() -> None:
    harmless = Outcome("B01", "control", "failed", "no harm was done")
    found = told(played("B01", "failed", control=harmless), played("A20", "passed", "failed"))
    assert found["why"] == {"B01": "so; control: no harm was done", "A20": "1 of 2, first at number 2: so"}


def test_a_rate_of_99_percent_over_all_p1_rows_is_enough_and_what_failed_is_still_told() -> None:
    rows = [
        played("A20", *["passed"] * 19, "failed"),
        *(played(key, *["passed"] * 20) for key in ("A13", "A14", "A15", "A18")),
    ]
    found = told(*rows)
    assert (found["failed"], found["p1_rate"], found["met"]) == (["A20"], 0.99, True)
    assert tiers.described(rows[0])["why"] == "1 of 20, first at number 20: so"


def test_a_hang_is_never_met_whatever_the_rate() -> None:
    good = [Outcome("A20", "row", "passed")] * 199
    hung = Outcome("A20", "row", "failed", "I2: ..", hung=True)
    found = told(Played(ROWS["A20"], [*good, hung], NONE))
    assert (found["p1_rate"], found["hung"], found["met"]) == (0.995, ["A20"], False)


@pytest.mark.parametrize(
    ("plan", "complaint"),
    [
        ({"tier": "all"}, "no tier 'all'"),
        ({"repeats": 0}, "1 to 10,000"),
        ({"rows": ("Z99",)}, "no row 'Z99'"),
        ({"rows": ("K02",)}, "virtual machines"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(plan: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        Plan(**plan)


@pytest.mark.sandbox
async def test_the_command_gives_its_words_and_not_run_is_not_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "why_none", lambda: "no namespaces")
    rows: list[Any] = []
    plan = Plan(rows=("A20", "B01", "B08", "B25"))
    found = await tiers.attack("bubblewrap", plan, rows.append)
    assert [row["id"] for row in rows] == list(plan.rows)
    assert found.pop("seconds") > 0
    assert found == {
        "backend": "bubblewrap",
        "cases": 4,
        "passed": 3,
        "failed": [],
        "why": {},
        "not_run": {
            "B25": "no namespaces",
            "B01 control": "no namespaces",
            "B08 control": ROWS["B08"].no_control,
        },
        "p0_failed": [],
        "controls_proven": 0,
        "tier": "pr",
        "repeats": 1,
        "seed": 1,
        "p1_rate": 1.0,
        "hung": [],
        "met": True,
    }


@pytest.mark.sandbox
async def test_each_repeat_has_a_seed_of_its_own_and_a_line_of_progress(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row = Row("A20", "P1", "says its seed", (Step("print('seed', @SEED@)\nif @SEED@ == 8: harm('eight')"),))
    monkeypatch.setitem(ROWS, "A20", row)  # type: ignore[arg-type]
    lines: list[str] = []
    found = await tiers.attack("bubblewrap", Plan("full", 3, 7, ("A20",)), lambda _: None, lines.append)
    assert lines == [
        "A20: 1 of 1 passed, 2 to come",
        "A20: 1 of 2 passed, 1 to come",
        "A20: 2 of 3 passed, 0 to come",
    ]
    assert (found["failed"], found["p1_rate"]) == (["A20"], 0.6667)


def test_the_report_lists_what_did_not_run_and_why() -> None:
    each = played("B08", "passed", control=Outcome("B08", "control", "not_run", "why not"))
    plan = Plan()
    found = {**tiers.summary("bubblewrap", plan, {"B08": each}), "seconds": 61.0}
    text = report.page(found, [tiers.described(each)], commit="abc1234", date="2026-01-02")
    assert "Commit abc1234, 2026-01-02" in text
    assert "| B08 | P0 | enters namespaces | passed |" in text
    assert "- B08 control: why not" in text
    assert f"- K02 (P1, panics or hangs its kernel): {catalogue.LACKING['firecracker']}" in text
