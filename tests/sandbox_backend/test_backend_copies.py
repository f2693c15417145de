"""Trees that come from a sandbox, removed on the host's side."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from terraphim_rlm.sandbox.keeper import copies


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
    remove = os.unlink

    def refuse(name: str, *, dir_fd: int) -> None:
        if name == "2":
            raise PermissionError(1, "no")
        remove(name, dir_fd=dir_fd)

    home = os.open(tmp_path, os.O_RDONLY)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "unlink", refuse)
            copies.clear(home, "tree")
        assert sorted(str(path.relative_to(tree)) for path in tree.rglob("*")) == [
            "stuck",
            "stuck/c",
            "stuck/c/2",
        ]
        copies.clear(home, "tree")
        copies.clear(home, "tree")
    finally:
        os.close(home)
    assert not tree.exists()
    assert (outside / "kept").exists()


def test_clearing_a_tree_that_is_too_deep_raises_nothing(tmp_path: Path) -> None:
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
    subprocess.run(["rm", "-r", tmp_path / "d"], check=True)
