"""The daemon as a tree of parts: each may die, and the others serve on; together they end in good order."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from daemon_kit import TRLM, Daemon, environment, gone, served, trlm

from terraphim_rlm.faces.client.connection import Connection
from terraphim_rlm.faces.server.app import make_app
from terraphim_rlm.faces.server.listening import Listening
from terraphim_rlm.faces.server.tree import make_tree
from terraphim_rlm.faces.server.unit import unit
from terraphim_rlm.faces.server.uvicorn_server import served as serving
from terraphim_rlm.service import session_records
from terraphim_rlm.service.executions import Execution
from terraphim_rlm.service.running import Running
from terraphim_rlm.service.sessions import NewSession, Sessions
from terraphim_rlm.store.journal import Journal
from terraphim_rlm.supervision.supervisor import Supervisor

pytestmark = pytest.mark.sandbox
ORPHANS = int(os.environ.get("TRLM_TEST_ORPHANS", "6"))
"""Sessions of a daemon that is killed; with 50 the next one must be ready within 5 s."""


class House:
    """A daemon's tree in this process."""

    def __init__(self, sessions: Sessions, tree: Supervisor, path: Path) -> None:
        self.sessions = sessions
        self.tree = tree
        self.path = path

    def supervisor(self, part: str) -> Supervisor:
        inner = self.tree._kept.slots.get("sandboxes").child
        assert isinstance(inner, Supervisor)
        return self.tree if part in ("journal", "sandboxes", "server") else inner

    def child(self, part: str) -> Any:
        return self.supervisor(part)._kept.slots.get(part).child

    async def again(self, part: str, before: Any) -> None:
        async with asyncio.timeout(30):
            while self.child(part) in (None, before):
                await asyncio.sleep(0.005)


@pytest.fixture
async def house(own_data_folder: Path) -> AsyncIterator[House]:
    with Listening() as listening, Journal() as journal:
        journal.open()
        sessions = Sessions(journal)
        app = make_app(sessions, Running())
        tree = make_tree(journal, sessions, {"server": serving(app, listening.socket)})
        app.state.tree = tree
        try:
            await tree.start()
            yield House(sessions, tree, listening.path)
        finally:
            await sessions.close()
            await tree.stop()


@pytest.mark.parametrize("part", ["journal", "keeper", "pool", "reaper", "expiry", "server", "sandboxes"])
async def test_any_part_may_die_and_sessions_and_service_go_on(house: House, part: str) -> None:
    session = await house.sessions.create(NewSession())
    await house.sessions.execute(session.id, Execution("x = 41"))
    before = house.child(part)
    if part == "sandboxes":
        before.kill()
    else:
        before._task.cancel()
    await house.again(part, before)
    done = await house.sessions.execute(session.id, Execution("print(x + 1)"))
    assert done.stdout == "42\n"
    other = await house.sessions.create(NewSession())
    assert (await house.sessions.execute(other.id, Execution("print(1)"))).stdout == "1\n"
    async with Connection(house.path) as connection:
        found = await connection.get("/health")
        assert found["status"] == "healthy"
    assert house.supervisor(part).statistics().restarts == (part != "sandboxes" or 1)


def keepers(daemon: Daemon) -> set[int]:
    """Its children that keep sandboxes; one that reads code for the guard is none."""
    children = Path(f"/proc/{daemon.child.pid}/task/{daemon.child.pid}/children").read_text().split()
    return {int(pid) for pid in children if b"keeper" in Path(f"/proc/{pid}/cmdline").read_bytes()}


def test_a_killed_keeper_costs_its_sandboxes_and_nothing_else(own_data_folder: Path) -> None:
    with served(own_data_folder) as daemon:
        session = daemon.session()
        (keeper,) = keepers(daemon)
        os.kill(keeper, signal.SIGKILL)
        deadline = time.monotonic() + 20
        while session_records.find_session(session).status == "live" and time.monotonic() < deadline:
            time.sleep(0.02)
        assert session_records.find_session(session).status == "lost"  # nobody has asked for it
        again = daemon.session()
        assert daemon.run(again, "print(6 * 7)")["stdout"] == "42\n"
        parts = {each["id"]: each for each in daemon.ask("GET", "/health").json["parts"]}
        assert set(parts) == {"journal", "sandboxes", "server"}
        assert {each["state"] for each in parts.values()} == {"running"}


def test_a_crash_loop_ends_the_daemon_with_its_reason_and_leaves_no_process(own_data_folder: Path) -> None:
    with served(own_data_folder) as daemon:
        seen: set[int] = set()
        deadline = time.monotonic() + 100
        while daemon.child.poll() is None and time.monotonic() < deadline:
            try:
                daemon.ask("POST", "/api/sessions", {})
                for keeper in keepers(daemon) - seen:
                    seen |= daemon.sandboxes()
                    os.kill(keeper, signal.SIGKILL)
            except (
                OSError,
                http.client.HTTPException,
            ):  # it ends, sooner or later in the middle of an answer
                continue
        assert daemon.child.wait(20) == 1
        assert daemon.child.stderr is not None
        said = daemon.child.stderr.read().decode()
        assert "E672" in said or "gave up" in said
        assert "keeper" in said.lower().rpartition("gave up")[2]
        gone(seen)


def test_sigterm_lets_what_runs_end_and_takes_nothing_new(own_data_folder: Path) -> None:
    with served(own_data_folder, "--drain-seconds", "60") as daemon:
        session = daemon.session()
        code = "import time; print('begun', flush=True); time.sleep(1); print('ended')"
        client = subprocess.Popen(
            [str(TRLM), "exec", "--session", session, "-c", code],
            stdout=subprocess.PIPE,
            env=environment(own_data_folder),
        )
        assert client.stdout is not None
        assert client.stdout.readline() == b"begun\n"
        assert daemon.end(signal.SIGTERM) == 0
        assert client.communicate(timeout=30)[0] == b"ended\n"
        assert client.returncode == 0
        assert [each.status for each in session_records.history(session)] == ["ok"]


def test_whoever_asks_twice_does_not_wait_for_what_runs(own_data_folder: Path) -> None:
    with served(own_data_folder, "--drain-seconds", "600") as daemon:
        session = daemon.session()
        code = "print('begun', flush=True)\nwhile True: pass"
        client = subprocess.Popen(
            [str(TRLM), "exec", "--session", session, "-c", code],
            stdout=subprocess.PIPE,
            env=environment(own_data_folder),
        )
        assert client.stdout is not None
        assert client.stdout.readline() == b"begun\n"
        daemon.child.send_signal(signal.SIGTERM)
        while daemon.path.exists():
            time.sleep(0.01)
        assert daemon.end(signal.SIGTERM) == 0
        client.communicate(timeout=30)
        assert [each.status for each in session_records.history(session)] == ["interrupted"]


def test_after_a_kill_the_next_daemon_is_ready_soon_and_every_orphan_is_reclaimed(
    own_data_folder: Path,
) -> None:
    with served(own_data_folder) as daemon:
        sessions = [daemon.session() for _ in range(ORPHANS)]
        family = daemon.sandboxes()
        daemon.child.kill()
        daemon.child.wait(10)
        began = time.monotonic()
        with served(own_data_folder) as again:
            assert again.ask("GET", "/health").status == 200
            ready = time.monotonic() - began
            assert again.run(again.session(), "print(1)")["stdout"] == "1\n"
            whole = time.monotonic() - began
            print(f"{ORPHANS} orphans: ready after {ready:.2f} s, a session after {whole:.2f} s")
            gone(family)
            listed = again.ask("GET", "/api/sessions?status=lost&limit=1000").json["sessions"]
            assert {each["id"] for each in listed} == set(sessions)
    assert ready < (5 if ORPHANS >= 50 else 30)


def test_it_tells_systemd_when_it_serves(own_data_folder: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "notify"))
        told.settimeout(30)
        with served(own_data_folder, NOTIFY_SOCKET=str(tmp_path / "notify")) as daemon:
            assert told.recv(100) == b"READY=1"
            assert daemon.end(signal.SIGINT) == 0
            assert told.recv(100) == b"STOPPING=1"


def test_the_unit_names_this_interpreter_and_folder_whatever_is_in_their_names(tmp_path: Path) -> None:
    said = trlm("serve", "--print-unit", data=tmp_path / "my data")
    assert said.returncode == 0
    lines = said.stdout.splitlines()
    assert f'Environment="TRLM_DATA={tmp_path}/my data"' in lines
    assert any(line.startswith(f'ExecStart="{sys.executable}" -P -c ') for line in lines)
    assert {"Type=notify", "Restart=on-failure", "Delegate=yes", "TimeoutStopSec=40"} <= set(lines)
    assert '"TRLM_DATA=/a%%b$$c\\"d"' in unit(Path("/py"), Path('/a%b$c"d'), 5)
    data = json.loads(trlm("serve", "--print-unit", "--json", data=tmp_path).stdout)["data"]
    assert (
        data["unit"].splitlines()[4:6] == ["[Unit]", "Description=Terraphim RLM"] or "[Unit]" in data["unit"]
    )
    assert not (tmp_path / "my data").exists()
