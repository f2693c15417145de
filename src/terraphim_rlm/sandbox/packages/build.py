"""Builds one layer in a folder of its own, by pip, from wheels."""

from __future__ import annotations

import errno
import importlib.metadata
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from terraphim_rlm.core import pip
from terraphim_rlm.core.errors import DiskFull, InvalidArgument, NotSupported, PackagesUnavailable
from terraphim_rlm.sandbox.packages.failures import failure
from terraphim_rlm.sandbox.packages.requirements import normalised

INSIDE = "/trlm/packages"
"""Where a sandbox sees its layer."""
SITE, MANIFEST = "site", "manifest.json"
_WHEELS_ONLY = (
    "--only-binary",
    ":all:",
    "--no-input",
    "--disable-pip-version-check",
    "--progress-bar",
    "off",
)
_STEP = re.compile(
    r"^\s*(?:Downloading|Using cached|Processing) (?:\S*/)?([A-Za-z0-9_.]+)-([^-\s]+)-\S*\.whl(?:\s|$)"
)
_COMPILE = """
import compileall, py_compile
print("compiling")
compileall.compile_dir({site!r}, quiet=2, workers=1, stripdir={site!r}, prependdir={inside!r},
                       invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
"""
"""Cells could not store what they compile. pip would compile as well, but with the draft's place in every file."""


@dataclass(frozen=True, slots=True)
class Python:
    """The interpreter that a layer is for."""

    path: str
    version: tuple[int, int, int]
    tag: str
    """What else decides which wheels fit: implementation, ABI, platform."""

    def __str__(self) -> str:
        return f"Python {'.'.join(map(str, self.version))}"


def build(
    packages: tuple[str, ...],
    python: Python,
    draft: Path,
    progress: Callable[[str], None],
    stop: threading.Event,
) -> None:
    """Fills the empty folder `draft` with `site` and `manifest.json`. Raises as `layers.obtain`.

    pip runs in the sandbox's own Python. Its options for another Python were rejected: with them it reads the markers
    of dependencies for the Python that runs it.
    """
    _check_pip(python)
    site, work = draft / SITE, draft / "work"
    for folder in (draft, site, work):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
    arguments = ["install", "-v", "--target", str(site), "--no-compile", "--no-warn-script-location"]
    then = _COMPILE.format(site=str(site), inside=INSIDE)
    look = _steps(progress)
    end = pip.run(
        [*arguments, *_WHEELS_ONLY, *packages], work, python=python.path, then=then, look=look, stop=stop
    )
    if end.fault is not None:
        raise failure(packages, end, lambda wanted: _others(wanted, python, work, stop), str(python))
    found = {
        each.metadata["Name"]: each.version for each in importlib.metadata.distributions(path=[str(site)])
    }
    manifest = {"packages": packages, "python": str(python), "tag": python.tag, "versions": found}
    (draft / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True))
    shutil.rmtree(work)
    os.sync()  # or a power cut could leave the name and not the content


def _check_pip(python: Python) -> None:
    with suppress(importlib.metadata.PackageNotFoundError):
        needs = importlib.metadata.metadata("pip")["Requires-Python"] or ""
        oldest = re.match(r">=3\.(\d+)", needs)
        if oldest is not None and python.version < (3, int(oldest[1])):
            raise NotSupported(
                f"pip {importlib.metadata.version('pip')} cannot fetch packages for {python} ({python.path}), "
                "which the sandbox runs.",
                fix=f"Install a Python >= 3.{oldest[1]} for all users, or an older pip beside this program.",
            )


def _others(wanted: str, python: Python, work: Path, stop: threading.Event) -> str:
    """What the index has of a requirement that there is no fitting wheel of, as pip tells it when asked for more."""
    try:
        (wanted,) = normalised([wanted])
    except InvalidArgument:
        return ""
    arguments = ["download", "-vv", "--no-deps", "--dest", str(work), *_WHEELS_ONLY, wanted]
    return pip.run(arguments, work, python=python.path, stop=stop).said


def _steps(progress: Callable[[str], None]) -> Callable[[str], None]:
    """Makes progress of pip's log; each file once, though pip names it for its metadata as well."""
    seen: set[str] = set()

    def look(log: str) -> None:
        for line in log.splitlines():
            match = _STEP.match(line)
            if match is not None:
                step = f"fetching {match[1]} {match[2]}"
            elif line.startswith("Installing collected packages:"):
                step = "installing" + line.partition(":")[2]
            elif line == "compiling":
                step = line
            else:
                continue
            if step not in seen:
                seen.add(step)
                progress(step)

    return look


@contextmanager
def writing(home: Path) -> Iterator[None]:
    """What the system refuses there becomes an error with its fix."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"The disk of {home} is full; the packages were not fetched.") from error
        raise PackagesUnavailable(
            f"{home} cannot be used for packages: {error.strerror or error}.",
            fix="Make it writable, or set TRLM_DATA to another folder.",
        ) from error
