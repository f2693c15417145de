"""What is refused before a run begins, so that nothing is spent on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from terraphim_rlm import Rlm, RlmSync
from terraphim_rlm.core.errors import InvalidArgument, SchemaMismatch
from terraphim_rlm.engine.checks import check_schema
from terraphim_rlm.llm.client import ModelInfo
from terraphim_rlm.service.again import guard_mode
from terraphim_rlm.service.recall import Recall
from terraphim_rlm.service.schemas import check_wanted
from terraphim_rlm.testing import ScriptedModel

if TYPE_CHECKING:
    from terraphim_rlm.service.runs import RunSummary

SMALL = ModelInfo("local/tiny", profile="small", local=True)
LARGE = ModelInfo("openai/big")
SCHEMA = {"type": "object"}


@pytest.mark.anyio
async def test_a_schema_that_is_none_is_refused_before_the_model_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRLM_DATA", str(tmp_path))
    events: list[Any] = []
    with pytest.raises(InvalidArgument, match="no JSON Schema"):
        await Rlm(ScriptedModel(["x"])).ask("q", "text", schema={"type": 5}, sinks=(events.append,))
    assert events == []


def test_a_model_that_only_looks_things_up_does_not_pretend_to_fit_a_schema() -> None:
    for refused in ((SMALL, "auto", True), (LARGE, "lookup", True)):
        with pytest.raises(InvalidArgument, match="only looks things up") as found:
            check_wanted(SCHEMA, refused[0], refused[1], over_input=refused[2])  # type: ignore[arg-type]
        assert "better model" in found.value.fix
    check_wanted(SCHEMA, LARGE, "auto", over_input=True)
    check_wanted(SCHEMA, SMALL, "loop", over_input=True)
    check_wanted(SCHEMA, SMALL, "auto", over_input=False)
    check_wanted(None, SMALL, "auto", over_input=True)


def test_the_plain_rlm_says_that_it_must_be_entered() -> None:
    with pytest.raises(InvalidArgument, match="not entered"):
        RlmSync(ScriptedModel(["x"])).ask("q")


@pytest.mark.parametrize("ref", ["file:///etc/hostname", "http://127.0.0.1:9/a.json", "#", "#/$defs/none"])
def test_a_schema_that_leads_elsewhere_or_in_a_circle_is_refused_and_never_fetched(ref: str) -> None:
    with pytest.raises(InvalidArgument, match="cannot be followed"):
        check_wanted({"$ref": ref}, LARGE, "auto", over_input=True)
    deep = {"type": "object", "properties": {"a": {"$ref": ref}}}
    if ref != "#":
        with pytest.raises(SchemaMismatch, match="cannot be followed"):
            check_schema({"a": 1}, deep)


def test_a_run_whose_record_names_no_guard_is_taken_up_with_the_rules_in_force() -> None:
    def recorded(**begun: Any) -> Recall:
        return Recall(cast("RunSummary", None), (), begun)

    assert [guard_mode(recorded(guard=each)) for each in ("off", "warn", "block")] == ["off", "warn", "block"]
    assert [guard_mode(recorded(**each)) for each in ({}, {"guard": None}, {"guard": 0})] == ["block"] * 3
    with pytest.raises(InvalidArgument):
        guard_mode(recorded(guard="none"))
