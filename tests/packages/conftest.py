"""An index of small wheels, and a data folder that the sandboxes' own uid can read."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packages_kit import only_index


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "index"
    folder.mkdir()
    only_index(folder, monkeypatch)
    return folder


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, own_data_folder: Path) -> Iterator[Path]:
    """Where layers lie. Not below pytest's folders: root's sandboxes could not read it there."""
    data = Path(tempfile.mkdtemp(prefix="trlm-packages-"))
    data.chmod(0o755)
    monkeypatch.setenv("TRLM_DATA", str(data))
    yield data / "cache" / "packages"
    shutil.rmtree(data)
