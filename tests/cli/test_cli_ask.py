"""`trlm ask` over the seam to the service: what is asked of it, what is shown, what Ctrl-C does."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cli_kit import ANSWER, RUN, events

from terraphim_rlm.core.errors import DiskFull, ModelUnreachable
from terraphim_rlm.core.events import EventSink
from terraphim_rlm.core.values import Answer, Limits
from terraphim_rlm.faces.cli.app import run
from terraphim_rlm.guard.asking import Decider
from terraphim_rlm.service import ask as service
from terraphim_rlm.service.ask import AskRequest

Play = Callable[[AskRequest, Sequence[EventSink]], Awaitable[Answer]]


@pytest.fixture
def playing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Play], list[AskRequest]]:
    """Puts a double in the service's place; gives the requests that it gets."""

    def put(play: Play) -> list[AskRequest]:
        asked: list[AskRequest] = []

        async def ask(
            request: AskRequest, *, sinks: Sequence[EventSink] = (), decide: Decider | None = None
        ) -> Answer:
            asked.append(request)
            return await play(request, sinks)

        monkeypatch.setattr(service, "ask", ask)
        return asked

    return put


def tell(sinks: Sequence[EventSink], upto: int | None = None) -> None:
    for event in events()[:upto]:
        for sink in sinks:
            sink(event)


async def _whole(request: AskRequest, sinks: Sequence[EventSink]) -> Answer:
    tell(sinks)
    return ANSWER


async def _stopped_in_the_middle(request: AskRequest, sinks: Sequence[EventSink]) -> Answer:
    tell(sinks, 8)
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.Event().wait()
    raise AssertionError("it was not stopped")


def test_every_option_reaches_the_service(playing: Any) -> None:
    asked = playing(_whole)
    line = "ask Q a b --model m --sub-model s --base-url http://127.0.0.1:1/v1 --tokens 7 --seconds 8 --turns 9 --depth 0"
    assert (
        run(
            [
                *line.split(),
                "--dollars",
                "0.5",
                "--unpriced",
                "maximum",
                "--follow",
                "run-1",
                "--sandbox",
                "bubblewrap",
                "--json",
            ]
        )
        == 0
    )
    limits = Limits(tokens=7, seconds=8, turns=9, depth=0, dollars=0.5, unpriced="maximum")
    assert asked == [
        AskRequest("Q", ("a", "b"), model="m", sub_model="s", base_url="http://127.0.0.1:1/v1", limits=limits, sandbox="bubblewrap", follow="run-1")
    ]  # fmt: skip


def test_the_defaults_are_those_of_the_library(playing: Any) -> None:
    asked = playing(_whole)
    assert run(["ask", "Q", "-", "--json"]) == 0
    assert asked == [AskRequest("Q", ("-",), limits=Limits())]


def test_the_answer_is_on_standard_output_and_progress_on_standard_error(
    playing: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    playing(_whole)
    assert run(["ask", "Q", "p"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[0] == "pattern matching"
    assert said.out.splitlines()[-1].startswith("cost $0.0021 · ")
    assert said.err.splitlines()[0] == f"{RUN}: openai/x over 5,000 bytes in 3 files"
    assert "\x1b" not in said.out + said.err


def test_json_is_one_object_and_nothing_else(playing: Any, capsys: pytest.CaptureFixture[str]) -> None:
    playing(_whole)
    assert run(["ask", "Q", "p", "--json"]) == 0
    said = capsys.readouterr()
    response = json.loads(said.out)
    assert said.err == ""
    assert (response["success"], response["errors"], response["meta"]["command"]) == (True, [], "ask")
    assert response["data"] == ANSWER.to_json()


def test_jsonl_is_every_event_as_a_line_and_last_the_answer(
    playing: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    playing(_whole)
    assert run(["ask", "Q", "p", "--jsonl"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["type"] for line in lines[:-1]] == [event.type for event in events()]
    assert {line["schema_version"] for line in lines} == {1}
    assert lines[-1]["data"]["text"] == "pattern matching"


def test_the_built_in_model_says_what_it_cannot_do_and_names_better_ones(
    playing: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    async def local(request: AskRequest, sinks: Sequence[EventSink]) -> Answer:
        for sink in sinks:
            sink(replace(events()[0], data={"model": "local/smollm2"}))
        return ANSWER

    playing(local)
    assert run(["ask", "Q", "p"]) == 0
    said = capsys.readouterr().err
    assert "only looks things up" in said
    assert "--model ollama/NAME" in said


def test_an_error_ends_with_its_code_and_names_the_run_that_is_kept(
    playing: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fails(request: AskRequest, sinks: Sequence[EventSink]) -> Answer:
        tell(sinks, 3)
        raise ModelUnreachable("Nobody answers at 127.0.0.1:1.")

    playing(fails)
    assert run(["ask", "Q", "p"]) == 6
    said = capsys.readouterr()
    assert said.out == ""
    assert "Nobody answers" in said.err
    assert f"trlm runs show {RUN}" in said.err
    assert run(["ask", "Q", "p", "--json"]) == 6
    error = json.loads(capsys.readouterr().out)["errors"][0]
    assert (error["code"], error["details"]["run"]) == ("E205", RUN)


def test_nothing_is_said_to_be_kept_when_the_journal_failed(
    playing: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fails(request: AskRequest, sinks: Sequence[EventSink]) -> Answer:
        tell(sinks, 3)
        raise DiskFull("The disk is full.")

    playing(fails)
    assert run(["ask", "Q", "p"]) == 1
    assert "kept" not in capsys.readouterr().err


def test_a_partial_answer_is_printed_and_still_ends_with_the_code_of_its_limit(
    playing: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    async def cut(request: AskRequest, sinks: Sequence[EventSink]) -> Answer:
        return replace(ANSWER, partial=True, termination="token_budget", confidence="unverified")

    playing(cut)
    assert run(["ask", "Q", "p"]) == 9
    said = capsys.readouterr()
    assert said.out.startswith("pattern matching\n")
    assert "fix: Raise --tokens." in said.err
    assert run(["ask", "Q", "p", "--json"]) == 9
    response = json.loads(capsys.readouterr().out)
    assert response["data"]["text"] == "pattern matching"
    assert [error["code"] for error in response["errors"]] == ["E401"]


def test_ctrl_c_cancels_the_run_and_says_what_is_kept(
    playing: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    playing(_stopped_in_the_middle)
    assert run(["ask", "Q", "p"]) == 130
    said = capsys.readouterr()
    assert said.out == ""
    assert f"Kept: {RUN} with 1 turn, 3 calls, 132 tokens." in said.err
    assert f"`trlm runs show {RUN}`" in said.err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_with_json_gives_the_error_as_json(playing: Any, capsys: pytest.CaptureFixture[str]) -> None:
    playing(_stopped_in_the_middle)
    assert run(["ask", "Q", "p", "--json"]) == 130
    response = json.loads(capsys.readouterr().out)
    assert (response["success"], response["errors"][0]["code"]) == (False, "E130")
    assert response["errors"][0]["details"]["run"] == RUN


def test_a_bug_of_ours_is_told_as_one_without_a_traceback(
    playing: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    async def breaks(request: AskRequest, sinks: Sequence[EventSink]) -> Answer:
        raise ZeroDivisionError("division by zero")

    playing(breaks)
    assert run(["ask", "Q", "p"]) == 1
    said = capsys.readouterr().err
    assert "[E900]" in said
    assert "Traceback" not in said
    assert run(["ask", "Q", "p", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_reader_of_events_that_leaves_stops_the_run(playing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from terraphim_rlm.faces.cli import out, progress

    cancelled = []

    def broken(text: str) -> None:
        raise out.OutputLost(BrokenPipeError(32, "Broken pipe"))

    async def waits(request: AskRequest, sinks: Sequence[EventSink]) -> Answer:
        tell(sinks, 3)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        raise AssertionError

    monkeypatch.setattr(progress, "write_out", broken)
    monkeypatch.setattr("terraphim_rlm.faces.cli.app.lost", lambda error: 141)
    playing(waits)
    assert run(["ask", "Q", "p", "--jsonl"]) == 141
    assert cancelled == [True]


def test_a_mistyped_path_is_met_with_the_name_beside_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRLM_DATA", str(tmp_path / "data"))
    (tmp_path / "report.txt").write_text("words")
    (tmp_path / "replies.jsonl").write_text('{"reply": "FINAL(x)"}')
    model = f"scripted:{tmp_path / 'replies.jsonl'}"
    assert run(["ask", "q", str(tmp_path / "reprot.txt"), "--model", model]) == 4
    assert f"fix: Did you mean {tmp_path / 'report.txt'}?" in capsys.readouterr().err
    assert run(["ask", "q", str(tmp_path / "other"), "--model", model]) == 4
    assert "fix: Check the spelling" in capsys.readouterr().err


def test_a_sandbox_of_no_known_name_begins_no_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRLM_DATA", str(tmp_path / "data"))
    assert run(["ask", "q", str(tmp_path), "--sandbox", "docker"]) == 2
    assert "run-" not in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_who_plays_the_model_is_told_where(
    capsys: pytest.CaptureFixture[str], playing: Callable[[Play], list[AskRequest]]
) -> None:
    playing(_whole)
    assert run(["ask", "q", "p", "--model", "manual:desk"]) == 0
    assert "desk/NNNN.request.json" in capsys.readouterr().err


def test_a_dry_run_says_which_way_it_would_go_and_with_estimate_what_it_would_cost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("word " * 50_000)
    (tmp_path / "r.jsonl").write_text("")
    command = ["ask", "Who?", str(tmp_path / "a.txt"), "--model", f"scripted:{tmp_path}/r.jsonl"]

    assert run([*command, "--dry-run"]) == 0
    plain = capsys.readouterr().out
    assert "way    loop: turns in which the model works by code" in plain
    assert "input  1 file, 250.0 kB" in plain
    assert plain.endswith("No model was asked.\n")
    assert "most" not in plain

    assert run([*command, "--dry-run", "--estimate", "--tokens", "7000"]) == 0
    assert "most   7,000 tokens · 10,000 calls · $0" in capsys.readouterr().out
    assert run([*command, "--estimate", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["way"] == "loop"
    assert run([*command, "--dry-run", "--unpriced", "guess"]) == 2
    assert "--unpriced must be refuse or maximum" in capsys.readouterr().err


def test_a_question_needs_an_input_or_a_run_to_follow(
    playing: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = playing(_whole)
    assert run(["ask", "Q"]) == 2
    assert "--follow RUN" in capsys.readouterr().err
    assert run(["ask", "Q", "--follow", "run-1", "--json"]) == 0
    assert asked == [AskRequest("Q", (), follow="run-1")]
