"""`trlm files`, and the daemon's routes for them: a session's files, put in, listed, got out."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

import pytest
from daemon_kit import TRLM, Answer, Cli, Daemon, Unix, environment, served, trlm

from terraphim_rlm.faces.cli import session_files

pytestmark = pytest.mark.sandbox
CONTENT = "/api/sessions/{}/files/content?path={}"


@pytest.fixture
def session(cli: Cli) -> str:
    return str(cli("session", "new", "--name", "work").out.strip())


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def run(cli: Cli, code: str) -> str:
    said = cli("exec", "--session", "work", "-c", code)
    assert said.code == 0, said.err
    return said.out


@pytest.mark.usefixtures("session")
def test_a_file_goes_in_is_seen_by_code_and_comes_out_the_same(cli: Cli, here: Path) -> None:
    data = bytes(range(256)) * 20_000
    (here / "a b.bin").write_bytes(data)
    assert cli("files", "put", "a b.bin").out == "a b.bin  5.1 MB\n"
    assert run(cli, "d = open('/work/a b.bin', 'rb').read(); open('c', 'wb').write(d[::-1])") == "5120000\n"
    assert cli("files", "get", "c", "--json").data == {"path": "c", "size": 5_120_000}
    assert (here / "c").read_bytes() == data[::-1]
    assert sorted(os.listdir(here)) == ["a b.bin", "c"]


@pytest.mark.usefixtures("session")
def test_an_empty_file_is_a_file(cli: Cli, here: Path) -> None:
    (here / "nothing").touch()
    assert cli("files", "put", "nothing", "deep/er/").out == "deep/er/nothing  0 B\n"
    assert cli("files", "get", "/work/deep/er/nothing", "got").code == 0
    assert (here / "got").read_bytes() == b""


@pytest.mark.usefixtures("session")
def test_a_folder_is_listed_with_kinds_sizes_and_harmless_names(cli: Cli) -> None:
    run(
        cli,
        "import os; os.mkdir('d'); open('d/f', 'w').write('123'); os.symlink('d', 'l'); open('\x1b[2J', 'w')",
    )
    found = {
        each["path"]: (each["kind"], each["size"]) for each in cli("files", "ls", "--json").data["files"]
    }
    assert found == {"d": ("folder", 0), "l": ("link", 0), "\x1b[2J": ("file", 0)}
    assert "d/f" in {each["path"] for each in cli("files", "ls", "--deep", "--json").data["files"]}
    text = cli("files", "ls", "d", "--session", "work").out.splitlines()
    assert text[1].split()[1:3] == ["3", "B"]
    assert text[1].startswith("-rw")
    assert "\x1b" not in cli("files", "ls").out
    assert cli("files", "ls", "/work/d", "--json").data["files"][0]["path"] == "/work/d/f"


def test_standard_input_and_output_take_a_files_place(shared_daemon: Daemon, session: str) -> None:
    data = os.urandom(3_000_000)
    done = [
        subprocess.run(
            [str(TRLM), "files", *words], input=data, capture_output=True, timeout=60, check=True,
            env=environment(shared_daemon.data),
        )
        for words in (["put", "-", "x", "--session", session], ["get", "x", "-", "--session", session])
    ]  # fmt: skip
    assert done[1].stdout == data
    assert done[1].stderr == b""


def test_whoever_stops_reading_ends_the_transfer(shared_daemon: Daemon, cli: Cli, session: str) -> None:
    run(cli, "open('x', 'wb').truncate(200_000_000)")
    command = [str(TRLM), "files", "get", "x", "-", "--session", session]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(shared_daemon.data)
    ) as child:
        assert child.stdout is not None
        assert len(child.stdout.read(1000)) == 1000
        child.stdout.close()
        assert child.wait(30) == 141
    assert cli("snapshot", "create", "after").code == 0, "a snapshot waits for transfers"


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["put", "nowhere"], "E101", "spelling"),
        (["put", "."], "E106", "archive"),
        (["put", "-"], "E002", "trlm files put - PATH"),
        (["put", "f", "/usr/x"], "E107", ""),
        (["put", "f", "/work"], "E106", ""),
        (["get", "nowhere"], "E101", ""),
        (["get", "/work"], "E106", ""),
        (["get", "/"], "E002", "trlm files ls"),
        (["get", "a", "no/such/folder/f"], "E101", ""),
        (["get", "a", "-", "--json"], "E002", "Name a file."),
        (["ls", "nowhere"], "E101", ""),
        (["ls", "a\udcff"], "E101", ""),
        (["ls", "--session", "wark"], "E651", "nearest is work"),
        (["lss"], "E001", "trlm files ls"),
    ],
)
def test_what_cannot_be_is_refused_and_makes_no_file(
    cli: Cli, here: Path, words: list[str], code: str, said: str
) -> None:
    (here / "f").write_bytes(b"x" * 3_000_000)
    run(cli, "open('/work/a', 'w').write('a')")
    refused = cli("files", *words)
    text = refused.out + refused.err
    assert refused.code in (2, 4)
    assert code in text
    assert said in text
    assert "Traceback" not in text
    assert os.listdir(here) == ["f"]


@pytest.mark.usefixtures("session")
def test_a_file_too_large_for_the_session_leaves_what_was_there(cli: Cli, here: Path) -> None:
    cli("session", "new", "--name", "small", "--disk", "1")
    assert cli("exec", "--session", "small", "-c", "open('f', 'w').write('old')").code == 0
    (here / "f").write_bytes(b"x" * 5_000_000)
    said = cli("files", "put", "f", "--session", "small")
    assert (said.code, "[E803]" in said.err) == (1, True)
    assert cli("exec", "--session", "small", "-c", "print(open('f').read())").out == "old\n"


def test_a_device_here_is_written_to_and_a_link_followed(cli: Cli, here: Path, session: str) -> None:
    (here / "f").write_text("new")
    cli("files", "put", "f", "--session", session)
    (here / "g").write_text("old")
    (here / "l").symlink_to("g")
    os.mkfifo(here / "pipe")
    reader = os.open(here / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert cli("files", "get", "f", "pipe").code == 0
        assert os.read(reader, 100) == b"new"
    finally:
        os.close(reader)
    assert cli("files", "get", "f", "l").code == 0
    assert (here / "l").is_symlink()
    assert (here / "g").read_text() == "new"


def test_a_client_that_leaves_midway_changes_nothing(shared_daemon: Daemon, cli: Cli, session: str) -> None:
    run(cli, "open('f', 'w').write('old')")
    with contextlib.closing(Unix(shared_daemon.path)) as connection:
        connection.putrequest("PUT", CONTENT.format(session, "f"))
        connection.putheader("Content-Length", "1000000")
        connection.endheaders()
        connection.send(b"x" * 100_000)
    assert cli("snapshot", "create", "after").code == 0, "a snapshot waits for transfers"
    assert run(cli, "import os; print(open('f').read(), os.listdir())") == "old ['f']\n"


def test_a_file_whose_session_ends_midway_is_not_kept_and_the_log_has_no_traceback(
    own_data_folder: Path, tmp_path: Path
) -> None:
    with served(own_data_folder) as daemon:
        session = daemon.session(name="work")
        daemon.run(session, "open('x', 'wb').truncate(400_000_000)")
        os.mkfifo(tmp_path / "pipe")
        command = [str(TRLM), "files", "get", "x", str(tmp_path / "pipe"), "--session", session]
        with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment(own_data_folder)) as child:
            with (tmp_path / "pipe").open("rb") as pipe:
                assert len(pipe.read(1000)) == 1000
                assert daemon.ask("DELETE", f"/api/sessions/{session}").status == 200
                pipe.read()
            assert child.stderr is not None
            assert "It was cut short: the session ended" in child.stderr.read().decode()
            assert child.wait(30) != 0
        assert daemon.end() == 0
        assert daemon.child.stderr is not None
        assert "Traceback" not in daemon.child.stderr.read().decode()


PATHS = ["", "%00", "x" * 4097, "a/../../etc/passwd%00", "/" + "n" * 300, "%ff"]


@pytest.mark.parametrize("path", PATHS, ids=range(len(PATHS)))
def test_a_path_that_is_none_is_refused_in_every_way_to_use_it(
    shared_daemon: Daemon, session: str, path: str
) -> None:
    for method in ("GET", "PUT"):
        body = b"x" if method == "PUT" else None
        if (method, path) == ("PUT", "%ff"):
            continue
        answer = shared_daemon.ask(method, CONTENT.format(session, path), body)
        assert 400 <= answer.status < 500, answer.body
        assert answer.headers["content-type"] == "application/problem+json"
    for method in ("GET", "DELETE"):
        answer = shared_daemon.ask(method, f"/api/sessions/{session}/files?path={path}")
        assert 400 <= answer.status < 500, answer.body


def asked(daemon: Daemon, session: str, path: str, method: str = "GET") -> Answer:
    return daemon.ask(method, f"/api/sessions/{session}/files?path={quote(path)}")


def test_files_are_removed_over_http_and_only_those_of_a_session_that_lives(
    shared_daemon: Daemon, cli: Cli, session: str
) -> None:
    run(cli, "import os; os.mkdir('d'); open('d/f', 'w')")
    assert asked(shared_daemon, session, "d", "DELETE").json == {"removed": "d"}
    assert asked(shared_daemon, session, "d", "DELETE").status == 404
    assert asked(shared_daemon, session, ".").json["files"] == []
    cli("session", "destroy", session)
    assert asked(shared_daemon, session, ".").json["code"] == "E651"


def test_files_of_no_session_start_no_daemon(own_data_folder: Path) -> None:
    assert trlm("files", "ls", data=own_data_folder).returncode == 4
    assert not own_data_folder.exists()


def test_a_reader_that_is_slow_costs_no_more_than_a_few_blocks(
    shared_daemon: Daemon, session: str, cli: Cli
) -> None:
    run(cli, "open('x', 'wb').truncate(400_000_000)")
    before = peak(shared_daemon)
    with contextlib.closing(Unix(shared_daemon.path)) as connection:
        connection.request("GET", CONTENT.format(session, "x"))
        response = connection.getresponse()
        total = 0
        while block := response.read(1 << 20):
            total += len(block)
    assert total == 400_000_000
    assert peak(shared_daemon) - before < 64_000, "kB"


def peak(daemon: Daemon) -> int:
    """The most memory that the daemon ever had, in kB."""
    status = Path(f"/proc/{daemon.child.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


@pytest.mark.usefixtures("session")
def test_a_pipe_is_read_to_its_end_before_the_daemon_is_asked(
    cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one that says nothing for half a minute is refused, and until then no snapshot can be taken."""
    data = os.urandom(300_000)
    os.mkfifo(here / "pipe")
    written = Thread(target=(here / "pipe").write_bytes, args=[data])
    written.start()
    asked = session_files.asked

    def last(*given: Any) -> Any:
        written.join(10)
        assert not written.is_alive(), "the pipe has not been read"
        return asked(*given)

    monkeypatch.setattr(session_files, "asked", last)
    assert cli("files", "put", "pipe", "x").code == 0
    assert cli("files", "get", "x", "y").code == 0
    assert (here / "y").read_bytes() == data


@pytest.mark.usefixtures("session")
def test_of_an_endless_pipe_no_more_is_taken_than_the_session_can_refuse(
    shared_daemon: Daemon, cli: Cli
) -> None:
    cli("session", "new", "--name", "small", "--disk", "1")
    command = f"yes | {TRLM} files put - x --session small"
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        timeout=60,
        check=False,
        env=environment(shared_daemon.data),
    )
    assert (done.returncode, b"[E803]" in done.stderr) == (1, True)
