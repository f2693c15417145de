"""What these tests share: a guest that evaluates expressions, and ways to find what a sandbox left behind."""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from terraphim_rlm.core.values import Resources
from terraphim_rlm.sandbox.backends.bubblewrap.backend import Link
from terraphim_rlm.sandbox.contract import SandboxSpec

EVALUATE = b"""
import posix, sys, _socket
host = _socket.socket(fileno=int(sys.argv[1]))
host.send(b"hello")
names = {"posix": posix, "sys": sys}
while True:
    data = host.recv(65536)
    if not data:
        break
    try:
        if data[:3] in (b"do ", b"do\\n"):
            exec(data[3:], names)
            answer = "done"
        else:
            answer = repr(eval(data, names))
    except BaseException as error:
        answer = "!" + repr(error)
    host.send(answer.encode()[:65536])
"""


def marked() -> SandboxSpec:
    """A sandbox whose processes can be told from all others: its limit of processes stands on its command line."""
    return SandboxSpec(Resources(pids=1_000_000 + secrets.randbelow(3_000_000)), guest={"start.py": EVALUATE})


SPEC = SandboxSpec(guest={"start.py": EVALUATE})


async def ask(link: Link, expression: str) -> str:
    """The value of `expression` in the sandbox, as repr; `!` and the exception if it raised. `do ..` executes."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(link.socket, expression.encode())
    return (await loop.sock_recv(link.socket, 65536)).decode()


async def opened(backend: object, spec: SandboxSpec = SPEC) -> Link:
    """A sandbox whose greeting has been read."""
    link: Link = await backend.boot(spec)  # type: ignore[attr-defined]
    assert link.socket.recv(64) == b"hello"
    return link


def processes(spec: SandboxSpec) -> list[int]:
    """Host pids whose command line carries the mark of `spec`."""
    mark = f"NPROC={spec.resources.pids}".encode()
    return [pid for pid in _pids() if mark in _command(pid)]


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def groups_of(owner: int) -> list[str]:
    """Control groups that name `owner` as theirs, in any hierarchy."""
    pattern = f".{owner}."
    found: list[str] = []
    for folder, names, _files in os.walk("/sys/fs/cgroup"):
        found += [f"{folder}/{name}" for name in names if name.startswith("trlm-") and pattern in name]
    return found


def descriptors() -> list[str]:
    """What this process holds open, by target."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            continue
    return sorted(target.split(":")[0] for target in found)


@contextmanager
def readable_folder() -> Iterator[Path]:
    """A folder that every uid can read; pytest's own are closed to other users."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)
