"""The use case of images for sandboxes in containers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from terraphim_rlm.core.errors import InvalidArgument, RlmError
from terraphim_rlm.core.values import SCHEMA_VERSION

if TYPE_CHECKING:
    from terraphim_rlm.sandbox.backends.docker.building import Image

_HELLO = {
    "python": "print(6 * 7)", "bash": "echo $((6 * 7))", "javascript": "console.log(6 * 7)",
    "rust": 'fn main() { println!("{}", 6 * 7); }',
    "go": 'package main\nimport "fmt"\nfunc main() { fmt.Println(6 * 7) }',
}  # fmt: skip
_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Order:
    """An image to build."""

    name: str | None = None
    languages: Sequence[str] = ()
    packages: Sequence[str] = ()
    dockerfile: str | None = None


async def build(order: Order, step: Callable[[str], None]) -> Image:
    """Raises as `building.build`."""
    from terraphim_rlm.sandbox.backends.docker import building, images
    from terraphim_rlm.sandbox.backends.docker.engine import Engine
    from terraphim_rlm.sandbox.images.debian import COMMON, Recipe

    if order.dockerfile and (order.languages or order.packages):
        raise InvalidArgument(
            "A Dockerfile says by itself what is in its image.", fix="Leave out --language and --package."
        )
    engine = await Engine.found()
    try:
        name = order.name or images.image_name()
        if order.dockerfile:
            return await building.build_from(engine, name, Path(order.dockerfile), step)
        recipe = Recipe()
        languages = (
            tuple(dict.fromkeys(("python", "bash", *order.languages)))
            if order.languages
            else recipe.languages
        )
        return await building.build(engine, name, Recipe(languages, (*COMMON, *order.packages)), step)
    finally:
        await engine.close()


async def listed() -> list[Image]:
    """Raises BackendUnavailable."""
    from terraphim_rlm.sandbox.backends.docker import building
    from terraphim_rlm.sandbox.backends.docker.engine import Engine

    engine = await Engine.found()
    try:
        return await building.listed(engine)
    finally:
        await engine.close()


async def check(name: str | None) -> dict[str, Any]:
    """Runs something in every language of an image, in a sandbox of each runtime: what came of each."""
    from terraphim_rlm.sandbox.backends.docker import backend, images
    from terraphim_rlm.sandbox.contract import SandboxSpec
    from terraphim_rlm.sandbox.sandbox import Sandbox
    from terraphim_rlm.sandbox.selection import BACKENDS

    wanted = name or images.image_name()
    found: dict[str, dict[str, str]] = {}
    for each in (each for each in BACKENDS if each.startswith("docker+")):
        try:
            made = await backend.open_backend(each.removeprefix("docker+"))
        except RlmError as error:
            found[each] = {"backend": error.message}
            continue
        made.image = wanted
        async with made, Sandbox(made, SandboxSpec()) as box:
            found[each] = {language: await _tried(box, language) for language in box.capabilities.languages}
    return {"schema_version": SCHEMA_VERSION, "image": wanted, "found": found}


async def _tried(box: Any, language: str) -> str:
    result = await box.run(_HELLO[language], language, timeout=_SECONDS)
    return (
        "ok"
        if (result.status, result.stdout) == ("ok", "42\n")
        else f"{result.status}: {result.stderr[:300]}"
    )


def images_to_json(found: Sequence[Image]) -> dict[str, Any]:
    return {"schema_version": SCHEMA_VERSION, "images": [asdict(each) for each in found]}
