"""Which Python, which `bwrap`, which uid: chosen from what the sandbox's uid can really read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from backend_kit import readable_folder

from terraphim_rlm.core.errors import BackendUnavailable
from terraphim_rlm.sandbox.backends.bubblewrap import bundle, host
from terraphim_rlm.sandbox.backends.bubblewrap.host import SANDBOX_UID, GuestPython

WHOLE = "         0          0 4294967295\n"


@pytest.mark.parametrize(
    ("euid", "uid_map", "expected"),
    [
        (1000, WHOLE, None),
        (0, WHOLE, SANDBOX_UID),
        (0, "         0       1000          1\n", None),  # root of a namespace of its own is an ordinary user
        (0, "         0       1000          1\n         1     100000      65536\n", SANDBOX_UID),
    ],
)
def test_only_the_real_root_becomes_somebody_else(euid: int, uid_map: str, expected: int | None) -> None:
    assert host.drop_uid(euid, uid_map) == expected


def test_root_without_anybody_to_become_is_refused() -> None:
    with pytest.raises(BackendUnavailable, match=str(SANDBOX_UID)):
        host.drop_uid(0, "         0          0          1\n")


def test_a_file_is_readable_only_when_its_whole_path_is() -> None:
    with readable_folder() as folder:
        closed = folder / "closed"
        closed.mkdir()
        file = closed / "file"
        file.write_text("x")
        file.chmod(0o644)
        closed.chmod(0o755)
        assert host.readable_by(str(file), SANDBOX_UID)
        assert host.readable_by(str(closed), SANDBOX_UID)
        closed.chmod(0o700)
        assert not host.readable_by(str(file), SANDBOX_UID)
        assert not host.readable_by(str(folder / "missing"), SANDBOX_UID)
        closed.chmod(0o755)
        file.chmod(0o640)
        assert not host.readable_by(str(file), SANDBOX_UID)


def python(path: str, prefix: str, version: tuple[int, int, int] = (3, 11, 2)) -> GuestPython:
    return GuestPython(path, prefix, version, b"\xa7\r\r\n")


def chosen(monkeypatch: pytest.MonkeyPatch, *candidates: GuestPython, usable: bool = True) -> GuestPython:
    monkeypatch.setattr(host, "_pythons", lambda: iter(candidates))
    if usable:
        monkeypatch.setattr(host, "readable_by", lambda path, uid: True)
        monkeypatch.setattr(host.os, "access", lambda path, mode: True)
    host.guest_python.cache_clear()
    try:
        return host.guest_python(None)
    finally:
        host.guest_python.cache_clear()


def test_a_python_outside_the_home_is_taken_before_one_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/alice")
    at_home = python("/home/alice/.pyenv/bin/python3", "/home/alice/.pyenv")
    system = python("/usr/bin/python3", "/usr")
    assert chosen(monkeypatch, at_home, system) == system
    assert chosen(monkeypatch, at_home) == at_home


def test_a_python_that_is_too_old_or_holds_the_home_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/opt/people/alice")
    old = python("/usr/bin/python3", "/usr", (3, 8, 20))
    wide = python("/opt/bin/python3", "/opt")
    good = python("/usr/local/bin/python3", "/usr/local", (3, 9, 0))
    assert chosen(monkeypatch, old, wide, good) == good


def test_without_a_python_the_error_lists_what_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendUnavailable, match="/usr/bin/python2") as refused:
        chosen(monkeypatch, python("/usr/bin/python2", "/usr", (2, 7, 18)))
    assert "apt install python3" in refused.value.fix


def test_the_guest_compiles_the_same_here_and_by_its_own_python() -> None:
    sources = {"start.py": b"import sys\nprint('started', sys.argv[1])\n", "part/__init__.py": b"x = 1\n"}
    here = host.GuestPython(sys.executable, sys.prefix, sys.version_info[:3], _own_magic())
    ours = bundle.compiled(sources, here)
    theirs = {
        f"{name}c": _own_magic() + bytes(12) + code
        for name, code in bundle._compiled_elsewhere(
            bundle.marshal.dumps(
                {name: (f"{bundle.INSIDE}/{name}", text) for name, text in sources.items()}, 2
            ),
            here,
        ).items()
    }
    assert set(ours) == {"start.pyc", "part/__init__.pyc"}
    assert {name: len(data) for name, data in ours.items()} == {
        name: len(data) for name, data in theirs.items()
    }


def test_a_compiled_guest_runs_and_names_no_path_of_the_host(tmp_path: Path) -> None:
    here = host.GuestPython(sys.executable, sys.prefix, sys.version_info[:3], _own_magic())
    files = bundle.compiled({"start.py": b"import sys\nprint('started', sys.argv[1])\n"}, here)
    assert str(Path(__file__).parents[2]).encode() not in b"".join(bundle.guest_files(here).values())
    script = tmp_path / "start.pyc"
    script.write_bytes(files["start.pyc"])
    done = subprocess.run([sys.executable, "-I", "-S", str(script), "3"], capture_output=True, check=True)
    assert done.stdout == b"started 3\n"


def test_a_damaged_copy_of_the_compiled_guest_is_made_anew(own_data_folder: Path) -> None:
    here = host.GuestPython(sys.executable, sys.prefix, sys.version_info[:3], _own_magic())
    bundle.guest_files.cache_clear()
    files = bundle.guest_files(here)
    (stored,) = (own_data_folder / "cache").glob("guest-*")
    stored.write_bytes(stored.read_bytes()[:-1] + b"?")
    bundle.guest_files.cache_clear()
    assert bundle.guest_files(here) == files
    bundle.guest_files.cache_clear()
    assert bundle.guest_files(here) == files


def test_a_full_or_read_only_disk_does_not_stop_the_guest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRLM_DATA", "/proc/nowhere")
    here = host.GuestPython(sys.executable, sys.prefix, sys.version_info[:3], _own_magic())
    bundle.guest_files.cache_clear()
    assert "start.pyc" in bundle.guest_files(here)
    bundle.guest_files.cache_clear()


def _own_magic() -> bytes:
    from importlib.util import MAGIC_NUMBER

    return MAGIC_NUMBER
