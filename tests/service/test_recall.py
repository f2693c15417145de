"""A run that is taken up from a journal in which somebody has written what no run writes."""

from __future__ import annotations

from typing import Any, cast

import pytest

from terraphim_rlm.core.errors import InvalidArgument, JournalCorrupt
from terraphim_rlm.service.exports.story import number
from terraphim_rlm.service.recall import Recall
from terraphim_rlm.service.runs import RunSummary


class _Summary:
    id = "run-1"
    status = "interrupted"


def recalled(type: str, data: dict[str, Any], **begun: Any) -> Recall:
    event = {"type": type, "node": "n", "parent": None, "seq": 1, "time": 1.0, "data": data}
    return Recall(cast("RunSummary", _Summary()), (event,), begun)


@pytest.mark.parametrize(
    ("type", "data"),
    [
        ("node.started", {"place": "first"}),
        ("node.started", {"place": [1]}),
        ("turn.request", {"turn": {"a": 1}}),
        ("turn.reply", {"turn": float("inf")}),
        ("call.started", {"call_id": "c", "count": "many"}),
        ("cell.finished", {"execution_id": "e/1", "verdict": 5}),
        ("answer", {"evidence": 5}),
        ("answer", {"no": "field"}),
    ],
)
def test_an_event_of_wrong_types_is_said_to_be_damage_and_no_bug(type: str, data: dict[str, Any]) -> None:
    with pytest.raises(JournalCorrupt):
        recalled(type, data).record("resume")


@pytest.mark.parametrize("tokens", [10**400, [1], "9", -1, True])
def test_limits_that_were_tampered_with_do_not_pass(tokens: object) -> None:
    with pytest.raises((InvalidArgument, JournalCorrupt)):
        _ = recalled("run.started", {}, limits={"tokens": tokens}).limits


@pytest.mark.parametrize("time", [10**400, float("inf"), float("nan"), -(10**400), True, "1", None])
def test_a_number_that_cannot_be_shown_counts_as_absent(time: object) -> None:
    assert number({"time": time}, "time") == 0.0
    assert number({"time": 1.5}, "time") == 1.5
