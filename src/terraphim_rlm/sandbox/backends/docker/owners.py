"""Whose a container is, told by its labels; and the end of those whose owner died."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from terraphim_rlm.sandbox.backends.docker.engine import Engine, Refused

OWNER = "terraphim-rlm.owner"
_PROCESS = "terraphim-rlm.process"
"""`BOOT PIDNS PID STARTED`: the owner's process, so that another one can tell whether it still lives."""
_STARTED_FIELD = 21


def labels() -> tuple[str, dict[str, str]]:
    """A new owner's name, and the labels of everything that it makes: one of this process."""
    name = secrets.token_hex(8)
    started = _started(os.getpid())
    return name, {OWNER: name, _PROCESS: f"{_boot()} {_space()} {os.getpid()} {started}"}


def is_dead(of: Mapping[str, str]) -> bool:
    """Whether the owner that these labels name has ended for sure: another machine's or namespace's cannot be told."""
    parts = of.get(_PROCESS, "").split(" ")
    if len(parts) != 4 or not parts[2].isdigit():
        return False
    boot, space, pid, started = parts
    if boot == _boot():
        return space == _space() and _started(int(pid)) != started
    return False


async def reclaim(engine: Engine) -> int:
    """Removes the containers of owners that died; how many there were.

    Raises:
        EngineGone: the engine does not answer.
    """
    removed = 0
    filters = {"label": [OWNER]}
    for each in await engine.call("GET", "/containers/json", all="1", filters=filters):
        if is_dead(each.get("Labels") or {}):
            await remove(engine, each["Id"])
            removed += 1
    return removed


async def remove(engine: Engine, container: str) -> None:
    """Kills and removes it, if it is still there. Raises EngineGone."""
    with suppress(Refused):  # it is being removed already, or gone
        await engine.call("DELETE", f"/containers/{container}", force="1", v="1")


async def those_of(engine: Engine, owner: str) -> list[dict[str, Any]]:
    """Containers of an owner that are there, in whatever state. Raises EngineGone."""
    found: list[dict[str, Any]] = await engine.call(
        "GET", "/containers/json", all="1", filters={"label": [f"{OWNER}={owner}"]}
    )
    return found


@cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@cache
def _space() -> str:
    return str(os.stat("/proc/self/ns/pid").st_ino)


def _started(pid: int) -> str:
    """When a process started, in the kernel's ticks; empty when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[_STARTED_FIELD - 2]
