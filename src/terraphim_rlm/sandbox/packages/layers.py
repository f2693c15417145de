"""Read-only layers of packages, on disk: built once for each set of packages and each Python, then used offline.

A layer's key says what was asked for and for which Python, not where it came from: what was built once is never
fetched again. It appears whole or not at all. Whoever uses one holds it, so that nobody removes it meanwhile; the
kernel lets go of what a dead process held.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from terraphim_rlm.core.errors import Cancelled
from terraphim_rlm.sandbox.packages import build

Progress = Callable[[str], None]
"""Gets a line for each step, such as `fetching numpy 2.3.5`."""
KEPT = 16
"""Layers that stay though nobody uses them; those not used for longest go."""
_FORM = 1
_LOOK_EVERY = 0.05
_DRAFT = "draft-"


class Layer:
    """A layer that is held: it stays on disk until `close`, or until this process ends."""

    def __init__(self, folder: Path, held: int) -> None:
        self.path = str(folder / build.SITE)
        self._manifest = folder / build.MANIFEST
        self._held: int | None = held

    @property
    def versions(self) -> Mapping[str, str]:
        """Name -> version of all that is in it."""
        found: dict[str, str] = json.loads(self._manifest.read_text())["versions"]
        return found

    def close(self) -> None:
        """Idempotent."""
        held, self._held = self._held, None
        if held is not None:
            os.close(held)


@dataclass(frozen=True, slots=True)
class Wish:
    """Which packages, for which Python."""

    packages: tuple[str, ...]
    """Normalised; not empty."""
    python: build.Python

    @property
    def key(self) -> str:
        asked = json.dumps([_FORM, self.packages, self.python.version[:2], self.python.tag])
        return sha256(asked.encode()).hexdigest()[:40]


def obtain(
    wish: Wish, home: Path, progress: Progress = lambda line: None, stop: threading.Event | None = None
) -> Layer:
    """The layer, built if it is not there. Blocking; safe in many threads and processes at once.

    Args:
        home: the folder of all layers.
        stop: ends the work when it is set.

    Raises:
        PackageNotFound, InvalidArgument, NotSupported: see `failures`.
        PackagesUnavailable: no index answers, or `home` cannot be written.
        DiskFull: there is no room.
        Cancelled: `stop` was set.
    """
    stop = stop or threading.Event()
    with build.writing(home):
        home.mkdir(mode=0o755, parents=True, exist_ok=True)
        place = home / wish.key
        held = _lock(place.with_suffix(".used"), fcntl.LOCK_SH, stop, progress)
        try:
            if not _is_whole(place):
                with _alone(place.with_suffix(".lock"), stop, progress):
                    if not _is_whole(place):
                        _build(wish, place, progress, stop)
            with suppress(OSError):
                os.utime(held)
        except BaseException:
            os.close(held)
            raise
    return Layer(place, held)


def _is_whole(folder: Path) -> bool:
    return (folder / build.MANIFEST).exists()


def _build(wish: Wish, place: Path, progress: Progress, stop: threading.Event) -> None:
    """Whoever calls this holds the layer's lock, so drafts of it are of the dead."""
    home = place.parent
    _sweep(home, wish.key)
    draft = Path(tempfile.mkdtemp(prefix=f"{_DRAFT}{wish.key}-", dir=home))
    try:
        build.build(wish.packages, wish.python, draft, progress, stop)
        shutil.rmtree(place, ignore_errors=True)  # without a manifest nobody uses it
        draft.rename(place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    _prune(home)


def _sweep(home: Path, own: str) -> None:
    """Removes the drafts of builds that died: nobody holds their lock."""
    for draft in home.glob(f"{_DRAFT}*"):
        key = draft.name.removeprefix(_DRAFT).partition("-")[0]
        if key == own:
            shutil.rmtree(draft, ignore_errors=True)
            continue
        with _if_free((home / key).with_suffix(".lock")) as free:
            if free:
                shutil.rmtree(draft, ignore_errors=True)


def _prune(home: Path) -> None:
    """Removes the layers not used for longest, past `KEPT`, that nobody holds."""
    whole = [
        each.parent for each in home.glob(f"*/{build.MANIFEST}") if not each.parent.name.startswith(_DRAFT)
    ]
    for folder in sorted(whole, key=_last_used, reverse=True)[KEPT:]:
        with _if_free(folder.with_suffix(".used")) as free:
            if free:
                gone = folder.with_name(f"{_DRAFT}{folder.name}-gone")
                folder.rename(gone)
                shutil.rmtree(gone, ignore_errors=True)


def _last_used(folder: Path) -> float:
    try:
        return folder.with_suffix(".used").stat().st_mtime
    except OSError:
        return 0.0


@contextmanager
def _alone(path: Path, stop: threading.Event, progress: Progress) -> Iterator[None]:
    held = _lock(path, fcntl.LOCK_EX, stop, progress)
    try:
        yield
    finally:
        os.close(held)


@contextmanager
def _if_free(path: Path) -> Iterator[bool]:
    """Whether nobody else holds the lock; then it is ours in the block."""
    fd = _opened(path)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(fd)


def _lock(path: Path, how: int, stop: threading.Event, progress: Progress) -> int:
    """A descriptor that holds the lock. Tried again and again, since a wait in the kernel could not be stopped."""
    fd, told = _opened(path), False
    try:
        while not stop.is_set():
            try:
                fcntl.flock(fd, how | fcntl.LOCK_NB)
            except BlockingIOError:
                if not told:
                    told = True
                    progress("waiting for another process that fetches the same")
                stop.wait(_LOOK_EVERY)
            else:
                return fd
        raise Cancelled("Stopped while another process fetched the same packages.")
    except BaseException:
        os.close(fd)
        raise


def _opened(path: Path) -> int:
    """Lock files are never removed: two processes could then hold two locks of one name."""
    return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
