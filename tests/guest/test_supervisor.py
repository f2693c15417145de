"""What a supervisor does that no run of a sandbox meets often enough to rely on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from terraphim_rlm.guest import supervisor


def test_a_folder_that_another_interpreter_made_meanwhile_is_as_good_as_ones_own(
    tmp_path: Path, monkeypatch: Any
) -> None:
    """Children that start side by side share the folder above their own."""
    looks = []

    def access(path: str, mode: int) -> bool:
        looks.append(path)
        return path == str(tmp_path)

    monkeypatch.setattr(supervisor.posix, "access", access)
    (tmp_path / "nodes").mkdir()
    supervisor._make_folder(str(tmp_path / "nodes" / "2"))
    supervisor._make_folder(str(tmp_path / "nodes" / "2"))

    assert (tmp_path / "nodes" / "2").is_dir()
    assert str(tmp_path / "nodes") in looks
