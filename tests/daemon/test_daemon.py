"""The daemon as a process: one of its folder, for one user, gone without a trace whichever way it ends."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import select
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from daemon_kit import TRLM, environment, gone, running, served, trlm

from terraphim_rlm.core import paths
from terraphim_rlm.core.clock import ManualClock
from terraphim_rlm.core.errors import DaemonUnavailable
from terraphim_rlm.core.sockets import private_folder
from terraphim_rlm.faces.server.idle import Idle
from terraphim_rlm.faces.server.listening import answers
from terraphim_rlm.service import session_records

pytestmark = pytest.mark.sandbox


def test_sessions_outlive_the_client_that_made_them(own_data_folder: Path) -> None:
    with served(own_data_folder) as daemon:
        session = daemon.session(name="work")
        daemon.run("work", "x = 41")
        assert daemon.run(session, "print(x + 1)")["stdout"] == "42\n"
        assert daemon.ask("GET", "/health").json["sessions"]["live"] == 1
        assert daemon.ask("DELETE", "/api/sessions/work").json["status"] == "destroyed"
        assert daemon.ask("GET", f"/api/sessions/{session}").json["executions"] == 2


def test_a_second_daemon_is_refused_and_told_who_serves(own_data_folder: Path) -> None:
    with served(own_data_folder) as daemon:
        second = trlm("serve", "--json", data=own_data_folder)
        error = json.loads(second.stdout)["errors"][0]
        assert (second.returncode, error["code"]) == (1, "E663")
        assert str(daemon.child.pid) in error["message"]
        assert daemon.ask("GET", "/health").status == 200


def test_another_data_folder_has_a_daemon_of_its_own_on_a_socket_of_its_own(tmp_path: Path) -> None:
    runtime = tmp_path / "runtime"
    with (
        served(tmp_path / "a", XDG_RUNTIME_DIR=str(runtime)) as one,
        served(tmp_path / "b", XDG_RUNTIME_DIR=str(runtime)) as other,
    ):
        assert one.path.parent == other.path.parent == runtime / "terraphim-rlm"
        one.session(name="mine")
        assert other.ask("GET", "/api/sessions/mine").status == 404


def test_killed_it_leaves_no_process_and_its_sessions_read_as_lost(own_data_folder: Path) -> None:
    with served(own_data_folder) as daemon:
        session = daemon.session()
        daemon.run(session, "import subprocess; subprocess.Popen(['sleep', '1000'])")
        below = daemon.sandboxes()
        assert len(below) >= 4
        daemon.child.kill()
        daemon.child.wait(10)
        gone(below)
        assert session_records.find_session(session).status == "lost"
        assert not answers(daemon.path)
    with served(own_data_folder) as again:  # over the socket that the dead one left
        found = again.ask("POST", f"/api/sessions/{session}/executions", {"code": "1"})
        assert (found.status, found.json["code"]) == (410, "E653")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ended_by_a_signal_it_ends_every_sandbox_and_writes_down_what_ran(
    own_data_folder: Path, number: int
) -> None:
    with served(own_data_folder, "--drain-seconds", "0.5") as daemon:
        session = daemon.session()
        child = subprocess.Popen(
            [sys.executable, "-c", CLIENT, session], stdout=subprocess.PIPE, env=environment(own_data_folder)
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"begun\n"
        below = daemon.sandboxes()
        assert daemon.end(number) == 0
        gone(below, 0)
        last = json.loads(child.communicate(timeout=30)[0])
        assert (last["status"], last["state_after"]) == ("interrupted", "lost")
        assert session_records.find_session(session).status == "lost"
        assert [each.status for each in session_records.history(session)] == ["interrupted"]
        assert not daemon.path.exists()


CLIENT = """
import asyncio, json, sys
from contextlib import aclosing
from terraphim_rlm.faces.client.daemon import daemon
async def main():
    async with daemon() as connection:
        body = {"code": "print('begun', flush=True)\\nwhile True: pass", "timeout": 60}
        async with aclosing(connection.lines(f"/api/sessions/{sys.argv[1]}/executions", body)) as lines:
            async for line in lines:
                if line["type"] == "output":
                    print(line["text"], end="", flush=True)
        print(json.dumps(line["result"]))
asyncio.run(main())
"""
WHO = """
import asyncio
from terraphim_rlm.faces.client.daemon import daemon
async def main():
    async with daemon() as connection:
        print((await connection.get("/health"))["pid"])
asyncio.run(main())
"""


def asked(data: Path) -> subprocess.CompletedProcess[str]:
    """A client that asks who serves."""
    return subprocess.run(
        [sys.executable, "-c", WHO],
        env=environment(data),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_of_many_clients_that_need_a_daemon_at_once_all_reach_the_same(own_data_folder: Path) -> None:
    env = environment(own_data_folder)
    clients = [
        subprocess.Popen([sys.executable, "-c", WHO], env=env, stdout=subprocess.PIPE) for _ in range(6)
    ]
    pids = {int(client.communicate(timeout=60)[0]) for client in clients}
    try:
        assert len(pids) == 1
        assert {client.returncode for client in clients} == {0}
        ended = trlm("serve", "--stop", data=own_data_folder)
        assert ended.stdout == "Ended, with 0 sessions.\n"
        gone(pids, 0)
        assert trlm("serve", "--stop", data=own_data_folder).stdout == "No daemon runs.\n"
    finally:
        for pid in pids:
            with_suppress_kill(pid)


def test_stopping_waits_for_a_daemon_that_is_being_started(own_data_folder: Path) -> None:
    own_data_folder.mkdir(exist_ok=True)
    with (own_data_folder / "daemon.starting").open("w") as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)
        argv = [str(TRLM), "serve", "--stop"]
        env = environment(own_data_folder)
        with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) as stop:
            waits_for_lock(stop.pid, starting.fileno())
            assert trlm("serve", "--detach", data=own_data_folder).returncode == 0
            fcntl.flock(starting, fcntl.LOCK_UN)
            assert stop.communicate(timeout=60)[0] == "Ended, with 0 sessions.\n"


def waits_for_lock(pid: int, fd: int) -> None:
    """Returns once that process waits for a lock on our file."""
    inode = os.fstat(fd).st_ino
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        rows = [line.split() for line in Path("/proc/locks").read_text().splitlines() if " -> " in line]
        if any(row[5] == str(pid) and row[6].endswith(f":{inode}") for row in rows):
            return
        select.select([], [], [], 0.02)
    raise AssertionError("nobody waits for whoever starts a daemon")


def with_suppress_kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def test_without_work_it_ends_by_itself(own_data_folder: Path) -> None:
    with served(own_data_folder, "--idle-seconds", "0.2") as daemon:
        assert daemon.child.wait(30) == 0
        assert not daemon.path.exists()


def test_a_daemon_is_idle_without_sessions_and_requests_for_the_whole_time() -> None:
    import asyncio

    async def main() -> list[str]:
        clock, said, busy = ManualClock(), list[str](), [True]
        idle = Idle(60, lambda: busy[0], lambda: said.append("ended"), clock)
        with idle.request():
            clock.advance(600)
            idle.look()
        clock.advance(600)
        idle.look()  # a session lives
        busy[0] = False
        clock.advance(59)
        idle.look()
        said.append("still there")
        with idle.request():
            pass
        clock.advance(59)
        idle.look()
        clock.advance(1)
        idle.look()
        idle.close()
        return said

    assert asyncio.run(main()) == ["still there", "ended"]


def test_only_its_user_can_reach_its_socket(own_data_folder: Path) -> None:
    with served(own_data_folder) as daemon:
        assert stat.S_IMODE(daemon.path.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(daemon.path.stat().st_mode) == 0o600


ASKED_AS = """
import os, socket, sys
os.setuid(int(sys.argv[2]))
sock = socket.socket(socket.AF_UNIX)
sock.connect(sys.argv[1])
sock.sendall(b"GET /health HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
print(sock.recv(64).split()[1].decode())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask as another user")
def test_another_user_is_refused_even_where_the_folder_lets_him_in(tmp_path: Path) -> None:
    data = Path(f"/tmp/trlm-peer-{os.getpid()}")  # a folder that another user can reach
    try:
        with served(data) as daemon:
            for path, mode in ((data, 0o755), (daemon.path.parent, 0o755), (daemon.path, 0o666)):
                path.chmod(mode)
            said = [
                subprocess.run(
                    ["/usr/bin/python3", "-c", ASKED_AS, str(daemon.path), uid],
                    capture_output=True, text=True, timeout=30, check=True,
                ).stdout.strip()
                for uid in ("65534", "0")
            ]  # fmt: skip
            assert said == ["403", "200"]
    finally:
        subprocess.run(["rm", "-r", str(data)], check=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_somebody_else_is_refused_and_a_lax_one_made_private(tmp_path: Path) -> None:
    foreign, lax, link = tmp_path / "foreign", tmp_path / "lax", tmp_path / "link"
    foreign.mkdir()
    os.chown(foreign, 65534, 65534)
    lax.mkdir(mode=0o755)
    link.symlink_to(lax)
    for path in (foreign, link):
        with pytest.raises(DaemonUnavailable, match="another user, or is no folder"):
            private_folder(path)
    private_folder(lax)
    assert stat.S_IMODE(lax.stat().st_mode) == 0o700


def test_a_relative_data_folder_lies_below_the_folder_of_who_names_it(tmp_path: Path) -> None:
    relative = {"cwd": tmp_path, "data": tmp_path / "data", "env": {"TRLM_DATA": "data"}}
    try:
        made = trlm("session", "new", "--name", "work", **relative)
        assert made.returncode == 0, made.stderr
        found = json.loads((tmp_path / "data" / "daemon.lock").read_text())
        assert Path(found["socket"]).parent == tmp_path / "data" / "run"
        assert trlm("exec", "--session", "work", "-c", "print(1)", data=tmp_path / "data").stdout == "1\n"
        assert not Path("/data/daemon.lock").exists()
    finally:
        assert trlm("serve", "--stop", **relative).stdout.startswith("Ended")


def test_a_client_with_another_runtime_folder_is_told_at_once_where_the_daemon_is(tmp_path: Path) -> None:
    data, other = tmp_path / "data", {"XDG_RUNTIME_DIR": str(tmp_path / "runtime")}
    with served(data) as daemon:
        daemon.session(name="work")
        for words in (["exec", "--session", "work", "-c", "1"], ["serve", "--stop"], ["serve"]):
            refused = trlm(*words, data=data, env=other, timeout=15)
            assert (refused.returncode, "E663" in refused.stderr) == (1, True), refused
            assert f"(process {daemon.child.pid}, version" in refused.stderr
            assert str(daemon.path) in refused.stderr
            assert "Set XDG_RUNTIME_DIR as it was" in refused.stderr


def test_a_socket_deeper_than_a_socket_may_lie_is_reached_all_the_same(tmp_path: Path) -> None:
    data = tmp_path / ("d" * 80) / ("e" * 80)
    assert len(str(data)) > 107
    assert trlm("serve", "--stop", data=data).stdout == "No daemon runs.\n"
    assert trlm("session", "new", data=data).returncode == 0, "where there is not even the folder yet"
    assert trlm("serve", "--stop", data=data).stdout.startswith("Ended")
    try:
        named = trlm("serve", "--detach", "--json", data=data)
        assert named.returncode == 0, named.stderr
        who = asked(data)
        assert int(who.stdout) == json.loads(named.stdout)["data"]["pid"]
    finally:
        assert trlm("serve", "--stop", data=data).stdout.startswith("Ended")


OLDER = """
import terraphim_rlm
terraphim_rlm.__version__ = "0.0.9"
from terraphim_rlm.faces.cli import main
main()
"""


def test_a_daemon_of_another_version_is_named_with_the_way_out(own_data_folder: Path) -> None:
    command = [sys.executable, "-c", OLDER, "serve", "--idle-seconds", "0"]
    with running(command, environment(own_data_folder), own_data_folder) as daemon:
        who = asked(own_data_folder)
        assert "DaemonMismatch: The daemon that runs is of version 0.0.9" in who.stderr
        assert trlm("serve", "--stop", data=own_data_folder).returncode == 0
        assert daemon.child.wait(30) == 0


def test_a_daemon_that_cannot_start_says_why_to_the_client_that_needs_it(own_data_folder: Path) -> None:
    own_data_folder.mkdir()
    (own_data_folder / "journal.db").write_bytes(b"not a journal" * 100)
    who = asked(own_data_folder)
    assert who.returncode == 1
    assert "JournalCorrupt" in who.stderr
    assert "damaged" in who.stderr


def test_the_usual_folder_has_the_plain_name_and_every_other_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pwd

    home = pwd.getpwuid(os.geteuid()).pw_dir
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.delenv("TRLM_DATA")
    monkeypatch.setenv("HOME", home)
    assert paths.socket_path() == tmp_path / "terraphim-rlm" / "trlm.sock"
    names = set()
    for folder in ("a", "b"):
        monkeypatch.setenv("TRLM_DATA", str(tmp_path / folder))
        names.add(paths.socket_path().name)
    (tmp_path / "a").mkdir()
    (tmp_path / "c").symlink_to(tmp_path / "a")
    monkeypatch.setenv("TRLM_DATA", str(tmp_path / "c"))
    names.add(paths.socket_path().name)
    assert len(names) == 2
    monkeypatch.setenv("XDG_RUNTIME_DIR", "relative")
    assert paths.runtime_dir() == tmp_path / "c" / "run"


LIMIT = """
import resource
import select
from terraphim_rlm.faces.server.daemon import raise_descriptor_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
raise_descriptor_limit()
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
print(soft == hard)
"""


def test_the_soft_limit_of_descriptors_is_raised_to_the_hard_one() -> None:
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] > 256
    done = subprocess.run([sys.executable, "-c", LIMIT], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_a_connection_that_says_nothing_does_not_keep_others_waiting(own_data_folder: Path) -> None:
    with served(own_data_folder) as daemon, socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(daemon.path))
        silent.sendall(b"POST /api/sessions HTTP/1.1\r\nContent-Length: 10\r\n")
        assert daemon.ask("GET", "/health").status == 200
        assert daemon.end() == 0, "and it keeps no daemon from ending"
