"""A daemon of a test's own, and plain HTTP to it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TRLM = Path(sys.executable).with_name("trlm")


def environment(data: Path, **extra: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(data.parent),
        "TRLM_DATA": str(data),
        "TRLM_CONFIG": str(data / "none"),
        **extra,
    }


def trlm(*words: str, data: Path, timeout: float = 60, **options: Any) -> subprocess.CompletedProcess[str]:
    extra = options.pop("env", {})
    return subprocess.run(
        [str(TRLM), *words],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=environment(data, **extra),
        **options,
    )


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Said:
    """What a command line said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def data(self) -> Any:
        assert self.json["success"], self.out
        return self.json["data"]


Cli = Callable[..., Said]


class Unix(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("daemon", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(str(self._path))


class Daemon:
    """A running daemon."""

    def __init__(self, child: subprocess.Popen[bytes], path: Path, data: Path, url: str = "") -> None:
        self.child = child
        self.path = path
        self.data = data
        self.url = url
        """Of its TCP port; empty where it has none."""

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        given = (
            {"Content-Type": "application/json", **(headers or {})}
            if data is not None
            else dict(headers or {})
        )
        connection = Unix(self.path)
        try:
            connection.request(method, path, data, given)
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def session(self, **wanted: Any) -> str:
        answer = self.ask("POST", "/api/sessions", wanted)
        assert answer.status == 201, answer.body
        return str(answer.json["id"])

    def run(self, session: str, code: str, **options: Any) -> Any:
        answer = self.ask("POST", f"/api/sessions/{session}/executions", {"code": code, **options})
        assert answer.status == 200, answer.body
        return answer.json

    def end(self, number: int = signal.SIGTERM) -> int:
        self.child.send_signal(number)
        return self.child.wait(30)

    def sandboxes(self) -> set[int]:
        """Everything that came of the daemon: the keeper, and what runs in sandboxes."""
        return below(self.child.pid)


def below(ancestor: int) -> set[int]:
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found: set[int] = set()
    while more := {pid for pid, parent in parents.items() if parent in found | {ancestor}} - found:
        found |= more
    return found


def gone(pids: set[int], seconds: float = 15.0) -> None:
    """Waits, by their pidfds, until they are."""
    deadline = time.monotonic() + seconds
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            fd = os.pidfd_open(pid)
            try:
                left = max(0.0, deadline - time.monotonic())
                assert select.select([fd], [], [], left)[0], f"process {pid} is still there"
            finally:
                os.close(fd)


@contextlib.contextmanager
def served(data: Path, *words: str, **extra: str) -> Iterator[Daemon]:
    """`trlm serve`, from the moment that it can be connected to; killed at the end if it still runs."""
    command = [str(TRLM), "serve", "--idle-seconds", "0", *words]
    with running(command, environment(data, **extra), data) as daemon:
        yield daemon


@contextlib.contextmanager
def running(command: list[str], env: dict[str, str], data: Path) -> Iterator[Daemon]:
    child = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        assert child.stderr is not None
        line = child.stderr.readline().decode()
        assert line.startswith("Serving on "), line + child.stderr.read().decode()
        url = line.partition(" and ")[2].partition(", process")[0]
        yield Daemon(
            child,
            Path(line.removeprefix("Serving on ").partition(", process")[0].partition(" and http")[0]),
            data,
            url,
        )
    finally:
        left = below(child.pid)
        child.kill()
        child.wait(10)
        child.stderr.close()
        gone(left)
