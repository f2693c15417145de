"""`trlm doctor`: it does what it reports on, keeps keys to itself, and ends with the code of what failed."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from pathlib import Path

import pytest

from terraphim_rlm.core.errors import BackendUnavailable
from terraphim_rlm.core.values import Check
from terraphim_rlm.faces.cli.app import run
from terraphim_rlm.service import doctor

Captured = pytest.CaptureFixture[str]


@pytest.mark.sandbox
def test_doctor_really_runs_code_and_every_check_has_its_four_words(capsys: Captured) -> None:
    assert run(["doctor", "--json"]) == 0
    response = json.loads(capsys.readouterr().out)
    checks = {check["id"]: check for check in response["data"]["checks"]}
    assert response["success"]
    assert "ran print(1)" in checks["execution"]["evidence"]
    assert {
        "python",
        "clock",
        "store",
        "journal",
        "bwrap",
        "seccomp",
        "zygote",
        "control-groups",
        "model",
    } <= checks.keys()
    for check in checks.values():
        assert check.keys() == {"id", "status", "evidence", "fix"}
        assert check["evidence"]
        assert bool(check["fix"]) == (check["status"] != "ok"), check


def _only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(doctor, "_LOOKS", tuple(look for look in doctor._LOOKS if look[0] in names))


def test_keys_are_named_by_their_source_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    _only(monkeypatch, "keys")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    monkeypatch.setenv("OPENROUTER_API_KEY", "not a key")
    assert run(["doctor"]) == 0
    said = capsys.readouterr()
    assert "from OPENAI_API_KEY in the environment" in said.out
    assert "warn  key.openrouter" in said.out
    assert "very-secret" not in said.out + said.err
    assert "not a key" not in said.out + said.err


def test_a_data_folder_that_cannot_be_written_fails_with_its_fix(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured, tmp_path: Path
) -> None:
    _only(monkeypatch, "store")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TRLM_DATA", str(tmp_path / "file" / "data"))
    assert run(["doctor"]) == 1
    assert "set TRLM_DATA" in capsys.readouterr().out


def test_a_damaged_journal_fails_and_is_left_as_it_was(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured, own_data_folder: Path
) -> None:
    _only(monkeypatch, "journal")
    own_data_folder.mkdir()
    journal = own_data_folder / "journal.db"
    with sqlite3.connect(journal) as db:
        db.execute("CREATE TABLE other (a)")
    db.close()
    before = journal.read_bytes()
    assert run(["doctor", "--json"]) == 1
    response = json.loads(capsys.readouterr().out)
    assert [error["code"] for error in response["errors"]] == ["E801"]
    assert journal.read_bytes() == before


def test_no_model_at_all_is_a_warning_with_the_way_to_one(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    _only(monkeypatch, "model", "weights")
    assert run(["doctor"]) == 0
    assert "trlm models get smollm2" in capsys.readouterr().out


def test_a_model_whose_server_does_not_answer_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured, unused_port: int
) -> None:
    _only(monkeypatch, "model")
    monkeypatch.setenv("TRLM_MODEL", "ollama/llama3.2:3b")
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{unused_port}")
    assert run(["doctor"]) == 6
    assert f"nothing answers at http://127.0.0.1:{unused_port}" in capsys.readouterr().out


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def test_a_look_that_fails_is_a_finding_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    async def refuses() -> list[Check]:
        raise BackendUnavailable("No sandbox here.", fix="Mend it.")

    async def works() -> list[Check]:
        return [Check("after", "ok", "seen")]

    monkeypatch.setattr(doctor, "_LOOKS", (("first", refuses), ("second", works)))
    assert run(["doctor"]) == 11
    assert capsys.readouterr().out.splitlines() == [
        "fail  first                No sandbox here.",
        "      fix: Mend it.",
        "ok    after                seen",
    ]


def test_a_full_disk_is_not_mended_by_permissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **options: object) -> object:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(doctor.tempfile, "NamedTemporaryFile", full)
    check = doctor._folder(tmp_path)
    assert (check.status, check.fix) == ("fail", "Free disk space, or set TRLM_DATA to another disk.")
