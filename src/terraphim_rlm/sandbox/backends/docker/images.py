"""What is in an image: asked once of a container made from it, and kept by the image's own id."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from terraphim_rlm.core.errors import ToolchainMissing
from terraphim_rlm.core.paths import data_dir
from terraphim_rlm.sandbox.contract import Toolchain

DEFAULT = "terraphim-rlm/sandbox"
OLDEST_PYTHON = (3, 9)
_ASK = """
import glob, json, os, shutil, subprocess, sys
path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/go/bin:" + ":".join(glob.glob("/usr/lib/go*/bin"))
def version(*argv):
    try:
        return subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=60, env={"PATH": path, "HOME": "/tmp", "GOTOOLCHAIN": "local"}).stdout.decode(errors="replace").strip()[:80]
    except Exception as error:
        return ""
asked = {"bash": "--version", "node": "--version", "rustc": "--version", "cc": "--version", "go": "version"}
found = {name: shutil.which(name, path=path) for name in asked}
programs = {name: [at, version(at, asked[name]).split("\\n")[0]] for name, at in found.items() if at}
print(json.dumps({"python": list(sys.version_info[:3]), "programs": programs}))
"""
COMMAND = ("python3", "-I", "-S", "-c", _ASK)
_NEEDS: Mapping[str, tuple[str, ...]] = {"javascript": ("node",), "rust": ("rustc", "cc"), "go": ("go",)}
"""Language -> programs; the first runs or compiles it."""
_MOST_ANSWER = 1 << 16


@dataclass(frozen=True, slots=True)
class Facts:
    """What an image holds."""

    id: str
    """`sha256:..`, by which the engine knows it; a name may mean another one later."""
    python: tuple[int, int, int]
    programs: Mapping[str, tuple[str, str]]
    """Name -> absolute path and what it says its version is."""

    @property
    def languages(self) -> tuple[str, ...]:
        more = tuple(name for name, needs in _NEEDS.items() if all(each in self.programs for each in needs))
        return ("python", "bash", *more)

    def toolchain(self, language: str, image: str) -> Toolchain:
        """Raises ToolchainMissing."""
        needs = _NEEDS[language]
        if missing := [name for name in needs if name not in self.programs]:
            raise ToolchainMissing(
                f"The image {image} has no {' and no '.join(missing)}, which {language} needs.",
                fix=f"Use {DEFAULT}, which has all languages (trlm image build), or trlm image build --language {language}.",
            )
        path, version = self.programs[needs[0]]
        return Toolchain(path, f"{self.id} {version}")


def image_name() -> str:
    """The image of sandboxes: TRLM_IMAGE, else the one that `trlm image build` makes by default."""
    return os.environ.get("TRLM_IMAGE") or DEFAULT


def parsed(image_id: str, said: bytes) -> Facts | None:
    """What a container said about its image; None when that makes no sense. An image is not ours: it may say anything."""
    if len(said) > _MOST_ANSWER:
        return None
    try:
        answer = json.loads(said)
        python = tuple(int(part) for part in answer["python"])
        programs = {str(name): (str(at[0]), str(at[1])) for name, at in answer["programs"].items()}
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return None
    return Facts(image_id, (python[0], python[1], python[2]), programs) if len(python) == 3 else None


def known(image_id: str) -> Facts | None:
    """What was found earlier."""
    with suppress(OSError, RuntimeError, ValueError):
        saved: dict[str, Any] = json.loads(_kept(image_id).read_text(encoding="utf-8"))
        return parsed(image_id, json.dumps(saved).encode())
    return None


def keep(facts: Facts) -> None:
    """For other processes; best effort."""
    with suppress(OSError, RuntimeError):
        path = _kept(facts.id)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"draft-{os.getpid()}")
        draft.write_text(json.dumps({**asdict(facts), "python": list(facts.python)}), encoding="utf-8")
        draft.rename(path)


def _kept(image_id: str) -> Path:
    return data_dir() / "cache" / "images" / f"{image_id.removeprefix('sha256:')[:40]}.json"
