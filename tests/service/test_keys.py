"""Keys: what is kept of them, and that a key which was revoked stays so."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from terraphim_rlm.core.errors import KeyNotFound
from terraphim_rlm.service.keys import FILE_NAME, Key, Keys


def test_a_key_revoked_while_another_process_adds_one_does_not_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adding, revoking = Keys(tmp_path), Keys(tmp_path)
    _, text = adding.create("stolen")
    write, begun = adding._write, threading.Event()

    def revoke() -> None:
        begun.set()
        revoking.revoke("stolen")

    other = threading.Thread(target=revoke)

    def slow(keys: tuple[Key, ...]) -> None:
        """Between what was read and what is written, the other one has all the time it wants."""
        other.start()
        assert begun.wait(30)
        other.join(0.5)
        write(keys)

    monkeypatch.setattr(adding, "_write", slow)
    adding.create("other")
    other.join(30)

    assert not other.is_alive()
    assert [key.name for key in Keys(tmp_path).all()] == ["other"]
    assert Keys(tmp_path).find(text) is None
    assert adding.find(text) is None


def test_the_file_of_keys_is_its_owners_and_holds_no_key(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    key, text = keys.create("one", ("read",), days=1)
    assert text not in (tmp_path / FILE_NAME).read_text()
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert keys.find(text) == key
    assert keys.find(text[:-1]) is None
    assert keys.find("") is None
    assert not key.may("ask")
    with pytest.raises(KeyNotFound):
        keys.revoke("nobody")
