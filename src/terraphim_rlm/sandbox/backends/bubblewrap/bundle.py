"""The guest as data: its modules compiled for the sandbox's Python, copied in, never bound.

Copies rather than a bind mount, because a mount shows its host path inside and needs a folder that the
sandbox's uid can read. Compiled files, because compiling the supervisor would be a fifth of the start.
"""

from __future__ import annotations

import marshal
import os
import subprocess
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.util import MAGIC_NUMBER
from pathlib import Path

from terraphim_rlm.core import process
from terraphim_rlm.core.errors import BackendUnavailable
from terraphim_rlm.core.paths import data_dir
from terraphim_rlm.sandbox.backends.bubblewrap.host import GuestPython

INSIDE = "/trlm/guest"
_FOLDER = Path(__file__).parents[3] / "guest"
_PROGRAM = "start.pyc"
_HEADER = 16  # bytes of a compiled file before its code
_KEPT = 4
_COMPILE = """
import marshal, sys
sources = marshal.loads(sys.stdin.buffer.read())
code = {name: marshal.dumps(compile(text, path, "exec", dont_inherit=True)) for name, (path, text) in sources.items()}
sys.stdout.buffer.write(marshal.dumps(code, 2))
"""


@cache
def guest_files(python: GuestPython) -> dict[str, bytes]:
    """The guest for `python`: its program, and all its modules in one file. Kept on disk between processes."""
    texts = sources()
    digest = sha256(marshal.dumps((sorted(texts.items()), python.magic, INSIDE), 2)).hexdigest()
    store = _store(digest)
    files = _load(store) if store else None
    if files is None:
        files = packed(compiled(texts, python))
        if store:
            _save(store, files)
    return files


def sources() -> dict[str, bytes]:
    """The guest's own files by their names."""
    return {
        str(path.relative_to(_FOLDER)): path.read_bytes()
        for path in sorted(_FOLDER.rglob("*.py"))
        if not path.name.startswith(".")
    }


def _store(digest: str) -> Path | None:
    try:
        return data_dir() / "cache" / f"guest-{digest[:40]}"
    except RuntimeError:  # this user has no home and named no data folder
        return None


def compiled(sources: dict[str, bytes], python: GuestPython) -> dict[str, bytes]:
    """Compiles `sources` for `python`, here when it takes the same code, else by running it."""
    work = {name: (f"{INSIDE}/{name}", text) for name, text in sources.items()}
    if python.magic == MAGIC_NUMBER:
        code = {
            name: marshal.dumps(compile(text, path, "exec", dont_inherit=True))
            for name, (path, text) in work.items()
        }
    else:
        code = _compiled_elsewhere(marshal.dumps(work, 2), python)
    header = python.magic + bytes(_HEADER - len(python.magic))
    return {f"{name}c": header + body for name, body in code.items()}


def packed(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The program, and `pack`, from which it imports the rest: `marshal` of module -> its code; see `guest/start.py`."""
    modules = {module(name): data[_HEADER:] for name, data in files.items()}
    return {_PROGRAM: files[_PROGRAM], "pack": marshal.dumps(modules, 2)}


def module(name: str) -> str:
    """What a file of the guest's is imported as."""
    return f"guest.{name.removesuffix('.pyc').removesuffix('.py').replace('/', '.')}".removesuffix(
        ".__init__"
    )


def _compiled_elsewhere(work: bytes, python: GuestPython) -> dict[str, bytes]:
    with open(os.memfd_create("sources"), "w+b") as file:
        file.write(work)
        file.seek(0)
        try:
            done = process.run([python.path, "-I", "-S", "-c", _COMPILE], timeout=60, stdin=file)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BackendUnavailable(f"{python.path} cannot compile the guest: {error}.") from error
    if done.returncode != 0:
        reason = done.stderr.decode(errors="replace").strip().rpartition("\n")[2][:300]
        raise BackendUnavailable(f"{python.path} cannot compile the guest: {reason}.")
    code: dict[str, bytes] = marshal.loads(done.stdout)  # noqa: S302 - from the interpreter just run
    return code


def _load(store: Path) -> dict[str, bytes] | None:
    try:
        data = store.read_bytes()
    except OSError:
        return None
    if sha256(data[32:]).digest() != data[:32]:
        return None
    files: dict[str, bytes] = marshal.loads(data[32:])  # noqa: S302 - as we wrote it, says the hash
    return files


def _save(store: Path, files: dict[str, bytes]) -> None:
    """Best effort: without it, the next process compiles again."""
    body = marshal.dumps(files, 2)
    draft = store.with_name(f"draft-{os.getpid()}")
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(sha256(body).digest() + body)
        draft.rename(store)
        old = sorted(store.parent.glob("guest-*"), key=lambda path: path.stat().st_mtime)
        for path in old[:-_KEPT]:
            path.unlink(missing_ok=True)
    except OSError:
        return
