"""The installed command: quick, never a traceback, the right exit code, data on standard output only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_kit import TRLM, started, trlm


@pytest.mark.parametrize("arguments", [["--help"], ["ask", "--help"]])
def test_help_takes_under_half_a_second(arguments: list[str], tmp_path: Path) -> None:
    trlm(*arguments, data=tmp_path)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        assert trlm(*arguments, data=tmp_path).returncode == 0
        times.append(time.perf_counter() - started)
    # The least of five: what the command costs, not what else the machine does.
    assert min(times) < 0.5, times


def test_help_imports_nothing_that_only_work_needs() -> None:
    code = (
        "import sys; from terraphim_rlm.faces.cli.app import run; run(['ask', '--help']); print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    modules = set(done.stdout.split())
    heavy = {
        "rich",
        "asyncio",
        "pydantic",
        "anyio",
        "httpx2",
        "sqlite3",
        "jsonschema",
        "genai_prices",
        "xllamacpp",
    }
    assert "typer" in modules
    assert modules & heavy == set()


USAGE = [
    (["aks", "q"], "E001", "Did you mean `trlm ask`?"),
    (["runs", "lst"], "E001", "Did you mean `trlm runs list`?"),
    (["session", "rm", "work"], "E001", "Did you mean `trlm session destroy`?"),
    (["session", "kill"], "E001", "Did you mean `trlm session destroy`?"),
    (["session", "create"], "E001", "Did you mean `trlm session new`?"),
    (["snapshot", "delete", "s"], "E001", "Did you mean `trlm snapshot forget`?"),
    (["models", "remove", "m"], "E001", "Did you mean `trlm models rm`?"),
    (["frobnicate"], "E001", "The commands: ask"),
    (["ask"], "E003", "trlm ask --help"),
    (["ask", "q"], "E003", "- for standard input"),
    (["ask", "q", "p", "--token", "5"], "E002", "Did you mean --tokens?"),
    (["ask", "q", "p", "--sandbox", "docker"], "E002", "auto, bubblewrap"),
    (["ask", "q", "p", "--model", "gpt-4"], "E201", "openai/gpt-4"),
    (["ask", "q", "p", "--model", "ollama"], "E201", "ollama/NAME"),
    (["ask", "q", "p", "--tokens", "0"], "E002", "Give --tokens a sensible value"),
    (["ask", "q", "p", "--tokens", "many"], "E002", "trlm ask --help"),
    (["ask", "q", "p", "--seconds", "-1"], "E002", "sensible value"),
    (["ask", "q", "p", "--seconds", "nan"], "E002", ""),
    (["ask", "q", "p", "--seconds", "inf"], "E002", "sensible value"),
    (["ask", "q", "p", "--depth", "99"], "E002", "sensible value"),
    (["ask", "q", "p", "--dollars", "-0.1"], "E002", "sensible value"),
    (["ask", "q", "p", "--tokns", "5"], "E002", "--tokens"),
    (["ask", "q", "p", "--schema", "/no/such/file"], "E101", "spelling"),
    (["exec"], "E003", "trlm exec -c"),
    (["exec", "-c", "1", "file.py"], "E002", "trlm exec -c"),
    (["exec", "-c", "1", "--language", "cobol"], "E002", "python, javascript, bash, rust, go, sh"),
    (["exec", "-c", "1", "--memory", "0"], "E002", "Give --memory a sensible value"),
    (["exec", "print(1)"], "E101", "put -c before it"),
    (["exec", "-c", "1", "--env", "NO_SUCH_VARIABLE"], "E002", "K=V"),
    (["exec", "/no/such/file.py"], "E101", "spelling"),
    (["exec", "/"], "E102", "file"),
    (["parse", "/no/such/file"], "E101", "spelling"),
    (["runs", "show", "run-nothing"], "E104", "trlm ask"),
    (["runs", "list", "--limit", "0"], "E002", ""),
    (["runs", "list", "--status", "odd"], "E002", "done"),
    (["models", "get", "nothing"], "E201", "smollm2"),
    (["models", "rm", "nothing"], "E201", "smollm2"),
]
EXITS = {"E101": 4, "E104": 4}


@pytest.mark.parametrize(("arguments", "code", "fix"), USAGE, ids=[" ".join(row[0]) for row in USAGE])
def test_a_wrong_command_line_is_explained_with_its_fix_and_code(
    arguments: list[str], code: str, fix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from terraphim_rlm.faces.cli.app import run

    assert run(arguments) == EXITS.get(code, 2)
    said = capsys.readouterr()
    assert said.out == ""
    assert f"[{code}]" in said.err
    assert fix in said.err.partition("fix:")[2]
    assert "Traceback" not in said.err
    assert run([*arguments, "--json"]) == EXITS.get(code, 2)
    said = capsys.readouterr()
    response = json.loads(said.out)
    assert said.err == ""
    assert [error["code"] for error in response["errors"]] == [code]
    assert (response["success"], response["data"], response["schema_version"]) == (False, None, 1)
    assert set(response["meta"]) == {"command", "elapsed_ms", "timestamp", "version"}


def test_a_limit_is_called_by_its_option(capsys: pytest.CaptureFixture[str]) -> None:
    from terraphim_rlm.faces.cli.app import run

    for arguments, said in (
        (["ask", "q", "p", "--seconds", "nan"], "--seconds must be a number, not nan."),
        (["exec", "-c", "1", "--disk", "-1"], "--disk must be more than 0"),
    ):
        assert run(arguments) == 2
        assert f"trlm: {said}" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["ask"], ["runs"], ["runs", "list"], ["exec"]])
def test_the_short_way_to_ask_for_help_is_heard(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from terraphim_rlm.faces.cli.app import run

    assert run([*arguments, "-h"]) == 0
    assert capsys.readouterr().out.startswith("Usage: ")


def test_commands_that_only_read_make_no_journal(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert "No runs yet" in trlm("runs", "list", data=data).stdout
    listed = json.loads(trlm("runs", "list", "--json", data=data).stdout)
    assert listed["data"]["runs"] == []
    assert not data.exists()


def test_the_version_is_printed_alone(tmp_path: Path) -> None:
    done = trlm("--version", data=tmp_path)
    assert done.stdout.startswith("trlm ")
    assert done.stdout.count("\n") == 1


def test_debug_shows_the_traceback_and_nothing_else_does(capsys: pytest.CaptureFixture[str]) -> None:
    from terraphim_rlm.faces.cli.app import run

    assert run(["parse", "/no/such/file", "--debug"]) == 4
    assert "Traceback" in capsys.readouterr().err


def test_a_reader_that_leaves_early_ends_the_command_without_a_word(tmp_path: Path) -> None:
    reply = tmp_path / "reply.md"
    reply.write_text("word " * 200_000)
    with started(str(TRLM), "parse", str(reply), "--json") as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.read(1)
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(timeout=30) == 141


def test_a_closed_standard_output_is_an_error_with_a_fix(tmp_path: Path) -> None:
    command = f"exec {TRLM} models list >&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this machine has no /dev/full")
def test_a_full_disk_below_standard_output_is_an_error_with_a_fix() -> None:
    command = f"exec {TRLM} models list > /dev/full"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "cannot be written: No space left" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_closed_standard_error_does_not_stop_the_command() -> None:
    command = f"exec {TRLM} aks 2>&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (2, "")


def test_parse_shows_commands_and_what_was_dropped(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from terraphim_rlm.faces.cli.app import run

    reply = tmp_path / "reply.md"
    reply.write_text('```python\nprint("\x1b[2J")\n```\n```json\n{}\n```\n')
    assert run(["parse", str(reply)]) == 0
    said = capsys.readouterr().out
    assert "1. code  python" in said
    assert "dropped: text_tag json" in said
    assert "\x1b" not in said
    assert run(["parse", str(reply), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert [each["kind"] for each in data["commands"]] == ["code"]


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_all_output_arrives_through_a_slow_pipe_that_does_not_block(tmp_path: Path, unbuffered: str) -> None:
    reply = tmp_path / "reply.md"
    reply.write_text("word " * 100_000)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    child = subprocess.Popen(
        [str(TRLM), "parse", str(reply), "--json"],
        stdout=writer,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    os.close(writer)
    with open(reader, "rb") as pipe:
        said = pipe.read()
    assert child.wait(timeout=30) == 0
    assert json.loads(said)["data"]["transcript"].count("word") == 100_000
