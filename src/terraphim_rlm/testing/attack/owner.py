"""A program that owns sandboxes, to be killed while it makes them: `python -m .. FOLDER PROTECTION..`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from terraphim_rlm.sandbox.contract import SandboxSpec
from terraphim_rlm.sandbox.sandbox import Sandbox
from terraphim_rlm.sandbox.selection import choose
from terraphim_rlm.testing.attack.model import SMALL
from terraphim_rlm.testing.attack.protections import PROTECTIONS
from terraphim_rlm.testing.attack.weak import without
from terraphim_rlm.testing.attack.weak_service import Folder

_STARTS = 100


async def _start_for_ever() -> None:
    async with await choose("bubblewrap") as backend:
        for _ in range(_STARTS):
            box = Sandbox(backend, SandboxSpec(SMALL))
            await box.start()
            await box.run("import subprocess; subprocess.Popen(['sleep', '300'])")
            sys.stdout.write(f"{maker(box)}\n")
            sys.stdout.flush()


def maker(box: Sandbox) -> str:
    """`keeper` where bubblewrap made it, whose process is a child of that; else `zygote`."""
    pid = box.machine.guest.link.kept.pid  # type: ignore[attr-defined]
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    parent = Path("/proc", stat.rpartition(")")[2].split()[1], "cmdline")
    return "keeper" if b"keeper/start.py" in parent.read_bytes() else "zygote"


def main(arguments: Sequence[str]) -> int:
    folder, *names = arguments
    with without([PROTECTIONS[name] for name in names], Folder(Path(folder))):
        sys.stdout.write("starting\n")
        sys.stdout.flush()
        asyncio.run(_start_for_ever())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
