"""Which toolchains of this machine sandboxes can use: found by looking, once per process, never by running them.

A sandbox has all of `/usr`, so what lies there is at the same place inside. A Rust of rustup's lies in somebody's home;
it is bound where a program is compiled, if the sandbox's uid can read it.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from terraphim_rlm.core.errors import ToolchainMissing
from terraphim_rlm.sandbox.backends.bubblewrap.host import readable_by
from terraphim_rlm.sandbox.contract import Toolchain
from terraphim_rlm.sandbox.link.room import is_full

_ALWAYS = ("python", "bash")
_RUST_INSIDE = "/trlm/rust"


@dataclass(frozen=True, slots=True)
class _Wanted:
    what: str
    places: tuple[str, ...]
    """Paths, the first that is there counts; `*` stands for versions, the highest first."""
    package: str
    """Debian's package."""
    also: tuple[str, ...] = ()
    """What it needs besides."""


_WANTED = {
    "javascript": _Wanted("Node.js", ("/usr/bin/node", "/usr/local/bin/node"), "nodejs"),
    "rust": _Wanted(
        "a Rust compiler with its linker",
        ("/usr/bin/rustc", "/usr/local/bin/rustc"),
        "rustc",
        ("/usr/bin/cc",),
    ),
    "go": _Wanted(
        "a Go toolchain", ("/usr/local/go/bin/go", "/usr/lib/go-*/bin/go", "/usr/lib/go/bin/go"), "golang-go"
    ),
}


@cache
def languages(uid: int | None) -> tuple[str, ...]:
    """Those that sandboxes of `uid` can run here."""
    return (*_ALWAYS, *(name for name in _WANTED if _look(name, uid) is not None))


def found(language: str, uid: int | None) -> Toolchain:
    """See `contract.Backend.toolchain`."""
    toolchain = _look(language, uid)
    if toolchain is None:
        wanted = _WANTED[language]
        raise ToolchainMissing(
            f"No {language} here: sandboxes need {wanted.what} that every user can read, in "
            f"{' or '.join((*wanted.places, *wanted.also))}.",
            fix=f"Install it: sudo apt install {wanted.package}",
            language=language,
        )
    return toolchain


@cache
def _look(language: str, uid: int | None) -> Toolchain | None:
    wanted = _WANTED[language]
    if not all(_usable(path, uid) for path in wanted.also):
        return None
    if language == "rust" and (own := _rustup(uid)) is not None:
        return own
    for path in _candidates(wanted.places):
        if _usable(path, uid) and os.path.realpath(path).startswith("/usr/"):
            return Toolchain(path, _identity(path))
    return None


def _candidates(places: tuple[str, ...]) -> Iterator[str]:
    for place in places:
        if "*" in place:
            found = Path("/").glob(place.lstrip("/"))
            yield from sorted(map(str, found), key=_version, reverse=True)
        else:
            yield place


def _version(path: str) -> list[int]:
    return [int(word) for word in path.replace("/", "-").replace(".", "-").split("-") if word.isdigit()]


def _rustup(uid: int | None) -> Toolchain | None:
    """The default toolchain of this user's rustup, where sandboxes can read it."""
    home = Path(os.environ.get("RUSTUP_HOME") or Path("~/.rustup").expanduser())
    try:
        with (home / "settings.toml").open("rb") as file:
            name = tomllib.load(file).get("default_toolchain")
    except (OSError, tomllib.TOMLDecodeError) as error:
        if isinstance(error, OSError) and is_full(error):  # not for good: it is looked for once
            raise
        return None
    if not isinstance(name, str) or "/" in name or name.startswith("."):
        return None
    folder = str(home / "toolchains" / name)
    program = f"{folder}/bin/rustc"
    if not (_usable(program, uid) and readable_by(folder, uid)):
        return None
    return Toolchain(f"{_RUST_INSIDE}/bin/rustc", _identity(program), {folder: _RUST_INSIDE})


def _usable(path: str, uid: int | None) -> bool:
    return os.access(path, os.X_OK) and readable_by(os.path.realpath(path), uid)


def _identity(path: str) -> str:
    """Path, size and time of the program: asking for its version would cost a process in every process of ours."""
    status = os.stat(path)
    return f"{os.path.realpath(path)} {status.st_size} {status.st_mtime_ns}"
