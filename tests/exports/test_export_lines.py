"""A run as JSON lines: whole, by its schema, of any state of a run, and without credentials."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from exports_kit import Written

from terraphim_rlm import Limits, Rlm
from terraphim_rlm.core.errors import InvalidArgument, RunNotFound
from terraphim_rlm.core.events import EVENT_TYPES
from terraphim_rlm.faces.cli.app import run as trlm
from terraphim_rlm.service.exports.export import FORMATS, export_run, save
from terraphim_rlm.service.exports.lines import schema
from terraphim_rlm.service.exports.masking import MASK, Mask
from terraphim_rlm.testing import ScriptedModel

KEY = "sk-proj-Zq4vN8sLx2pR7tW1yB6mK3dF"


def lines(run: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in export_run(run, "jsonl").text.splitlines()]


def check(found: list[dict[str, Any]]) -> None:
    validator = jsonschema.Draft202012Validator(schema())
    for each in found:
        validator.validate(each)


def test_the_schema_is_one_and_refuses_a_line_that_lacks_what_it_asks() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    found = lines(Written().run)
    check(found)
    for index, name in ((0, "run"), (1, "seq"), (-1, "events")):
        broken = {key: value for key, value in found[index].items() if key != name}
        with pytest.raises(jsonschema.ValidationError):
            check([broken])
    wrong = next(each for each in found if each.get("type") == "turn.reply")
    with pytest.raises(jsonschema.ValidationError):
        check([{**wrong, "data": {**wrong["data"], "turn": "1"}}])


@pytest.mark.sandbox
@pytest.mark.anyio
async def test_a_real_run_with_calls_and_a_child_fits_the_schema() -> None:
    code = "print(llm_query('a'))\nprint(llm_query_batched(['b', 'c']))\nprint(rlm_query('d'))\nprint(context[:3])"
    model = ScriptedModel([f"```repl\n{code}\n```", "FINAL(child)", "FINAL(root)"], sub_reply="yes")
    answer = await Rlm(model, route="loop", limits=Limits(tokens=10**6)).ask("What?", "some text")
    found = lines(answer.run_id)
    check(found)
    assert {each["type"] for each in found[1:-1]} >= {
        "run.started", "node.started", "turn.request", "turn.reply", "turn.parsed", "cell.started", "cell.output",
        "cell.finished", "call.started", "call.finished", "node.finished", "answer", "run.finished",
    }  # fmt: skip
    assert found[-1] == {"kind": "end", "events": len(found) - 2, "finished": True}
    assert [each["seq"] for each in found[1:-1]] == list(range(1, len(found) - 1))


def test_every_type_of_event_there_is_fits_the_schemas_names() -> None:
    pattern = schema()["$defs"]["event"]["properties"]["type"]["pattern"]
    for name in EVENT_TYPES:
        jsonschema.validate(name, {"type": "string", "pattern": pattern})


@pytest.mark.parametrize("form", FORMATS)
def test_a_run_cut_off_after_any_event_is_exported(form: str) -> None:
    whole = len(lines(Written().run)) - 2
    for upto in range(1, whole + 1, 3):
        made = export_run(Written(upto=upto).run, form)
        assert made.text.strip() or (form == "sft" and upto < 3)  # nobody was asked yet
    found = lines(Written(upto=5).run)
    check(found)
    assert found[-1] == {"kind": "end", "events": 5, "finished": False}
    assert found[0]["run"]["status"] == "interrupted"


@pytest.mark.parametrize("form", FORMATS)
def test_no_format_holds_a_credential(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "correct-horse-battery")
    secrets = (
        f"{KEY} correct-horse-battery ghp_{'a1B2' * 9} AKIAIOSFODNN7EXAMPLE https://me:hunter22@example.org/"
    )
    made = export_run(Written(secrets).run, form)
    for secret in (KEY, "correct-horse-battery", "ghp_a1B2", "AKIAIOSFODNN7EXAMPLE", "hunter22"):
        assert secret not in made.text
    assert made.masked > 10
    assert "example.org" in made.text


def test_the_input_that_the_journal_keeps_stays_there() -> None:
    from terraphim_rlm.core.events import EventLog
    from terraphim_rlm.store.journal import Journal

    whole = Written(upto=0)
    with Journal() as journal:
        log = EventLog(whole.log.run, [journal.sink])
        kept = {"kind": "text", "name": "input", "base64": "c2VjcmV0"}
        log.emit("run.started", "node-a", None, question="Q", model="m", input=kept)
    assert "c2VjcmV0" not in export_run(log.run, "jsonl").text


def test_a_credential_that_an_output_was_cut_inside_of_is_masked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Written(upto=0)
    from terraphim_rlm.core.events import EventLog
    from terraphim_rlm.store.journal import Journal

    with Journal() as journal:
        log = EventLog(whole.log.run, [journal.sink])
        log.emit("run.started", "node-a", None, question="Q", model="m")
        for piece in ("before " + KEY[:9], KEY[9:] + " after"):
            log.emit("cell.output", "node-a", None, execution_id="e", stream="stdout", text=piece)
    text = export_run(log.run, "jsonl").text
    assert KEY[9:] not in text
    assert f"before {MASK} after" in text


def test_ordinary_words_are_left_as_they_are() -> None:
    mask = Mask({"EMPTY_TOKEN": "", "SHORT_KEY": "abc", "HOME": "/home/someone"})
    said = "skip-this task-list-of-things https://example.org/a:b@c AKIA sk-short /home/someone abc"
    assert mask.text(said) == said
    assert mask.count == 0


def test_the_command_writes_a_file_that_only_its_owner_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, file = Written().run, tmp_path / "run.jsonl"
    assert trlm(["runs", "export", run[:12], "-o", str(file)]) == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    capsys.readouterr()
    assert trlm(["runs", "export", run]) == 0
    assert capsys.readouterr().out == file.read_text()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".trlm-")] == []


def test_the_command_prints_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert trlm(["runs", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema()


def test_a_format_a_run_and_a_place_that_are_none_are_errors_with_a_fix(tmp_path: Path) -> None:
    run = Written().run
    with pytest.raises(InvalidArgument) as told:
        export_run(run, "pdf")
    assert "jsonl" in told.value.fix
    with pytest.raises(RunNotFound):
        export_run("run-ZZZZ", "jsonl")
    with pytest.raises(InvalidArgument, match="cannot be written"):
        save(tmp_path / "none" / "file", "text")


def test_each_format_is_named_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert trlm(["runs", "export", "--help"]) == 0
    told = "".join(capsys.readouterr().out.split())
    assert "|".join(FORMATS) in told
