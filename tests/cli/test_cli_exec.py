"""`trlm exec` with the real sandbox: output, exit codes, time-outs, input, variables."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest
from cli_kit import TRLM, started

from terraphim_rlm.core.errors import Cancelled
from terraphim_rlm.core.values import ExecutionResult, Resources
from terraphim_rlm.faces.cli.app import run
from terraphim_rlm.faces.cli.jobs import Job, failure

pytestmark = pytest.mark.sandbox
Captured = pytest.CaptureFixture[str]


def executed(capsys: Captured, *arguments: str) -> tuple[int, str, str]:
    code = run(["exec", *arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_output_and_exit_code_are_the_codes_own(capsys: Captured) -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    assert executed(capsys, "-c", code) == (3, "out\n", "err\n")
    assert executed(capsys, "-c", "print(1)") == (0, "1\n", "")


def test_leaving_with_a_text_prints_it_as_python_does(capsys: Captured) -> None:
    assert executed(capsys, "-c", "import sys; sys.exit('bad luck')") == (1, "", "bad luck\n")


def test_code_that_raises_shows_its_own_traceback_and_not_ours(capsys: Captured) -> None:
    code, out, err = executed(capsys, "-c", "1/0")
    assert (code, out) == (1, "")
    assert err.count("Traceback") == 1
    assert "ZeroDivisionError: division by zero" in err
    assert "terraphim_rlm" not in err


def test_with_json_the_exit_code_is_ours(capsys: Captured) -> None:
    code, out, err = executed(capsys, "-c", "print('x'); raise SystemExit(3)", "--json")
    response = json.loads(out)
    assert (code, err, response["success"]) == (8, "", False)
    assert (response["data"]["stdout"], response["data"]["exit_code"]) == ("x\n", 3)
    assert response["errors"][0]["code"] == "E301"
    assert executed(capsys, "-c", "1", "--json")[0] == 0


def test_a_time_out_ends_with_its_own_code_and_says_so(capsys: Captured) -> None:
    code, out, err = executed(
        capsys, "-c", "print('begun', flush=True)\nwhile True: pass", "--timeout", "0.3"
    )
    assert (code, out) == (7, "begun\n")
    assert "stopped after 0.3 s. [E302]" in err
    assert "Raise --timeout." in err


@pytest.mark.parametrize("language", ["bash", "sh"])
def test_a_shell_command_runs_as_one(capsys: Captured, language: str) -> None:
    assert executed(capsys, "--language", language, "-c", "echo $((6*7)); exit 5") == (5, "42\n", "")


def test_a_script_longer_than_one_argument_may_be_still_runs(capsys: Captured, tmp_path: Path) -> None:
    script = tmp_path / "long.sh"
    script.write_text("# " + "x" * 200_000 + "\necho done\n")
    assert executed(capsys, str(script))[:2] == (0, "done\n")


def test_the_language_is_taken_from_the_files_name(capsys: Captured, tmp_path: Path) -> None:
    (tmp_path / "a.sh").write_text("echo $0 | grep -q bash && echo shell")
    (tmp_path / "a.py").write_text("print('python')")
    assert executed(capsys, str(tmp_path / "a.sh"))[1] == "shell\n"
    assert executed(capsys, str(tmp_path / "a.py"))[1] == "python\n"


def test_input_and_variables_reach_the_code_and_nothing_else_of_ours_does(
    capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").write_bytes(b"line\n")
    monkeypatch.setenv("MINE", "secret")
    monkeypatch.setenv("OTHER", "hidden")
    code = "import os; print(input(), os.environ['A'], os.environ['MINE'], os.environ.get('OTHER'))"
    found = executed(capsys, "-c", code, "--stdin", str(tmp_path / "in"), "--env", "A=1=2", "--env", "MINE")
    assert found == (0, "line 1=2 secret None\n", "")


def test_a_variable_that_could_take_over_the_interpreter_is_refused(capsys: Captured) -> None:
    code, _, err = executed(capsys, "-c", "1", "--env", "LD_PRELOAD=/tmp/x.so")
    assert code == 2
    assert "[E002]" in err


def test_too_much_memory_is_named_as_such(capsys: Captured) -> None:
    code, out, _ = executed(capsys, "--memory", "128", "--json", "-c", "x = bytearray(10**9)")
    response = json.loads(out)
    assert code == 8
    assert response["data"]["status"] == "oom"
    assert response["errors"][0]["fix"] == "Raise --memory."


def test_ctrl_c_ends_the_code_and_says_that_nothing_is_kept() -> None:
    code = "print('begun', flush=True)\nwhile True: pass"
    with started(str(TRLM), "exec", "-c", code) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"begun\n"
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=30)
        assert (child.returncode, out) == (130, b"")
    assert b"nothing of it is kept" in err
    assert b"Traceback" not in err


def test_output_comes_while_the_code_runs_and_stops_it_when_nobody_reads_on() -> None:
    code = "while True: print('x' * 1000, flush=True)"
    with started(str(TRLM), "exec", "-c", code) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.read(10) == b"x" * 10
        child.stdout.close()
        assert child.wait(timeout=30) == 141
        assert child.stderr.read() == b""


def test_code_killed_with_the_whole_sandbox_is_not_said_to_have_had_a_signal() -> None:
    async def ended(*_: object) -> ExecutionResult:
        return ExecutionResult(execution_id="exec-1", status="killed", state_after="lost")

    job = Job(ended, lambda: Cancelled("Stopped."), None, Resources(), {})
    error = failure(job, asyncio.run(ended()))
    assert error is not None
    assert error.message == "The code was killed."
