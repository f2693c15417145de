"""Layers on disk: built once, whole or not at all, from wheels only, and told apart by what they are for."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from packages_kit import wheel

from terraphim_rlm.core import pip
from terraphim_rlm.core.errors import (
    Cancelled,
    DiskFull,
    InvalidArgument,
    NotSupported,
    PackageNotFound,
    PackagesUnavailable,
    RlmError,
)
from terraphim_rlm.sandbox.packages import build, layers
from terraphim_rlm.sandbox.packages.layers import Layer, Wish, obtain
from terraphim_rlm.sandbox.packages.requirements import normalised

HERE = build.Python(sys.executable, sys.version_info[:3], "here")


def wish(*packages: str) -> Wish:
    return Wish(normalised(packages), HERE)


def left(home: Path) -> list[str]:
    """What lies there beside locks."""
    return [each.name for each in home.iterdir() if each.suffix not in (".lock", ".used")]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The first argument of each run of pip."""
    seen: list[str] = []
    real = pip.run

    def run(arguments: Sequence[str], *others: object, **options: object) -> pip.PipEnd:
        seen.append(arguments[0])
        return real(arguments, *others, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(pip, "run", run)
    return seen


def test_a_layer_holds_the_packages_and_what_they_need_and_says_so(index: Path, home: Path) -> None:
    wheel(index, "one", needs=["two>=2"])
    wheel(index, "two", "2.5")
    steps: list[str] = []
    layer = obtain(wish("one"), home, steps.append)
    assert layer.versions == {"one": "1.0", "two": "2.5"}
    assert steps == ["fetching one 1.0", "fetching two 2.5", "installing two, one", "compiling"]
    layer.close()


def test_it_is_compiled_and_names_no_path_of_the_host(index: Path, home: Path) -> None:
    wheel(index, "one")
    layer = obtain(wish("one"), home)
    compiled = list(Path(layer.path).rglob("*.pyc"))
    assert compiled
    assert all(str(home).encode() not in each.read_bytes() for each in compiled)
    assert all(b"/trlm/packages/one" in each.read_bytes() for each in compiled)
    layer.close()


def test_the_second_time_needs_neither_pip_nor_an_index(
    index: Path, home: Path, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(index, "one")
    first = obtain(wish("one"), home)
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    second = obtain(wish("One "), home)
    assert second.path == first.path
    assert runs == ["install"]
    first.close()
    second.close()


def test_another_python_or_another_set_is_another_layer(index: Path) -> None:
    older = replace(HERE, version=(3, 1, 0))
    keys = [
        wish("a"),
        wish("a", "b"),
        wish("a==1"),
        Wish(("a",), older),
        Wish(("a",), replace(HERE, tag="t")),
    ]
    assert len({each.key for each in keys}) == len(keys)
    assert wish("b", "A").key == wish("a", "b").key
    assert Wish(("a",), replace(HERE, version=(*HERE.version[:2], 99))).key == wish("a").key


def test_everybody_can_read_it_whatever_the_umask(index: Path, home: Path) -> None:
    wheel(index, "one", files={"one/data/x.txt": "x"})
    before = os.umask(0o077)
    try:
        layer = obtain(wish("one"), home)
    finally:
        os.umask(before)
    for path in (Path(layer.path).parent, *Path(layer.path).rglob("*")):
        assert path.stat().st_mode & 0o055 == (0o055 if path.is_dir() else 0o044)
        assert not path.stat().st_mode & 0o022
    layer.close()


def test_of_many_threads_and_processes_at_once_one_builds(index: Path, home: Path, runs: list[str]) -> None:
    wheel(index, "one")
    program = (
        "import sys; from pathlib import Path; from terraphim_rlm.sandbox.packages import build, layers\n"
        "python = build.Python(sys.executable, sys.version_info[:3], 'here')\n"
        "layer = layers.obtain(layers.Wish(('one',), python), Path(sys.argv[1]), print)"
    )
    others = [
        subprocess.Popen([sys.executable, "-c", program, str(home)], stdout=subprocess.PIPE) for _ in range(2)
    ]
    with ThreadPoolExecutor(3) as pool:
        found: list[Layer] = list(pool.map(lambda _: obtain(wish("one"), home), range(3)))
    said = b"".join(other.communicate(timeout=60)[0] for other in others)
    assert [other.returncode for other in others] == [0, 0]
    assert len({layer.path for layer in found}) == 1
    assert len(runs) + said.count(b"installing") == 1
    assert left(home) == [wish("one").key]
    for layer in found:
        layer.close()


BUILDER = """
import sys
from pathlib import Path
from terraphim_rlm.core import pip
from terraphim_rlm.sandbox.packages import build, layers
build._COMPILE = "print('compiling'); import time; time.sleep(600)"
python = build.Python(sys.executable, sys.version_info[:3], "here")
layers.obtain(layers.Wish(("one",), python), Path(sys.argv[1]), lambda step: print(step, flush=True))
"""


def test_a_build_that_is_killed_leaves_no_layer_and_the_next_one_sweeps_its_draft(
    index: Path, home: Path
) -> None:
    wheel(index, "one")
    wheel(index, "two")
    with subprocess.Popen(
        [sys.executable, "-c", BUILDER, str(home)], stdout=subprocess.PIPE, text=True
    ) as dying:
        assert dying.stdout is not None
        assert "compiling\n" in iter(dying.stdout.readline, "")
        dying.kill()
    assert [name.split("-")[0] for name in left(home)] == ["draft"]
    obtain(wish("two"), home).close()
    assert left(home) == [wish("two").key]
    obtain(wish("one"), home).close()
    assert sorted(left(home)) == sorted([wish("one").key, wish("two").key])


def test_a_build_that_goes_on_is_not_swept(index: Path, home: Path) -> None:
    wheel(index, "two")
    home.mkdir(parents=True)
    draft = home / f"draft-{wish('one').key}-x"
    draft.mkdir()
    with (home / f"{wish('one').key}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        obtain(wish("two"), home).close()
        assert draft.exists()


def test_a_stop_ends_the_build_and_a_wait_for_another_one(index: Path, home: Path) -> None:
    wheel(index, "one")
    stop = threading.Event()
    with pytest.raises(Cancelled):
        obtain(wish("one"), home, lambda step: stop.set(), stop)
    assert left(home) == []
    stop.clear()
    with (home / f"{wish('one').key}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Cancelled):
            obtain(wish("one"), home, lambda step: stop.set(), stop)


def test_the_longest_unused_layers_go_unless_they_are_held(
    index: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "KEPT", 1)
    for name in ("one", "two", "three"):
        wheel(index, name)
    held = obtain(wish("one"), home)
    obtain(wish("two"), home).close()
    for age, name in ((300, "one"), (200, "two")):
        os.utime(home / f"{wish(name).key}.used", (0, os.stat(home).st_mtime - age))
    obtain(wish("three"), home).close()
    assert sorted(left(home)) == sorted([wish("one").key, wish("three").key])
    assert Path(held.path).is_dir()
    held.close()


MARK = "evil-ran"


def _source(folder: Path, mark: Path) -> Path:
    """A source archive whose set-up would leave a mark."""
    code = folder / "setup.py"
    code.write_text(
        f"open({str(mark)!r}, 'w')\nfrom setuptools import setup\nsetup(name='evil', version='1.0')\n"
    )
    path = folder / "evil-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(code, "evil-1.0/setup.py")
    code.unlink()
    return path


@pytest.mark.parametrize("forced", [False, True])
def test_no_source_is_built_even_where_pips_settings_ask_for_it(
    index: Path, home: Path, tmp_path: Path, forced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _source(index, tmp_path / MARK)
    if forced:
        monkeypatch.setenv("PIP_NO_BINARY", ":all:")
    with pytest.raises(PackageNotFound, match="has no wheel for Python"):
        obtain(wish("evil"), home)
    assert not (tmp_path / MARK).exists()
    assert left(home) == []


def test_a_wheel_cannot_bring_in_a_source_by_its_address(index: Path, home: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    source = _source(elsewhere, tmp_path / MARK)
    wheel(index, "one", needs=[f"evil @ {source.as_uri()}"])
    control = [sys.executable, "-m", "pip", "install", "--only-binary", ":all:", "--no-build-isolation"]
    subprocess.run([*control, "--target", str(tmp_path / "t"), "one"], check=False, capture_output=True)
    assert (tmp_path / MARK).exists(), "the attack does not work by itself"
    (tmp_path / MARK).unlink()
    with pytest.raises(PackageNotFound, match="only as source"):
        obtain(wish("one"), home)
    assert not (tmp_path / MARK).exists()


def test_what_the_index_lacks_is_told_apart(index: Path, home: Path) -> None:
    wheel(index, "one", "1.0")
    wheel(index, "one", "1.1")
    wheel(index, "other", tag="cp27-cp27mu-win32")
    wheel(index, "left", needs=["one<1.1"])
    wheel(index, "right", needs=["one>1.0"])
    cases: list[tuple[tuple[str, ...], type[RlmError], str]] = [
        (("none",), PackageNotFound, "no package none"),
        (("one==9",), PackageNotFound, r"no wheel of one==9 for Python .*: 1\.0, 1\.1"),
        (("other",), PackageNotFound, "other has no wheel for Python"),
        (("one==abc",), InvalidArgument, "one==abc"),
        (
            ("left", "right"),
            InvalidArgument,
            r"left 1\.0 depends on one<1\.1; right 1\.0 depends on one>1\.0",
        ),
    ]
    for packages, error, words in cases:
        with pytest.raises(error, match=words) as caught:
            obtain(wish(*packages), home)
        assert caught.value.fix
    assert left(home) == []


def test_an_index_that_does_not_answer_is_said_with_what_to_look_at(
    index: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{port}/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(PackagesUnavailable, match="cannot be reached") as caught:
        obtain(wish("one"), home)
    assert "pip config list" in caught.value.fix


def test_a_full_disk_and_a_folder_that_cannot_be_written_are_said(
    index: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(index, "one")
    with pytest.raises(PackagesUnavailable, match="/proc/none"):
        obtain(wish("one"), Path("/proc/none"))
    monkeypatch.setattr(build, "_COMPILE", "raise OSError(28, 'No space left on device')")
    with pytest.raises(DiskFull):
        obtain(wish("one"), home)
    assert left(home) == []


def test_without_pip_or_with_one_too_new_the_fix_names_it(
    index: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotSupported, match=r"cannot fetch packages for Python 3\.1\.0") as caught:
        obtain(Wish(("one",), replace(HERE, version=(3, 1, 0))), home)
    assert "Install a Python >= 3." in caught.value.fix
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(NotSupported, match="pip is not installed") as caught:
        obtain(wish("one"), home)
    assert "terraphim-rlm[local]" in caught.value.fix


def test_the_manifest_says_what_was_asked_for_and_what_came(index: Path, home: Path) -> None:
    wheel(index, "one")
    layer = obtain(wish("one<2"), home)
    manifest = json.loads((Path(layer.path).parent / "manifest.json").read_text())
    assert manifest == {"packages": ["one<2"], "python": str(HERE), "tag": "here", "versions": {"one": "1.0"}}
    layer.close()
