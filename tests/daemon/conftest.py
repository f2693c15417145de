"""The command line in this process, over a daemon that its tests share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from daemon_kit import Cli, Daemon, Said, served


@pytest.fixture(scope="module")
def shared_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with served(tmp_path_factory.mktemp("cli") / "data") as found:
        yield found


@pytest.fixture
def cli(
    shared_daemon: Daemon,
    own_data_folder: Any,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> Iterator[Cli]:
    """Runs a command line; every session that it leaves is ended."""
    from terraphim_rlm.faces.cli.app import run

    monkeypatch.setenv("TRLM_DATA", str(shared_daemon.data))

    def said(*words: str) -> Said:
        code = run(words)
        out, err = capfdbinary.readouterr()
        return Said(code, out.decode(), err.decode())

    yield said
    for each in shared_daemon.ask("GET", "/api/sessions?status=live").json["sessions"]:
        assert shared_daemon.ask("DELETE", f"/api/sessions/{each['id']}").status == 200
