"""`trlm pool` and `/api/pools`: filled when asked, drawn from by sessions, gone with the daemon however that ends."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from daemon_kit import TRLM, Cli, Daemon, environment, gone, running, served

from terraphim_rlm.core.errors import PoolExhausted
from terraphim_rlm.faces.server.problems import problem

pytestmark = pytest.mark.sandbox


@pytest.fixture
def drained(cli: Cli) -> Cli:
    assert cli("pool", "drain").code == 0
    return cli


def pool(daemon: Daemon) -> Any:
    (found,) = daemon.ask("GET", "/api/pools").json["pools"]
    return found


def test_sessions_take_from_a_pool_that_was_warmed_and_it_fills_again(
    drained: Cli, shared_daemon: Daemon
) -> None:
    warmed = drained("pool", "warm", "2")
    assert (warmed.code, warmed.out) == (0, "2 sandboxes ready.\n")
    before = pool(shared_daemon)
    assert (before["state"], before["ready"], before["backend"]) == ("ready", 2, "bubblewrap")
    assert drained("session", "new", "--sandbox", "bubblewrap").code == 0
    after = drained("pool", "status", "--json").data["pools"][0]
    assert (after["handed_out"], after["hits"]) == (before["handed_out"] + 1, before["hits"] + 1)
    assert after["goal"] == 4
    assert set(after["handout_ms"]) == {"p50", "p95", "p99"}
    warmed = drained("pool", "warm", "--json")
    assert warmed.data["pools"][0]["ready"] == 4
    assert drained("exec", "--session", drained("session", "list", "--json").data["sessions"][0]["id"],
        "-c", "import os; print(os.listdir('/work'))").out == "[]\n"  # fmt: skip


def test_a_session_that_asks_for_something_special_takes_nothing_from_the_pool(
    drained: Cli, shared_daemon: Daemon
) -> None:
    drained("pool", "warm", "1")
    before = pool(shared_daemon)
    assert drained("session", "new", "--memory", "512").code == 0
    assert pool(shared_daemon)["handed_out"] == before["handed_out"]


def test_draining_ends_what_stands_ready_and_no_session(drained: Cli, shared_daemon: Daemon) -> None:
    session = shared_daemon.session()
    drained("pool", "warm", "3")
    assert drained("pool", "drain").out == "No sandbox is kept ready any more.\n"
    found = pool(shared_daemon)
    assert (found["state"], found["ready"], found["starting"], found["ending"]) == ("cold", 0, 0, 0)
    assert shared_daemon.run(session, "print(1)")["stdout"] == "1\n"


def test_the_table_says_how_the_pool_stands(drained: Cli) -> None:
    drained("pool", "warm", "2")
    head, line = drained("pool", "status").out.splitlines()
    assert head.split()[:3] == ["sandbox", "state", "ready"]
    assert line.split()[:5] == ["bubblewrap", "ready", "2", "of", "2"]


@pytest.mark.parametrize("count", ["0", "11", "many"])
def test_a_number_that_no_pool_keeps_is_refused(cli: Cli, count: str) -> None:
    assert cli("pool", "warm", count).code == 2


def test_without_a_daemon_none_is_started_to_say_that_it_keeps_nothing(
    own_data_folder: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    from terraphim_rlm.faces.cli.app import run

    for words in (("pool", "status"), ("pool", "drain")):
        assert run(words) == 0
        assert capfdbinary.readouterr().out.startswith(b"No sandbox is kept ready")
    assert not (own_data_folder / "daemon.lock").exists()


def test_a_killed_daemon_leaves_nothing_of_its_pool(own_data_folder: Path) -> None:
    with served(own_data_folder) as daemon:
        assert daemon.sandboxes() == set(), "something was made before anybody asked"
        assert daemon.ask("POST", "/api/pools/warm", {}).json["pools"][0]["ready"] == 4
        below = daemon.sandboxes()
        assert len(below) >= 9
        daemon.child.kill()
        daemon.child.wait(10)
        gone(below)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_ended_daemon_has_ended_its_pool(own_data_folder: Path, number: int) -> None:
    with served(own_data_folder) as daemon:
        daemon.ask("POST", "/api/pools/warm", {"count": 2})
        below = daemon.sandboxes()
        assert daemon.end(number) == 0
        gone(below, 0)


def test_an_idle_daemon_ends_with_its_pool_full(own_data_folder: Path) -> None:
    command = [str(TRLM), "serve", "--idle-seconds", "1"]
    with running(command, environment(own_data_folder), own_data_folder) as daemon:
        daemon.ask("POST", "/api/pools/warm", {"count": 2})
        below = daemon.sandboxes()
        assert daemon.child.wait(30) == 0
        gone(below, 0)


def test_a_client_is_told_when_to_come_again() -> None:
    answer = problem(PoolExhausted("They do not start.", retry_after=12))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "12")
