"""What the doctor sees of Docker on this machine: engine, runtimes, versions with known holes, images, a sandbox each."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from terraphim_rlm.core import process
from terraphim_rlm.core.errors import RlmError
from terraphim_rlm.core.values import Check
from terraphim_rlm.sandbox.backends.docker import backend, building, images
from terraphim_rlm.sandbox.backends.docker.engine import Engine, EngineGone, Refused

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Hole:
    """A version range that something is wrong with."""

    what: str
    """A component, as the engine names it."""
    fixed: tuple[Version, ...]
    """The first good version of each line of releases, oldest line first; older lines stay bad."""
    name: str
    means: str


HOLES = (
    Hole(
        "runc", ((1, 1, 12),), "CVE-2024-21626",
        "a container may start in a folder of the host, and so escape",
    ),
    Hole(
        "runc", ((1, 2, 8), (1, 3, 3)), "CVE-2025-31133, CVE-2025-52565, CVE-2025-52881",
        "an image or a race at the start may write to files of the host's kernel",
    ),
    Hole(
        "Engine", ((20, 10, 9),), "CVE-2021-41091",
        "the engine's data folder lets other users of this machine run what lies in containers",
    ),
)  # fmt: skip
"""Known at the time of writing. Distributions mend holes without a new number: what their package says counts."""
_OLD_GVISOR = 20240101
_SECONDS = 20.0


def numbers(text: str) -> Version:
    """The leading numbers of a version: `1.1.5+ds1` is (1, 1, 5)."""
    found = re.match(r"v?(\d+(?:\.\d+)*)", text.strip())
    return tuple(int(part) for part in found[1].split(".")) if found else ()


def holes(versions: Mapping[str, str]) -> list[str]:
    """What is known to be wrong with these versions, a sentence each."""
    found = []
    for hole in HOLES:
        version = numbers(versions.get(hole.what, ""))
        if version and not _is_fixed(version, hole.fixed):
            good = " or ".join(".".join(map(str, each)) for each in hole.fixed)
            found.append(
                f"{hole.what} {versions[hole.what]} is older than {good} ({hole.name}): {hole.means}"
            )
    return found


def _is_fixed(version: Version, fixed: tuple[Version, ...]) -> bool:
    if version >= fixed[-1]:
        return True
    return any(version[:2] == each[:2] and version >= each for each in fixed)


def gvisor_age(said: str) -> str:
    """Why this gVisor is too old, by what `runsc --version` says; empty when it is not, or cannot be told."""
    found = re.search(r"(20\d{6})", said)
    if found and int(found[1]) < _OLD_GVISOR:
        return f"gVisor is of {found[1]}; what was found wrong since is not mended in it"
    return ""


async def checks() -> list[Check]:
    """One check where there is no engine; else the engine, its versions, each runtime, the image."""
    try:
        engine = await Engine.found()
    except RlmError as error:
        return [Check("docker", "ok", f"not used: {error.message}")]
    try:
        info: dict[str, Any] = await engine.call("GET", "/info")
        versions = components(engine.version)
        said = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
        found = [Check("docker", "ok", f"{engine.path}: {said}")]
        wrong = holes(versions)
        fix = "Update the engine and runc, or see that your distribution has mended these in its package."
        found.append(
            Check(
                "docker-versions",
                "fail" if wrong else "ok",
                "; ".join(wrong) or "no hole that is known",
                fix if wrong else "",
            )
        )
        found += [await _runtime(name, info) for name in backend.RUNTIMES]
        found.append(await _image(engine))
    except (EngineGone, Refused) as error:
        return [Check("docker", "warn", f"the engine stopped answering: {error}", "docker info")]
    finally:
        await engine.close()
    return found


def components(version: Mapping[str, Any]) -> dict[str, str]:
    """Name -> version of what an engine is made of."""
    parts = version.get("Components") or []
    return {str(each.get("Name")): str(each.get("Version")) for each in parts if isinstance(each, Mapping)}


async def _runtime(name: str, info: Mapping[str, Any]) -> Check:
    """Whether it is registered and makes a sandbox; gVisor's must be the one that answers inside."""
    runtimes = info.get("Runtimes") or {}
    what = f"docker+{name}"
    if name not in runtimes:
        fix = (
            "Register gVisor's runsc with the engine; see docs/docker.md."
            if name == "runsc"
            else "Update the engine."
        )
        return Check(what, "warn", f"the engine has no runtime {name}", fix)
    if name == "runsc" and (
        old := gvisor_age(await asyncio.to_thread(_said, runtimes[name].get("path", "")))
    ):
        return Check(what, "fail", old, "Install a current gVisor.")
    try:
        made = await backend.open_backend(name)
        async with made:
            capabilities = await made.probe()
    except RlmError as error:
        return Check(what, "warn", error.message, error.fix)
    held = ", ".join(f"{limit} {how}" for limit, how in sorted(capabilities.limits.items()))
    seconds = capabilities.cold_start_estimate
    return Check(
        what,
        "ok",
        f"made a sandbox in {seconds:.2f} s, kernel inside {capabilities.versions['kernel']}; {held}",
    )


def _said(path: str) -> str:
    try:
        return process.run([path, "--version"], timeout=_SECONDS).stdout.decode("utf-8", "replace")
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return ""


async def _image(engine: Engine) -> Check:
    name = images.image_name()
    try:
        image = await building.described(engine, name)
    except RlmError as error:
        return Check("docker-image", "warn", error.message, error.fix)
    return Check("docker-image", "ok", f"{name}, {image.bytes / 1e9:.1f} GB, from {image.made_from[:19]}")
