"""Blobs: whole or absent, private, and checked when read."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from terraphim_rlm.core.errors import JournalCorrupt
from terraphim_rlm.store.blobs import Blobs


def test_the_same_bytes_are_stored_once(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    first = blobs.put(b"evidence")
    inode = blobs.path(first).stat().st_ino
    assert blobs.put(b"evidence") == first == hashlib.sha256(b"evidence").hexdigest()
    assert blobs.path(first).stat().st_ino == inode
    assert blobs.get(first) == b"evidence"


def test_a_blob_that_is_not_what_its_name_says_is_not_returned(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    sha256 = blobs.put(b"evidence")
    blobs.path(sha256).write_bytes(b"forgery!")
    with pytest.raises(JournalCorrupt, match="does not hold"):
        blobs.get(sha256)
    blobs.path(sha256).unlink()
    with pytest.raises(JournalCorrupt, match="missing"):
        blobs.get(sha256)


def test_a_blob_cut_short_is_written_again(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    sha256 = blobs.put(b"evidence")
    blobs.path(sha256).write_bytes(b"evi")
    blobs.put(b"evidence")
    assert blobs.get(sha256) == b"evidence"


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "AB" * 32, "ab" * 31, "ab" * 32 + "\n"])
def test_only_a_hash_names_a_blob(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        Blobs(tmp_path).get(name)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_blob_that_cannot_be_finished_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "injected")

    blobs = Blobs(tmp_path / "blobs")
    with monkeypatch.context() as patched:
        patched.setattr(*((os, "fsync") if call == "fsync" else (Path, "replace")), fail)
        with pytest.raises(OSError, match="injected"):
            blobs.put(b"evidence")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert blobs.get(blobs.put(b"evidence")) == b"evidence"
