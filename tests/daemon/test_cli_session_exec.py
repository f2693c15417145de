"""`trlm exec --session`: code in a session, from the command line."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from daemon_kit import TRLM, Cli, Daemon, environment

pytestmark = pytest.mark.sandbox


@pytest.fixture
def session(cli: Cli) -> str:
    return cli("session", "new", "--name", "work", "--json").data["id"]  # type: ignore[no-any-return]


@pytest.mark.usefixtures("session")
def test_what_one_command_leaves_the_next_one_finds(cli: Cli) -> None:
    assert cli("exec", "--session", "work", "-c", "x = 41").code == 0
    assert cli("exec", "--session", "work", "-c", "print(x + 1)").out == "42\n"
    assert cli("exec", "--session", "work", "--language", "bash", "-c", "cd /tmp; a=7").code == 0
    assert cli("exec", "--session", "work", "--language", "bash", "-c", "echo $a $PWD").out == "7 /tmp\n"


@pytest.mark.usefixtures("session")
def test_output_and_exit_code_are_the_codes_own_and_the_session_goes_on(cli: Cli) -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    said = cli("exec", "--session", "work", "-c", code)
    assert (said.code, said.out, said.err) == (3, "out\n", "err\n")
    raised = cli("exec", "--session", "work", "-c", "1/0")
    assert (raised.code, raised.err.count("Traceback")) == (1, 1)
    quiet = cli("exec", "--session", "work", "-c", "1/0", "--json")
    assert (quiet.code, quiet.json["errors"][0]["code"]) == (8, "E301")
    assert quiet.json["data"]["error"]["type"] == "ZeroDivisionError"
    assert cli("session", "show", "--json").data["failures"] == 3


@pytest.mark.usefixtures("session")
def test_input_and_variables_reach_the_code(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"\xffline\n")
    code = "import os, sys; print(sys.stdin.buffer.read(), os.environ['A'])"
    said = cli("exec", "--session", "work", "-c", code, "--stdin", str(tmp_path / "in"), "--env", "A=1")
    assert said.out == "b'\\xffline\\n' 1\n"


@pytest.mark.usefixtures("session")
def test_more_input_than_a_request_holds_is_refused_with_a_way_that_works(cli: Cli, tmp_path: Path) -> None:
    sizes = {40_000_000: 0, 40_000_001: 2}
    for size, code in sizes.items():
        with (tmp_path / "in").open("wb") as file:
            file.truncate(size)
        count = "import sys; print(len(sys.stdin.buffer.read()))"
        said = cli("exec", "--session", "work", "-c", count, "--stdin", str(tmp_path / "in"))
        assert said.code == code
        assert said.out == ("" if code else f"{size}\n")
    assert "trlm files put" in said.err


@pytest.mark.usefixtures("session")
def test_a_time_out_says_how_to_raise_it(cli: Cli) -> None:
    said = cli("exec", "--session", "work", "-c", "while True: pass", "--timeout", "0.3")
    assert said.code == 7
    assert "stopped after 0.3 s. [E302]" in said.err
    assert "Raise --timeout." in said.err


def test_what_a_session_has_from_its_beginning_cannot_be_asked_for_later(cli: Cli, session: str) -> None:
    said = cli("exec", "--session", session, "--memory", "64", "-c", "1")
    assert (said.code, said.out) == (2, "")
    assert "--memory cannot change that" in said.err
    assert "trlm session new --memory" in said.err


def test_memory_and_disk_that_run_out_are_those_of_the_session(cli: Cli) -> None:
    cli("session", "new", "--name", "small", "--memory", "128")
    said = cli("exec", "--session", "small", "-c", "x = bytearray(10**9)", "--json")
    assert (said.code, said.json["data"]["status"]) == (8, "oom")
    assert "(128 MB)" in said.json["errors"][0]["message"]
    assert "trlm session new --memory" in said.json["errors"][0]["fix"]


def test_code_for_a_session_that_is_not_there_is_not_run(cli: Cli, session: str) -> None:
    said = cli("exec", "--session", "wrok", "-c", "1")
    assert (said.code, "The nearest is work" in said.err) == (4, True)
    cli("session", "destroy", session)
    assert "was destroyed" in cli("exec", "--session", session, "-c", "1").err


def begun(daemon: Daemon, code: str) -> subprocess.Popen[bytes]:
    """A command that runs code in the session `work`, once that has said `begun`."""
    command = [str(TRLM), "exec", "--session", "work", "-c", code]
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(daemon.data)
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"begun\n", child.communicate()[1]
    return child


FOREVER = "print('begun', flush=True)\nx = 'kept'\nwhile True: pass"


@pytest.mark.usefixtures("session")
def test_ctrl_c_stops_the_code_and_keeps_the_session_with_its_state(cli: Cli, shared_daemon: Daemon) -> None:
    with begun(shared_daemon, FOREVER) as child:
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=30)
        assert (child.returncode, out) == (130, b"")
    assert b"the session work goes on" in err
    assert b"Traceback" not in err
    assert cli("exec", "--session", "work", "-c", "print(x)").out == "kept\n"


@pytest.mark.usefixtures("session")
def test_code_is_stopped_when_the_command_is_killed_or_nobody_reads_on(
    cli: Cli, shared_daemon: Daemon
) -> None:
    with begun(shared_daemon, FOREVER) as child:
        child.kill()
    assert cli("exec", "--session", "work", "-c", "print(x)").out == "kept\n"
    with begun(
        shared_daemon, "print('begun', flush=True)\nwhile True: print('x' * 999, flush=True)"
    ) as child:
        assert child.stdout is not None
        child.stdout.close()
        assert child.wait(30) == 141
    assert cli("exec", "--session", "work", "-c", "print(x)").out == "kept\n"


@pytest.mark.usefixtures("session")
def test_code_whose_daemon_ends_is_told_so(own_data_folder: Path) -> None:
    from daemon_kit import served

    with served(own_data_folder) as daemon:
        daemon.session(name="work")
        with begun(daemon, FOREVER) as child:
            daemon.end()
            err = child.communicate(timeout=30)[1]
    assert child.returncode == 11
    assert b"The session ended while the code ran. [E603]" in err
