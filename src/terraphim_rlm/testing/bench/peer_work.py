"""Runs in a peer's own environment: `peer_work.py PEER WORK SECONDS PROGRAMS`. Standard library and the peer only.

Prints one object: `{"version", "samples", "rate"}`, or `{"version", "error"}`. Samples are milliseconds, MB, or
completions a minute; `rate` says whether more is better.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module, metadata
from typing import Any

_MOST = 1_000
_PIPE, _DEVNULL = -1, -3  # of Popen; nothing else here needs its module


class NotOffered(Exception):
    """The peer has nothing like this work."""


class LlmSandbox:
    """A container for each session."""

    def __init__(self, programs: dict[str, Any]) -> None:
        self.version = metadata.version("llm-sandbox")
        self._session: Any = import_module("llm_sandbox").SandboxSession

    def open(self) -> Any:
        session = self._session(lang="python", keep_template=True)
        session.open()
        return session

    def run(self, session: Any, code: str) -> str:
        return str(session.run(code).stdout)

    def command(self, session: Any, line: str) -> str:
        return str(session.execute_command(line).stdout)

    def processes(self, session: Any) -> list[int]:
        raise NotOffered("its processes are the container engine's")

    def close(self, session: Any) -> None:
        session.close()


class Smolagents:
    """An interpreter of a part of Python, in the caller's own process: no isolation."""

    def __init__(self, programs: dict[str, Any]) -> None:
        self.version = metadata.version("smolagents")
        self._executor: Any = import_module("smolagents.local_python_executor").LocalPythonExecutor

    def open(self) -> Any:
        executor = self._executor(additional_authorized_imports=[])
        executor.send_tools({})
        return executor

    def run(self, executor: Any, code: str) -> str:
        return str(executor(code).logs)

    def command(self, executor: Any, line: str) -> str:
        raise NotOffered("it runs no commands")

    def processes(self, executor: Any) -> list[int]:
        raise NotOffered("it lives in its caller's process")

    def close(self, executor: Any) -> None:
        pass


class PlainBwrap:
    """`bwrap .. python3 -i` by hand, spoken to over pipes: no limits, no filter, no status, no time-out.

    It is no package: it works in this project's own environment.
    """

    def __init__(self, programs: dict[str, Any]) -> None:
        if not programs["bwrap"]:
            raise NotOffered("there is no bwrap here")
        self._process: Any = import_module("terraphim_rlm.core.process")
        self._bwrap = [
            programs["bwrap"], "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/",
            "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/home", "--chdir", "/home", "--",
        ]  # fmt: skip
        self._python = [programs["python"], "-I", "-S", "-q", "-u", "-i"]
        self._env = self._process.MINIMAL_ENV
        self.version = self._said([programs["bwrap"], "--version"]).split()[-1]

    def _said(self, argv: list[str]) -> str:
        ended = self._process.run(argv, timeout=20, env=self._env)
        if ended.returncode:
            raise OSError(ended.stderr.decode(errors="replace"))
        return str(ended.stdout.decode())

    def open(self) -> Any:
        return self._process.start(
            self._bwrap + self._python, env=self._env, stdin=_PIPE, stdout=_PIPE, stderr=_DEVNULL, bufsize=0
        )

    def run(self, child: Any, code: str) -> str:
        child.stdin.write(code.encode() + b"\n")
        return str(child.stdout.readline().decode())

    def command(self, child: Any, line: str) -> str:
        return self._said([*self._bwrap, "/bin/sh", "-c", line])

    def processes(self, child: Any) -> list[int]:
        found = [child.pid]
        for pid in found:
            with open(f"/proc/{pid}/task/{pid}/children") as file:
                found += map(int, file.read().split())
        return found

    def close(self, child: Any) -> None:
        with child:
            child.kill()


class PlainDocker(PlainBwrap):
    """`docker run -i .. python3 -i` by hand, with the image of our sandboxes: no limits, no status, no time-out."""

    def __init__(self, programs: dict[str, Any]) -> None:
        if not programs["docker"]:
            raise NotOffered("there is no docker program here")
        self._process = import_module("terraphim_rlm.core.process")
        self._env = self._process.inherited_env("HOME", "DOCKER_HOST")
        self._bwrap = [programs["docker"], "run", "--rm", "-i", "--network", "none", programs["image"]]
        self._python = ["python3", "-I", "-S", "-q", "-u", "-i"]
        self.version = self._said([programs["docker"], "--version"]).split()[2].rstrip(",")

    def processes(self, child: Any) -> list[int]:
        raise NotOffered("its processes are the engine's")


PEERS: dict[str, Any] = {
    "llm-sandbox": LlmSandbox,
    "smolagents": Smolagents,
    "bwrap python3": PlainBwrap,
    "docker run": PlainDocker,
}


def _answered(peer: Any, box: Any) -> None:
    if (said := peer.run(box, "print(1)").strip()) != "1":
        raise AssertionError(f"print(1) gave {said!r}")


def cold_start(peer: Any, programs: dict[str, Any], seconds: float) -> list[float]:
    def start() -> float:
        started = time.perf_counter()
        box = peer.open()
        _answered(peer, box)
        elapsed = time.perf_counter() - started
        peer.close(box)
        return elapsed * 1000

    return _for(seconds, start)


def round_trip(peer: Any, programs: dict[str, Any], seconds: float) -> list[float]:
    return _in_one(peer, seconds, lambda box: _answered(peer, box))


def command(peer: Any, programs: dict[str, Any], seconds: float) -> list[float]:
    def one(box: Any) -> None:
        if (said := peer.command(box, "echo 1").strip()) != "1":
            raise AssertionError(f"echo 1 gave {said!r}")

    return _in_one(peer, seconds, one)


def idle_memory(peer: Any, programs: dict[str, Any], seconds: float) -> list[float]:
    boxes = [peer.open() for _ in range(4)]
    try:
        for box in boxes:
            _answered(peer, box)
        return [sum(map(_pss_mb, peer.processes(box))) for box in boxes]
    finally:
        for box in boxes:
            peer.close(box)


def independent(peer: Any, programs: dict[str, Any], seconds: float) -> list[float]:
    def one() -> None:
        box = peer.open()
        try:
            _answered(peer, box)
        finally:
            peer.close(box)

    return _rate([one] * programs["at_once"], seconds)


def warm(peer: Any, programs: dict[str, Any], seconds: float) -> list[float]:
    boxes = [peer.open() for _ in range(programs["at_once"])]
    try:
        return _rate([partial(_answered, peer, box) for box in boxes], seconds)
    finally:
        for box in boxes:
            peer.close(box)


WORKS: dict[str, Callable[[Any, dict[str, Any], float], list[float]]] = {
    "cold start": cold_start,
    "round trip": round_trip,
    "command": command,
    "idle memory": idle_memory,
    "independent": independent,
    "warm": warm,
}
_RATES = ("independent", "warm")


def _in_one(peer: Any, seconds: float, work: Callable[[Any], None]) -> list[float]:
    def one() -> float:
        started = time.perf_counter()
        work(box)
        return (time.perf_counter() - started) * 1000

    box = peer.open()
    try:
        _answered(peer, box)
        return _for(seconds, one)
    finally:
        peer.close(box)


def _for(seconds: float, work: Callable[[], float]) -> list[float]:
    """At least two samples; the first of all is not one of them."""
    work()
    end = time.perf_counter() + seconds
    samples = [work()]
    while time.perf_counter() < end and len(samples) < _MOST:
        samples.append(work())
    return samples


def _rate(workers: list[Callable[[], None]], seconds: float) -> list[float]:
    """Completions a minute of all together; each worker in a thread."""
    done: list[int] = []
    end = time.perf_counter() + seconds

    def repeat(work: Callable[[], None]) -> None:
        while time.perf_counter() < end:
            work()
            done.append(1)

    with ThreadPoolExecutor(len(workers)) as pool:
        for ended in [pool.submit(repeat, work) for work in workers]:
            ended.result()
    return [len(done) * 60 / seconds]


def _pss_mb(pid: int) -> float:
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Pss:")) / 1024


def main(name: str, work: str, seconds: str, programs: str) -> dict[str, Any]:
    told: dict[str, Any] = {"version": None}
    try:
        known = json.loads(programs)
        peer = PEERS[name](known)
        told["version"] = peer.version
        samples = WORKS[work](peer, known, float(seconds))
    except NotOffered as error:
        return {**told, "error": f"not offered: {error}"}
    except Exception as error:
        return {**told, "error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    return {**told, "samples": samples, "rate": work in _RATES}


if __name__ == "__main__":
    # What the peer itself prints or logs goes elsewhere than the result.
    result = os.dup(1)
    os.dup2(2, 1)
    with os.fdopen(result, "w") as out:
        json.dump(main(*sys.argv[1:]), out)
