"""Other ways to run Python code, doing the same work beside a row of ours.

Each lives in a virtual environment of its own below the data folder, made when it is first asked for, and works in a
child process (`peer_work.py`): none of it is ever loaded here.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from terraphim_rlm.core import pip, process
from terraphim_rlm.core.errors import BackendUnavailable
from terraphim_rlm.core.paths import data_dir
from terraphim_rlm.sandbox.backends.bubblewrap import host
from terraphim_rlm.sandbox.backends.docker import images
from terraphim_rlm.testing.bench.rows import summary
from terraphim_rlm.testing.engines.leash import Leash

AT_ONCE = 4
"""Independent executions in flight together, ours and the peers'."""
_SECONDS = 120.0
_SCRIPT = Path(__file__).with_name("peer_work.py")


@dataclass(frozen=True, slots=True)
class Peer:
    """One of them."""

    name: str
    requirement: str | None
    """What pip installs, with its version; None = it is a program of this machine."""


PEERS = (
    Peer("llm-sandbox", "llm-sandbox[docker]==0.3.46"),
    Peer("smolagents", "smolagents==1.26.0"),
    Peer("bwrap python3", None),
    Peer("docker run", None),
)


class Peers:
    """Those that take part in a run."""

    def __init__(self, pythons: dict[str, str], missing: dict[str, str], seconds: float) -> None:
        self._pythons = pythons
        self._missing = missing
        self._seconds = seconds

    async def beside(self, work: str) -> dict[str, Any]:
        """What each took for `work`: its version and figures, or its error."""
        found: dict[str, Any] = {name: {"error": error} for name, error in self._missing.items()}
        for name, python in self._pythons.items():
            with Leash() as leash:  # left early, it ends the peer, and so the thread that waits for it
                found[name] = await asyncio.to_thread(worked, name, python, work, self._seconds, leash)
        return found


NO_PEERS = Peers({}, {}, 0)


async def all_peers(seconds: float, peers: Sequence[Peer] = PEERS) -> Peers:
    """Every peer that can be had; those that lack are installed.

    Args:
        seconds: how long a peer works for one row, about.
    """
    pythons: dict[str, str] = {}
    missing: dict[str, str] = {}
    for peer in peers:
        try:
            pythons[peer.name] = await asyncio.to_thread(python_of, peer)
        except OSError as error:
            missing[peer.name] = f"could not be installed: {error}"
    return Peers(pythons, missing, seconds)


def python_of(peer: Peer) -> str:
    """The interpreter that can import it.

    Raises:
        OSError: it could not be installed; why.
    """
    if peer.requirement is None:
        return sys.executable
    home = data_dir() / "cache" / "peers"
    place = home / re.sub(r"[^\w.-]+", "-", peer.requirement)
    if not place.exists():
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home, prefix="draft-") as draft:
            _install(peer.requirement, Path(draft) / "venv", Path(draft))
            with suppress(OSError):  # another process was first
                (Path(draft) / "venv").rename(place)
    return str(place / "bin" / "python")


def _install(requirement: str, place: Path, folder: Path) -> None:
    venv.EnvBuilder(symlinks=True).create(place)
    asked = ["install", "--no-input", "--disable-pip-version-check", "--only-binary", ":all:", requirement]
    end = pip.run(asked, folder, python=str(place / "bin" / "python"))
    if end.fault is not None:
        raise OSError(f"{end.fault}: {end.reason}")


def worked(name: str, python: str, work: str, seconds: float, leash: Leash) -> dict[str, Any]:
    """One work of one peer, in a process of its own."""
    try:
        argv = leash.argv(python, str(_SCRIPT), name, work, str(seconds), json.dumps(_programs()))
        env = process.inherited_env("HOME", "DOCKER_HOST")
        ended = process.run(argv, timeout=_SECONDS, env=env, pass_fds=[leash.fd])
        told = json.loads(ended.stdout)
    except subprocess.TimeoutExpired:
        return {"error": f"it was not done after {_SECONDS:.0f} s"}
    except BackendUnavailable as error:
        return {"error": error.message}
    except (OSError, ValueError):
        return {"error": "it ended without a result"}
    if "error" in told:
        return dict(told)
    return {"version": told["version"], **summary(told["samples"], least=told["rate"])}


def _programs() -> dict[str, Any]:
    """What a peer that is no package needs: the same programs that our sandboxes are made of."""
    uid = host.drop_uid()
    found = host.bwraps(uid)
    return {
        "bwrap": found[0] if found else None,
        "docker": shutil.which("docker", path=process.BASE_PATH),
        "image": images.image_name(),
        "python": host.guest_python(uid).path,
        "at_once": AT_ONCE,
    }
