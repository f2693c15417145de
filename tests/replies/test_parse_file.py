"""`service.parse`: the reply in a file, as JSON, or an error that names the fix."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from terraphim_rlm.core.errors import InputUnreadable, PathNotFound
from terraphim_rlm.service import parse as service


def test_a_file_gives_commands_with_their_kind_and_span(tmp_path: Path) -> None:
    path = tmp_path / "reply.txt"
    path.write_bytes("```python\r\nprint(“é”)\r\n```\r\nFINAL(1)".encode())
    shown = json.loads(json.dumps(service.parse_file(str(path))))
    assert shown["schema_version"] == 1
    assert shown["commands"] == [
        {
            "kind": "code",
            "language": "python",
            "code": 'print("é")',
            "start": 0,
            "end": 26,
            "repairs": ["straight_quotes"],
        }
    ]
    assert shown["dropped"] == [{"start": 28, "end": 36, "reason": "final_held", "detail": "final"}]
    assert "after you have seen the output" in shown["notice"]
    assert shown["transcript"].count("\r\n") == 3


def test_a_dash_reads_the_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"RUN(ls)")))
    assert service.parse_file("-")["commands"][0]["command"] == "ls"


def test_an_empty_file_is_an_empty_reply(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    shown = service.parse_file(str(tmp_path / "empty"))
    assert (shown["commands"], shown["notice"][:16]) == ([], "No command found")


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PathNotFound, match="nowhere"):
        service.parse_file(str(tmp_path / "nowhere"))


@pytest.mark.parametrize(("content", "why"), [(b"a\0b", "binary"), (b"caf\xe9", "byte 3")])
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "reply").write_bytes(content)
    with pytest.raises(InputUnreadable, match=why):
        service.parse_file(str(tmp_path / "reply"))


def test_a_folder_an_impossible_name_and_an_endless_file_are_refused(tmp_path: Path) -> None:
    for path, why in [(str(tmp_path), "directory"), ("a\0b", "null"), ("/dev/zero", "longer than")]:
        with pytest.raises(InputUnreadable, match=why):
            service.parse_file(path)
