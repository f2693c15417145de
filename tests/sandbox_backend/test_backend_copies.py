"""Trees that come from a sandbox, removed and compared on the host's side."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from terraphim_rlm.sandbox.keeper import copies, warden


def test_clearing_a_tree_follows_no_link_and_goes_past_what_it_cannot_remove(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    tree = tmp_path / "tree"
    for folder in ("a/b", "stuck/c"):
        (tree / folder).mkdir(parents=True)
    for file in ("a/b/1", "stuck/c/2", "3"):
        (tree / file).touch()
    (tree / "a" / "link").symlink_to(outside)
    rename = os.rename

    def refuse(name: str, other: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        if name == "c":
            raise PermissionError(1, "no")
        rename(name, other, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    home = os.open(tmp_path, os.O_RDONLY)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", refuse)
            copies.clear(home, "tree")
        left = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert sorted(path.name for path in left) == ["2", "kept"]
        for name in {path.name for path in tmp_path.iterdir()} - {"outside"}:
            copies.clear(home, name)
        copies.clear(home, "tree")
    finally:
        os.close(home)
    assert [path.name for path in tmp_path.iterdir()] == ["outside"]
    assert (outside / "kept").exists()


def test_a_tree_is_cleared_however_deep_it_is(tmp_path: Path) -> None:
    home = os.open(tmp_path, os.O_RDONLY)
    here = os.dup(home)
    try:
        for _ in range(1_500):
            os.mkdir("d", dir_fd=here)
            deeper = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = deeper
        copies.clear(home, "d")
    finally:
        os.close(here)
        os.close(home)
    assert list(tmp_path.iterdir()) == []


def _deep(top: int, levels: int) -> None:
    here = os.dup(top)
    for _ in range(levels):
        os.mkdir("d", dir_fd=here)
        deeper = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)


@pytest.mark.parametrize(
    ("levels", "fits"), [(copies.MOST_DEPTH, True), (copies.MOST_DEPTH + 1, False), (1_500, False)]
)
def test_folders_that_lie_too_deep_are_refused_in_words_and_what_was_begun_is_removed(
    tmp_path: Path, levels: int, fits: bool
) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    source, target, home = (os.open(tmp_path / name, os.O_RDONLY) for name in ("old", "new", "."))
    try:
        _deep(source, levels)
        if fits:
            assert len(copies.difference(source, target, _MOST)[2]) == levels
            assert copies.put(source, target, "d")
            assert copies.difference(source, target, _MOST) == ([], [], [], False)
            copies.remove(target, "d")
        else:
            for act in (
                lambda: copies.difference(source, target, _MOST),
                lambda: copies.put(source, target, "d"),
            ):
                with pytest.raises(OSError, match="in folders more than 400 deep"):
                    act()
        assert os.listdir(target) == []
    finally:
        copies.clear(home, "old")
        for fd in (source, target, home):
            os.close(fd)


def test_a_difference_says_whether_it_names_all(
    trees: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "MOST_PATHS", 3)
    for number in range(3):
        (trees[1] / f"new{number}").touch()
    assert _difference(*trees) == (["new0", "new1", "new2"], ["d/f"], [], False)
    (trees[1] / "new3").touch()
    assert _difference(*trees) == (["new0", "new1", "new2"], ["d/f"], [], True)


def test_what_cannot_be_put_back_leaves_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "old")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("name")
    (tmp_path / "new" / "name").write_text("mine")
    source, target = (os.open(tmp_path / name, os.O_RDONLY) for name in ("old", "new"))
    try:
        with pytest.raises(OSError, match="was a socket"):
            copies.put(source, target, "name")
    finally:
        os.close(source)
        os.close(target)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["name"]


_MOST = 1 << 30
Difference = tuple[list[str], list[str], list[str], bool]


def _difference(old: Path, new: Path, most: int = _MOST) -> Difference:
    before, after = (os.open(each, os.O_RDONLY | os.O_DIRECTORY) for each in (old, new))
    try:
        return copies.difference(before, after, most)
    finally:
        os.close(before)
        os.close(after)


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    """Two with a file `d/f` each, of the same size and other content."""
    for name in ("old", "new"):
        (tmp_path / name / "d").mkdir(parents=True)
        (tmp_path / name / "d" / "f").write_text(name)
    return tmp_path / "old", tmp_path / "new"


def _meanwhile(patch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Lets code in the sandbox act after a file was looked at and before it is opened."""
    may_differ_as_ever = copies._may_differ

    def may_differ(before: os.stat_result, after: os.stat_result) -> bool:
        if stat.S_ISREG(before.st_mode):
            act()
        return may_differ_as_ever(before, after)

    patch.setattr(copies, "_may_differ", may_differ)


@pytest.mark.timeout(10)
def test_a_comparison_does_not_wait_at_a_pipe_that_took_the_place_of_a_file(
    trees: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = trees[1] / "d" / "f"

    def swap() -> None:
        file.unlink()
        os.mkfifo(file)

    _meanwhile(monkeypatch, swap)
    assert _difference(*trees) == ([], ["d/f"], [], False)


def test_a_comparison_reads_nothing_through_a_link_that_took_the_place_of_a_folder(
    trees: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = trees

    def swap() -> None:
        (new / "d").rename(new / "away")
        (new / "d").symlink_to(old / "d")

    _meanwhile(monkeypatch, swap)
    assert _difference(*trees) == ([], ["d/f"], [], False)


def test_a_comparison_of_files_that_claim_more_than_there_can_be_is_refused(
    trees: tuple[Path, Path],
) -> None:
    for tree in trees:
        os.truncate(tree / "d" / "f", 1 << 40)
    with pytest.raises(OSError, match="claim more content"):
        _difference(*trees)


def test_a_difference_is_bounded_in_all_its_paths_together(trees: tuple[Path, Path]) -> None:
    here = os.open(trees[1], os.O_RDONLY)
    for _ in range(200):
        os.mkdir("n" * 255, dir_fd=here)
        deeper = os.open("n" * 255, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    for number in range(200):
        os.close(os.open(str(number), os.O_CREAT, dir_fd=here))
    os.close(here)
    added, _changed, _removed, cut = _difference(*trees)
    assert cut
    assert sum(map(len, added)) < copies.MOST_TEXT + (1 << 16)
    assert len(added) > 100
    subprocess.run(["rm", "-r", trees[1] / ("n" * 255)], check=True)


@pytest.mark.parametrize(
    ("release", "can"),
    [
        ("5.15.0", False),
        ("6.6.87", False),
        ("6.6-rc1", False),
        ("6.7.0-rc1", True),
        ("6.18.44-x", True),
        ("7.0+", True),
    ],
)
def test_files_are_layered_only_where_the_kernel_counts_writers_by_mappings(
    release: str, can: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(release=release))
    for name in ("setxattr", "removexattr"):
        monkeypatch.setattr(os, name, lambda *_: None)
    assert warden._can_layer() is can
