"""The daemon of sessions in the laboratory: started, asked, killed; its health (I1) and its history (I8)."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from terraphim_rlm.core import process
from terraphim_rlm.core.sockets import reachable
from terraphim_rlm.sandbox.keeper import orphans
from terraphim_rlm.testing.attack.lab import Lab

HEALTH_SECONDS = 1.0
_TRIES = 3
"""Of which one must be in time: another program may have the machine for a moment."""
_SECONDS = 60.0
_END_SECONDS = 10.0
_MAIN = "from terraphim_rlm.faces.cli import main; main()"
_WEAK = "terraphim_rlm.testing.attack.weak_service"
_STARTED = "Serving on "


@dataclass(frozen=True, slots=True)
class Answer:
    """What the daemon answered to one request."""

    status: int
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("daemon", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_SECONDS)
        with reachable(self._path) as address:
            self.sock.connect(address)


class Service:
    """A daemon of the row's own, with a data folder of its own. An async context manager.

    Args:
        off: protections that it is without.
    """

    def __init__(self, lab: Lab, off: Sequence[str] = ()) -> None:
        self.data = lab.root / "service"
        self._lab = lab
        self._off = tuple(off)
        self._child: subprocess.Popen[bytes] | None = None
        self._path = Path()
        self._told: dict[str, str] = {}
        """Execution -> status, as it was answered."""

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await asyncio.to_thread(self._remove)

    @property
    def pid(self) -> int:
        assert self._child is not None, "the daemon does not run"
        return self._child.pid

    @property
    def path(self) -> Path:
        """Of its socket."""
        return self._path

    def start(self) -> None:
        """Starts it over whatever its data folder holds; returns once it listens. Blocking."""
        own = {
            "TRLM_DATA": str(self.data),
            "HOME": str(self._lab.root),
            "TMPDIR": str(self._lab.root / "tmp"),
        }
        modules = os.pathsep.join(path for path in sys.path if path)
        env = {**process.MINIMAL_ENV, **own, "PYTHONPATH": modules, "PYTHONDONTWRITEBYTECODE": "1"}
        what = ["-m", _WEAK, str(self._lab.root), *self._off] if self._off else ["-c", _MAIN, "serve"]
        argv = [sys.executable, "-P", *what, *([] if self._off else ["--idle-seconds", "0"])]
        child = process.start(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert child.stderr is not None
        self._child = child
        line = child.stderr.readline().decode()
        assert line.startswith(_STARTED), f"the daemon did not start: {line}{child.stderr.read().decode()}"
        self._path = Path(line.removeprefix(_STARTED).partition(", process")[0])

    def kill(self) -> set[int]:
        """Kills it by signal 9; what had come of it, by process ids. Blocking."""
        child, self._child = self._child, None
        assert child is not None
        family = below(child.pid)
        child.kill()
        child.wait()
        if child.stderr is not None:
            child.stderr.close()
        return family

    def _remove(self) -> None:
        if self._child is not None:
            left = alive(self.kill(), _END_SECONDS)
            for pid in left if self._off else ():
                os.kill(pid, signal.SIGKILL)
            assert self._off or not left, f"processes of the daemon outlived it: {left}"
        shutil.rmtree(self.data, ignore_errors=True)

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request; a body that is no bytes goes as JSON. Blocking."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        given = {**({} if data is None else {"Content-Type": "application/json"}), **(headers or {})}
        with contextlib.closing(_Connection(self._path)) as connection:
            connection.request(method, path, data, given)
            response = connection.getresponse()
            return Answer(response.status, response.read())

    async def call(self, method: str, path: str, body: Any = None) -> Answer:
        return await asyncio.to_thread(self.ask, method, path, body)

    async def session(self, **wanted: Any) -> str:
        wanted = {"guard": "off", **wanted}  # it is the sandbox that is attacked
        answer = await self.call("POST", "/api/sessions", wanted)
        assert answer.status == 201, answer.body
        return str(answer.json["id"])

    async def run(self, session: str, code: str, **options: Any) -> dict[str, Any]:
        """Runs code to its end and remembers how that was told."""
        answer = await self.call("POST", f"/api/sessions/{session}/executions", {"code": code, **options})
        assert answer.status == 200, answer.body
        result: dict[str, Any] = answer.json
        self._told[result["execution_id"]] = result["status"]
        return result

    def leave(self, session: str, code: str, **options: Any) -> socket.socket:
        """Begins an execution and returns once it runs; closing the socket is a client that leaves. Blocking."""
        body = json.dumps({"code": code, **options}).encode()
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(_SECONDS)
        with reachable(self._path) as address:
            sock.connect(address)
        head = f"POST /api/sessions/{session}/executions HTTP/1.1\r\nHost: daemon\r\nAccept: application/x-ndjson\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        sock.sendall(head.encode() + body)
        got = b""
        while b'"output"' not in got:
            piece = sock.recv(1 << 16)
            assert piece, got
            got += piece
        return sock

    async def history(self) -> list[dict[str, Any]]:
        """All executions, newest first."""
        answer = await self.call("GET", "/api/history?limit=10000")
        assert answer.status == 200, answer.body
        return list(answer.json["executions"])

    async def breaches(self) -> list[str]:
        """Whether it is well (I1), and has one record of each execution, also after it was killed (I8)."""
        if self._child is None:
            await asyncio.to_thread(self.start)
        found = await self._health()
        found += unlike(self._told, await self.history(), "")
        await asyncio.to_thread(lambda: alive(self.kill(), _END_SECONDS))
        await asyncio.to_thread(self.start)
        return found + unlike(self._told, await self.history(), " after a kill and a restart")

    async def _health(self) -> list[str]:
        shortest, answer = _SECONDS, None
        for _ in range(_TRIES):
            began = time.monotonic()
            answer = await self.call("GET", "/health")
            shortest = min(shortest, time.monotonic() - began)
        assert answer is not None
        if answer.status != 200 or answer.json["pid"] != self.pid:
            return [f"I1: the service answers {answer.status}: {answer.body[:80]!r}"]
        return [f"I1: the service took {shortest:.1f} s to answer"] if shortest > HEALTH_SECONDS else []


def unlike(told: Mapping[str, str], records: Iterable[Mapping[str, Any]], when: str) -> list[str]:
    """How a history differs from what was answered: not one record, another status, one that is still running."""
    statuses: dict[str, list[str]] = {}
    for record in records:
        statuses.setdefault(record["id"], []).append(record["status"])
    found = []
    for number, status in told.items():
        if statuses.get(number) != [status]:
            found.append(
                f"I8: {number} was answered as {status}, and is recorded as {statuses.get(number)}{when}"
            )
    if open_ones := [number for number, each in statuses.items() if "running" in each]:
        found.append(f"I8: {len(open_ones)} executions are recorded as running{when}")
    return found


def below(ancestor: int) -> set[int]:
    """Process ids of all that came of a process."""
    parents = {int(name): orphans.parent(int(name)) for name in os.listdir("/proc") if name.isdigit()}
    found = {ancestor}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {ancestor}


def alive(pids: Iterable[int], seconds: float) -> set[int]:
    """Which of them still are after so long. Blocking."""
    deadline = time.monotonic() + seconds
    left = set()
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
                left.add(pid)
        finally:
            os.close(fd)
    return left
