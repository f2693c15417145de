"""Programs that do no harm: a seeded draw of files from the standard library and from packages that are installed.

They are what people wrote for use, with their subprocesses and evaluations; nobody has chosen among them.
"""

from __future__ import annotations

import ast
import random
import sysconfig
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

SEED = 7
PROGRAMS = 1_000
PACKAGES = 20
_FROM_LIBRARY = 500
_MOST_BYTES = 1 << 20
_LEAST_BYTES = 200


@dataclass(frozen=True, slots=True)
class Benign:
    """One program."""

    name: str
    """Where it is from, without the folders of this machine."""
    code: str


def draw(seed: int = SEED, programs: int = PROGRAMS) -> tuple[list[Benign], list[str]]:
    """Files, half of them from the standard library where it has as many, and the names of the packages drawn from.

    The draw is the same for a seed as long as the same is installed. Files below 200 bytes are left out: there is
    nothing in them; and so is what is not Python, such as the tests of the parser.
    """
    chance = random.Random(seed)  # noqa: S311 - a draw, not a secret
    packages = _packages(chance)
    own = _files(Path(sysconfig.get_path("stdlib")), "python")
    others = [each for name, root in packages.items() for each in _files(root, name)]
    chance.shuffle(own)
    chance.shuffle(others)
    found = _taken(own, programs * _FROM_LIBRARY // PROGRAMS)
    found += _taken(others, programs - len(found))
    return found, sorted(packages)


def _taken(files: list[tuple[str, Path]], count: int) -> list[Benign]:
    """The first so many that are programs."""
    found: list[Benign] = []
    for name, path in files:
        if len(found) == count:
            break
        if (code := _program(path)) is not None:
            found.append(Benign(name, code))
    return found


def _packages(chance: random.Random) -> dict[str, Path]:
    """Twenty installed packages with code of their own, by name."""
    found: dict[str, Path] = {}
    for each in metadata.distributions():
        for top in (each.read_text("top_level.txt") or each.metadata["Name"]).split():
            place = Path(str(each.locate_file(top.replace("-", "_"))))
            if place.is_dir() and (place / "__init__.py").is_file() and "terraphim" not in top:
                found[top] = place
    names = sorted(found)
    return {name: found[name] for name in chance.sample(names, min(PACKAGES, len(names)))}


def _files(root: Path, name: str) -> list[tuple[str, Path]]:
    found = []
    for path in sorted(root.rglob("*.py")):
        inside = path.relative_to(root)
        if not {"site-packages", "dist-packages", "__pycache__"} & set(inside.parts):
            found.append((f"{name}/{inside}", path))
    return found


def _program(path: Path) -> str | None:
    """Its text, if that is UTF-8 of a usual size and Python that this one can parse."""
    try:
        if not _LEAST_BYTES <= path.stat().st_size <= _MOST_BYTES:
            return None
        code = path.read_text(encoding="utf-8")
        ast.parse(code)
    except (OSError, UnicodeDecodeError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return code
