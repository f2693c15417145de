"""Images for sandboxes: built, listed and tried out on an engine, without any registry."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from terraphim_rlm.core.errors import BackendUnavailable, InvalidArgument, PackagesUnavailable
from terraphim_rlm.sandbox.backends.docker import images
from terraphim_rlm.sandbox.backends.docker.engine import Engine, EngineGone, Refused
from terraphim_rlm.sandbox.images.debian import Archive, Recipe

LABEL = "terraphim-rlm.image"
"""Its value is the sha256 of the root filesystem's archive, or `dockerfile`."""
_MOST_CONTEXT = 256 << 20


@dataclass(frozen=True, slots=True)
class Image:
    """An image of ours on the engine."""

    name: str
    id: str
    bytes: int
    made_from: str
    """`sha256:..` of the archive of Debian's packages, or `dockerfile`."""


async def build(engine: Engine, name: str, recipe: Recipe, step: Callable[[str], None]) -> Image:
    """An image of Debian's packages; equal packages give an equal archive, and its hash stands in `made_from`.

    Raises:
        InvalidArgument: the recipe asks for what cannot be.
        PackagesUnavailable: Debian's packages are not to be had.
        BackendUnavailable: the engine does not take it.
    """
    step(f"making a root filesystem of {', '.join(recipe.debian_packages())}")
    digest, size = sha256(), 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal size
        async for block in Archive(recipe).blocks():
            digest.update(block)
            size += len(block)
            yield block

    repository, tag = _split(name)
    query = {"fromSrc": "-", "repo": repository, "tag": tag}
    try:
        await engine.load("/images/create", counted(), **query)
        step(f"{size >> 20} MB in; naming it")
        await _label(engine, name, f"sha256:{digest.hexdigest()}")
        return await described(engine, name)
    except (EngineGone, Refused) as error:
        raise _failed(name, str(error)) from error


async def build_from(engine: Engine, name: str, dockerfile: Path, step: Callable[[str], None]) -> Image:
    """An image by a Dockerfile, whose folder is its context. Raises as `build`; the engine's own words are in it."""
    step(f"building {dockerfile}")
    data = _context(dockerfile)

    async def once() -> AsyncIterator[bytes]:
        yield data

    labels = json.dumps({LABEL: "dockerfile"})
    try:
        said = await engine.load(
            "/build", once(), t=name, dockerfile=dockerfile.name, labels=labels, rm="1", forcerm="1"
        )
        _check(said, name, step)
        return await described(engine, name)
    except (EngineGone, Refused) as error:
        raise _failed(name, str(error)) from error


async def _label(engine: Engine, name: str, made_from: str) -> None:
    """By a build of two lines: what is imported can be given no labels by engines before 23."""
    text = f"FROM {name}\nLABEL {LABEL}={made_from}\n".encode()
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        info = tarfile.TarInfo("Dockerfile")
        info.size = len(text)
        archive.addfile(info, io.BytesIO(text))

    async def once() -> AsyncIterator[bytes]:
        yield file.getvalue()

    _check(await engine.load("/build", once(), t=name, rm="1", forcerm="1"), name, lambda _line: None)


def _check(said: str, name: str, step: Callable[[str], None]) -> None:
    """Reads what the engine says of a build."""
    for line in said.splitlines():
        try:
            told: dict[str, Any] = json.loads(line)
        except ValueError:
            continue
        if "error" in told:
            raise _failed(name, str(told["error"]))
        if text := str(told.get("stream", "")).strip():
            step(text[:200])


def _context(dockerfile: Path) -> bytes:
    """The Dockerfile's folder as a tar archive."""
    if not dockerfile.is_file():
        raise InvalidArgument(f"{dockerfile} is no file.", fix="Name a Dockerfile.")
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for path in sorted(dockerfile.parent.rglob("*")):
            if path.is_file() or path.is_symlink():
                archive.add(path, str(path.relative_to(dockerfile.parent)), recursive=False)
            if file.tell() > _MOST_CONTEXT:
                raise InvalidArgument(
                    f"The folder of {dockerfile} holds more than {_MOST_CONTEXT >> 20} MB.",
                    fix="Put the Dockerfile into a folder of its own, with what it copies.",
                )
    return file.getvalue()


async def described(engine: Engine, name: str) -> Image:
    """Raises BackendUnavailable: there is none of this name."""
    try:
        found = await engine.call("GET", f"/images/{name}/json")
    except Refused as error:
        raise BackendUnavailable(
            f"The engine has no image {name}: {error.message[:200]}", fix="trlm image build"
        ) from error
    return _image(name, found["Id"], found.get("Size", 0), (found.get("Config") or {}).get("Labels"))


async def listed(engine: Engine) -> list[Image]:
    """Those that `build` made, by name. Raises EngineGone."""
    found = await engine.call("GET", "/images/json", filters={"label": [LABEL]})
    return sorted(
        (
            _image(name.removesuffix(":latest"), each["Id"], each.get("Size", 0), each.get("Labels"))
            for each in found
            for name in each.get("RepoTags") or [each["Id"]]
        ),
        key=lambda image: image.name,
    )


def _image(name: str, image_id: str, size: int, labels: Mapping[str, str] | None) -> Image:
    return Image(name, image_id, size, (labels or {}).get(LABEL, "something else"))


def _split(name: str) -> tuple[str, str]:
    repository, _, tag = name.partition(":")
    if not repository or "@" in name or name != name.lower():
        raise InvalidArgument(f"{name!r} is no name for an image.", fix=f"Use one like {images.DEFAULT}.")
    return repository, tag or "latest"


def _failed(name: str, said: str) -> PackagesUnavailable:
    return PackagesUnavailable(
        f"The engine made no image {name}: {said[:600]}",
        fix="Mend what it names; it needs disk space for the image (docker system df).",
    )
