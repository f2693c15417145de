"""pip as a child: which settings it gets, what it may not do, how its ends are told apart. pip is the real one."""

from __future__ import annotations

import importlib.util
import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from terraphim_rlm.core import pip

NOTHING = ["--version"]


def test_pip_gets_the_users_settings_and_no_secret_of_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("PIP_FIND_LINKS", "/wheels")
    monkeypatch.setenv("SSL_CERT_FILE", "/ca.pem")
    monkeypatch.setenv("PIP_USER", "1")
    end = pip.run(NOTHING, tmp_path, then="print(dict(os.environ))")
    assert end.fault is None
    assert "'PIP_FIND_LINKS': '/wheels'" in end.said
    assert "'SSL_CERT_FILE': '/ca.pem'" in end.said
    assert "'PIP_USER': '0'" in end.said
    assert "sk-secret" not in end.said


@pytest.mark.parametrize(
    "start",
    [
        "import subprocess; subprocess.run(['true'])",
        "os.system('true')",
        "os.fork()",
        "os.posix_spawn('/bin/true', ['true'], {})",
        "os.execv('/bin/true', ['true'])",
        "import pty; pty.fork()",
    ],
)
def test_nothing_in_it_can_start_a_process(start: str, tmp_path: Path) -> None:
    end = pip.run(NOTHING, tmp_path, then=start)
    assert end.fault == "builds"
    assert "PermissionError" in end.said


def test_a_login_in_an_index_address_is_not_repeated(tmp_path: Path) -> None:
    end = pip.run(NOTHING, tmp_path, then="sys.exit('ERROR: no https://me:secret@index.example/simple')")
    assert end.reason == "ERROR: no https://***@index.example/simple"


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("OSError: [Errno 28] No space left on device", "disk_full"),
        ("WARNING: Retrying (Retry(total=4, ..\nERROR: .. x (from versions: none)\nERROR: No matching distribution", "unreachable"),
        ("WARNING: Retrying (Retry(total=4, ..\nERROR: .. x (from versions: 1.0)\nERROR: No matching distribution", "not_found"),
        ("ERROR: .. x (from versions: none)\nERROR: No matching distribution found for x", "not_found"),
        ("ERROR: ResolutionImpossible: for help", "conflict"),
        ("something else", "other"),
    ],
)  # fmt: skip
def test_the_ends_are_told_apart(said: str, fault: pip.Fault, tmp_path: Path) -> None:
    assert pip.run(NOTHING, tmp_path, then=f"sys.exit({said!r})").fault == fault


def test_without_pip_that_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert pip.run(NOTHING, tmp_path).fault == "no_pip"


def test_lines_are_shown_whole_while_it_runs_and_a_stop_ends_it(tmp_path: Path) -> None:
    stop = threading.Event()
    seen: list[str] = []

    def look(log: str) -> None:
        seen.append(log)
        if "half" in log:
            stop.set()

    slow = "import time\nprint('half', end='', flush=True)\ntime.sleep(0.5)\nprint(' whole', flush=True)\ntime.sleep(600)"
    assert pip.run(NOTHING, tmp_path, then=slow, look=look, stop=stop).fault == "stopped"
    assert "half whole\n" in seen


OWNER = """
import sys
from pathlib import Path
from terraphim_rlm.core import pip
up = "print('up', file=open(f'/proc/{os.getppid()}/fd/1', 'w'))"
pip.run(["--version"], Path(sys.argv[1]), then=up + "; import time; time.sleep(600)")
"""


def test_it_ends_when_whoever_started_it_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        try:
            assert owner.stdout.readline() == "up\n"
            (child,) = Path(f"/proc/{owner.pid}/task/{owner.pid}/children").read_text().split()
            fd = os.pidfd_open(int(child))
        finally:
            owner.kill()
    ended = select.select([fd], [], [], 30)[0]
    if not ended:
        signal.pidfd_send_signal(fd, signal.SIGKILL)
    os.close(fd)
    assert ended, "pip outlived whoever started it"
