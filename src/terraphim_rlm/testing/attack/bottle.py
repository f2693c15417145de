"""A throwaway host: a process with its own pids, mounts, network, names and IPC, and hard bounds.

Controls run in one, and so does every row that names an address. What they break is gone with it.
`python -m terraphim_rlm.testing.attack.bottle row|control ID FOLDER SEED [CGROUP..]` is what runs inside.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Literal

from terraphim_rlm.core import process
from terraphim_rlm.sandbox.keeper.groups import Group, Groups, hierarchies
from terraphim_rlm.testing.attack.lab import Lab
from terraphim_rlm.testing.attack.model import Outcome, Row

SECONDS = 30.0
"""Wall time that a bottle takes besides its row; then all of it is killed."""
_BOUNDS = {"memory": 3 << 30, "pids": 400}
_CPU_SECONDS = 120
_NAMESPACES = ("--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc")


def command(arguments: Sequence[str]) -> list[str]:
    """`arguments` in namespaces of their own; an ordinary user becomes root of nothing but them."""
    user = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    return ["unshare", *user, *_NAMESPACES, "--", *arguments]


def why_none() -> str:
    """Why this machine has no bottles for us; empty when it has."""
    try:
        done = process.run(command(["true"]), timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no throwaway namespaces here: {error}"
    said = done.stderr.decode("utf-8", "replace").strip()
    return f"no throwaway namespaces here: {said[-200:]}" if done.returncode else ""


async def in_bottle(
    kind: Literal["row", "control"], row: Row, lab: Lab, seed: int = 0, backend: str = "bubblewrap"
) -> Outcome:
    """Runs a row or its control in a bottle of its own. Controls are of bubblewrap, whose protections can be taken off."""
    return await asyncio.to_thread(_run, kind, row, lab, seed, backend)


def _run(kind: Literal["row", "control"], row: Row, lab: Lab, seed: int, backend: str) -> Outcome:
    groups = Groups(hierarchies(_text("/proc/self/mountinfo"), _text("/proc/self/cgroup")), os.getpid())
    group = groups.make("bottle", _BOUNDS) if os.geteuid() == 0 else Group()
    argv = [sys.executable, "-P", "-m", __name__, kind, row.id, str(lab.root / "tmp"), str(seed), backend]
    seconds = SECONDS + row.deadline
    try:
        done = process.run(command([*argv, *group.entrances()]), timeout=seconds, env=_environment())
    except subprocess.TimeoutExpired:
        return Outcome(row.id, kind, "failed", f"it was not over after {seconds:.0f} s", seconds, hung=True)
    finally:
        while not group.remove():
            pass
        groups.close()
    try:
        return Outcome(**json.loads(done.stdout.splitlines()[-1]))
    except (ValueError, IndexError, TypeError):
        said = done.stderr.decode("utf-8", "replace").strip()[-400:]
        return Outcome(row.id, kind, "failed", f"its bottle broke (exit code {done.returncode}): {said}")


def _environment() -> dict[str, str]:
    """For the same modules as here, wherever they come from."""
    modules = os.pathsep.join(path for path in sys.path if path)
    own = {"PYTHONPATH": modules, "PYTHONDONTWRITEBYTECODE": "1", "TRLM_CONFIG": os.devnull}  # nobody else's
    return {**process.inherited_env("DOCKER_HOST", "TRLM_IMAGE"), **own}


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


async def _inside(kind: str, row: Row, folder: str, seed: int, backend: str) -> Outcome:
    from terraphim_rlm.testing.attack.control import run_control
    from terraphim_rlm.testing.attack.harness import Harness
    from terraphim_rlm.testing.attack.network import Sinks, close_off

    close_off()
    with Sinks() as sinks, Lab(folder) as lab:
        if kind == "control":
            return await run_control(row, lab, sinks)
        async with Harness(lab, sinks, backend) as harness:
            return await harness.run_row(row, seed)


def main(arguments: Sequence[str]) -> int:
    """Inside the bottle: bounds first, then the work; the outcome is the last line of the output."""
    from terraphim_rlm.testing.attack.table import ROWS

    kind, identity, folder, seed, backend, *groups = arguments
    if os.getppid() != 0:
        sys.stderr.write("Not in a bottle.\n")
        return 2
    for entrance in groups:
        with open(entrance, "wb", buffering=0) as file:
            file.write(b"0")
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    outcome = asyncio.run(_inside(kind, ROWS[identity], folder, int(seed), backend))
    sys.stdout.write(json.dumps(asdict(outcome)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
