"""A run as others write theirs: the crate's trajectory log, the log of rlms, OpenTelemetry spans, chats for training."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from exports_kit import Written

from terraphim_rlm import Limits, Rlm
from terraphim_rlm.core.ids import new_id
from terraphim_rlm.engine.guards import Checks
from terraphim_rlm.service.exports.export import export_run
from terraphim_rlm.service.exports.spans import span_id, trace_id
from terraphim_rlm.service.exports.upstream import stamp
from terraphim_rlm.testing import ScriptedModel

UNASKED = Checks(look_first=False, literal=False, unread=False)
RLMS_PYTHON = os.environ.get("TRLM_RLMS_PYTHON")
"""An interpreter that has rlms; it is not to be mixed with ours."""


def lines(run: str, form: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in export_run(run, form).text.splitlines()]


async def real_run() -> tuple[str, ScriptedModel]:
    """A run with a batch, a child, a failing cell, a shell, a snapshot and words that the model invented."""
    work = "a = llm_query_batched(['x', 'y'])\nb = rlm_query('part')\nprint(a, b)"
    model = ScriptedModel(
        [
            f"Look.\n```repl\nprint(context)\n{work}\n```\nOutput: invented words",
            "```repl\n1 / 0\n```",
            "SNAPSHOT(before)",
            "```bash\necho shell\n```",
            "Nothing to run here.",
            "FINAL(the answer)",
        ]
    )
    child = ScriptedModel(["FINAL(of the child)"], sub_reply="sub")
    rlm = Rlm(model, sub_model=child, route="loop", limits=Limits(tokens=10**6), checks=UNASKED)
    answer = await rlm.ask("What?", "some text")
    assert answer.text == "the answer"
    return answer.run_id, model


FIELDS = {  # as the crate's `TrajectoryEvent` declares them, besides event_type, timestamp and session_id
    "session_start": {"budget": dict},
    "query_start": {"query_id": str, "initial_prompt": str, "parent_query_id": str | None, "depth": int},
    "llm_call": {"query_id": str, "iteration": int, "prompt": str, "prompt_length": int},
    "llm_response": {"query_id": str, "iteration": int, "response": str, "response_length": int, "tokens_used": int, "latency_ms": int},
    "command_parsed": {"query_id": str, "iteration": int, "command": dict, "command_type": str},
    "command_parse_failed": {"query_id": str, "iteration": int, "raw_response": str, "error": str},
    "command_executed": {"query_id": str, "iteration": int, "command": dict, "success": bool, "stdout": str, "stderr": str,
                         "exit_code": int | None, "execution_time_ms": int},
    "query_complete": {"query_id": str, "total_iterations": int, "result": str | None, "success": bool, "termination_reason": str,
                       "duration_ms": int, "total_tokens": int},
    "session_end": {"total_queries": int, "total_tokens": int, "duration_ms": int},
    "budget_warning": {"query_id": str, "warning_type": str, "current": int, "maximum": int, "percentage": float},
    "error": {"query_id": str | None, "error": str, "category": str},
}  # fmt: skip
COMMANDS = {"Run": {"command", "timeout_ms", "working_dir"}, "Code": {"code", "timeout_ms"}, "Final": None, "FinalVar": None,
            "QueryLlm": {"prompt", "model", "temperature", "max_tokens"}, "QueryLlmBatched": None, "Snapshot": None,
            "Rollback": None}  # fmt: skip
ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")


def check_upstream(found: list[dict[str, Any]]) -> None:
    for each in found:
        fields = FIELDS[each["event_type"]]
        assert set(each) == {"event_type", "timestamp", "session_id", *fields}
        assert all(isinstance(each[name], kind) for name, kind in fields.items()), each
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", each["timestamp"])
        assert ULID.fullmatch(each["session_id"])
        assert "query_id" not in each or ULID.fullmatch(each["query_id"])
        if "command" in each:
            ((name, held),) = each["command"].items()
            assert COMMANDS[name] is None or COMMANDS[name] <= set(held)


@pytest.mark.sandbox
@pytest.mark.anyio
async def test_the_crates_log_has_its_eleven_types_with_its_fields() -> None:
    run, _ = await real_run()
    found = lines(run, "upstream")
    check_upstream(found)
    kinds = [each["event_type"] for each in found]
    assert (kinds[0], kinds[-1]) == ("session_start", "session_end")
    parsed = [next(iter(each["command"])) for each in found if each["event_type"] == "command_parsed"]
    assert parsed == ["Code", "Final", "Code", "Snapshot", "Run", "Final"]
    failed = [each for each in found if each["event_type"] == "command_parse_failed"]
    assert [each["raw_response"] for each in failed] == ["Nothing to run here."]
    done = {each["query_id"]: each for each in found if each["event_type"] == "query_complete"}
    assert [each["result"] for each in done.values()] == ["of the child", "the answer"]
    executed = [each for each in found if each["event_type"] == "command_executed"]
    assert [each["success"] for each in executed] == [True, False, True, True]
    assert "ZeroDivisionError" in executed[1]["stderr"]
    assert executed[3]["command"]["Run"]["command"] == "echo shell"
    written = lines(Written().run, "upstream")
    check_upstream(written)
    assert set(kinds) | {each["event_type"] for each in written} | {"error"} == set(FIELDS)


@pytest.mark.sandbox
@pytest.mark.anyio
async def test_the_rlms_log_has_a_line_a_turn_with_what_the_model_saw_and_a_childs_log_inside() -> None:
    run, model = await real_run()
    head, *turns = lines(run, "rlms")
    assert (head["type"], head["max_depth"], head["max_iterations"]) == ("metadata", 5, 30)
    assert [turn["iteration"] for turn in turns] == [1, 2, 3, 4, 5, 6]
    for turn, request in zip(turns, model.requests, strict=True):
        assert turn["prompt"] == [{"role": m.role, "content": m.content} for m in request.messages]
    assert turns[-1]["final_answer"] == "the answer"
    calls = turns[0]["code_blocks"][0]["result"]["rlm_calls"]
    assert [call["response"] for call in calls] == ["sub", "sub", "of the child"]
    assert [turn["response"] for turn in calls[2]["metadata"]["iterations"]] == ["FINAL(of the child)"]
    counted = sum(
        each["total_calls"]
        for call in calls
        for each in call["usage_summary"]["model_usage_summaries"].values()
    )
    assert counted == 3
    assert "ZeroDivisionError" in turns[1]["code_blocks"][0]["result"]["stderr"]


_READ = """
import json, sys
from rlm.core.types import CodeBlock, REPLResult, RLMChatCompletion, RLMIteration, RLMMetadata
from rlm.logger.verbose import VerbosePrinter
printer = VerbosePrinter(enabled=True)
for line in map(json.loads, open(sys.argv[1])):
    kind, _ = line.pop("type"), line.pop("timestamp")
    if kind == "metadata":
        printer.print_metadata(RLMMetadata(**line))
        continue
    number = line.pop("iteration")
    blocks = []
    for block in line["code_blocks"]:
        result = dict(block["result"])
        result["rlm_calls"] = [RLMChatCompletion.from_dict(call) for call in result["rlm_calls"]]
        blocks.append(CodeBlock(block["code"], REPLResult(**result)))
    made = RLMIteration(**{**line, "code_blocks": blocks})
    again = made.to_dict()
    for block in line["code_blocks"]:
        for call in block["result"]["rlm_calls"]:
            del call["prompt_tokens"], call["completion_tokens"]  # what its visualiser reads besides
    assert again == line, (again, line)
    printer.print_iteration(made, number)
print("read")
"""


@pytest.mark.skipif(RLMS_PYTHON is None, reason="TRLM_RLMS_PYTHON names no interpreter that has rlms")
def test_rlms_itself_reads_its_log_back_and_shows_it(tmp_path: Path) -> None:
    assert RLMS_PYTHON is not None
    file = tmp_path / "run.jsonl"
    file.write_text(export_run(Written().run, "rlms").text, encoding="utf-8")
    done = subprocess.run(
        [RLMS_PYTHON, "-c", _READ, str(file)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.endswith("read\n"), done.stderr


def spans_of(run: str) -> list[dict[str, Any]]:
    (whole,) = lines(run, "otel")
    return list(whole["resourceSpans"][0]["scopeSpans"][0]["spans"])


def attributes(span: dict[str, Any]) -> dict[str, Any]:
    return {each["key"]: next(iter(each["value"].values())) for each in span["attributes"]}


@pytest.mark.sandbox
@pytest.mark.anyio
async def test_spans_form_one_tree_with_the_conventions_names() -> None:
    run, _ = await real_run()
    spans = spans_of(run)
    ids = {span["spanId"] for span in spans}
    assert len(ids) == len(spans)
    assert [span["name"] for span in spans if "parentSpanId" not in span] == ["invoke_agent terraphim-rlm"]
    assert all(span["parentSpanId"] in ids for span in spans if "parentSpanId" in span)
    assert {span["traceId"] for span in spans} == {trace_id(run)}
    names = [span["name"] for span in spans]
    assert (
        names.count("invoke_agent terraphim-rlm"),
        names.count("execute_tool python"),
        names.count("execute_tool bash"),
    ) == (2, 2, 1)
    assert names.count("chat scripted") == 6 + 1 + 1
    by_id = {span["spanId"]: span for span in spans}
    child = next(span for span in spans if span["name"].startswith("invoke_agent") and "parentSpanId" in span)
    assert by_id[child["parentSpanId"]]["name"] == "execute_tool python"
    root = attributes(spans[0])
    assert (root["gen_ai.operation.name"], root["gen_ai.conversation.id"]) == ("invoke_agent", run)
    chats = [attributes(span) for span in spans if span["name"].startswith("chat")]
    assert sum(int(chat["gen_ai.usage.input_tokens"]) for chat in chats) == int(
        root["gen_ai.usage.input_tokens"]
    )
    failed = [span for span in spans if span["status"].get("code") == 2]
    assert [attributes(span)["error.type"] for span in failed] == ["exit_nonzero"]
    assert all(int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"]) for span in spans)


def test_opentelemetrys_own_types_take_the_spans() -> None:
    pytest.importorskip(
        "opentelemetry.proto.trace.v1.trace_pb2", reason="opentelemetry-proto is not installed"
    )
    from google.protobuf import json_format
    from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

    (whole,) = lines(Written("word \udc80\x00").run, "otel")
    for span in whole["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        for name in {"traceId", "spanId", "parentSpanId"} & set(
            span
        ):  # OTLP's JSON has them in hex, protobuf's in base64
            span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
    taken = json_format.ParseDict(whole, TracesData())
    spans = taken.resource_spans[0].scope_spans[0].spans
    assert len(spans) == len(spans_of(Written().run))
    assert all(len(span.trace_id) == 16 and len(span.span_id) == 8 for span in spans)


def test_what_had_no_end_is_a_span_that_ends_with_the_run_as_an_error() -> None:
    spans = spans_of(Written(upto=6).run)
    cut = [span for span in spans if attributes(span).get("error.type") == "unfinished"]
    assert [span["name"] for span in cut] == ["invoke_agent terraphim-rlm", "execute_tool python"]


def test_a_runs_id_is_its_traces_id() -> None:
    assert trace_id("run-00000000000000000000000001") == f"{1:032x}"
    assert trace_id("run-7ZZZZZZZZZZZZZZZZZZZZZZZZZ") == "f" * 32
    assert len({trace_id(new_id("run")) for _ in range(100)}) == 100
    assert re.fullmatch("[0-9a-f]{32}", trace_id("run-other"))
    assert re.fullmatch("[0-9a-f]{16}", span_id("x"))


@pytest.mark.sandbox
@pytest.mark.anyio
async def test_a_trajectory_holds_exactly_the_messages_that_the_model_was_sent() -> None:
    run, model = await real_run()
    root, child = lines(run, "sft")
    assert (root["parent"], child["parent"], root["whole"], child["whole"]) == (
        None,
        root["node"],
        True,
        True,
    )
    last = [{"role": m.role, "content": m.content} for m in model.requests[-1].messages]
    assert root["messages"] == [*last, {"role": "assistant", "content": "FINAL(the answer)"}]
    assert [message["role"] for message in root["messages"]] == ["system", *["user", "assistant"] * 6]
    assert not any("invented words" in message["content"] for message in root["messages"])
    assert child["messages"][-1] == {"role": "assistant", "content": "FINAL(of the child)"}
    assert (root["outcome"]["answer"], root["outcome"]["confidence"]) == ("the answer", "unverified")
    assert root["turns"][0]["sub_calls"] == 3
    assert root["turns"][1]["cells"] == ["exit_nonzero"]


@pytest.mark.sandbox
@pytest.mark.anyio
async def test_a_compacted_transcript_gives_a_trajectory_for_each_stretch() -> None:
    replies = [f"```repl\nprint('{letter}' * 3000)\n```" for letter in "abcdef"]
    model = ScriptedModel([*replies, "FINAL(done)"], window=6_000)
    answer = await Rlm(model, route="loop", limits=Limits(tokens=None), checks=UNASKED).ask(
        "What?", "some text"
    )
    found = lines(answer.run_id, "sft")
    assert len(found) > 1
    assert [each["part"] for each in found] == list(range(len(found)))
    assert [each["outcome"] is None for each in found] == [*[True] * (len(found) - 1), False]
    last = [{"role": m.role, "content": m.content} for m in model.requests[-1].messages]
    assert found[-1]["messages"][:-1] == last
    assert sum(len(each["turns"]) for each in found) == len(model.requests)


@pytest.mark.anyio
async def test_a_question_that_was_answered_directly_is_a_trajectory_too() -> None:
    model = ScriptedModel(["forty-two"])
    answer = await Rlm(model, route="direct").ask("What?", "the text")
    (found,) = lines(answer.run_id, "sft")
    sent = [{"role": m.role, "content": m.content} for m in model.requests[0].messages]
    assert found["messages"] == [*sent, {"role": "assistant", "content": "forty-two"}]


def test_a_journal_of_an_earlier_version_says_that_messages_are_missing() -> None:
    root, child = lines(Written().run, "sft")
    assert (root["whole"], child["whole"]) == (False, False)


def test_a_time_that_is_none_stops_no_export() -> None:
    assert stamp(1e300) == "1970-01-01T00:00:00Z"
    assert stamp(0.5) == "1970-01-01T00:00:00.500000Z"
