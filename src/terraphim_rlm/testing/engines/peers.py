"""Other engines as processes of this one: each in the environment that pip made for it, one job after another."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from terraphim_rlm.core import process
from terraphim_rlm.core.errors import BackendUnavailable
from terraphim_rlm.testing.bench.peers import Peer, python_of
from terraphim_rlm.testing.engines.leash import Leash

ENGINES = (
    Peer("rlms", "rlms==0.1.3"),
    Peer("dspy", "dspy==3.4.1"),
    Peer("rlmness", "rlmness==0.2.1"),
    Peer("recursive-llm", "recursive-llm==0.5.0"),
)
_SCRIPT = Path(__file__).with_name("peer_engines.py")


class PeerEngine:
    """One of them. A job that takes too long ends its process; the next job starts another."""

    def __init__(self, peer: Peer) -> None:
        self.name = peer.name
        self.version: str | None = None
        self._peer = peer
        self._process: subprocess.Popen[bytes] | None = None
        self._leash: Leash | None = None
        self._python: str | None = None

    async def job(self, job: dict[str, Any], seconds: float) -> dict[str, Any]:
        """`{"version", "told"}`, `{"version", "samples"}`, or `{"version", "error"}`; see `peer_engines`."""
        working = asyncio.ensure_future(asyncio.to_thread(self._done, job))
        try:
            done, _ = await asyncio.wait({working}, timeout=seconds)
        except asyncio.CancelledError:
            working.add_done_callback(_seen)
            self.kill()
            raise
        if not done:
            self.kill()
        try:
            return await working
        except (OSError, ValueError, BackendUnavailable) as error:
            self.kill()
            late = f"it was not done after {seconds:.0f} s"
            return {"version": self.version, "error": str(error) if done else late}

    def _done(self, job: dict[str, Any]) -> dict[str, Any]:
        running = self._started()
        assert running.stdin is not None
        assert running.stdout is not None
        running.stdin.write(json.dumps(job).encode() + b"\n")
        running.stdin.flush()
        line = running.stdout.readline()
        if not line:
            raise ValueError("its process ended without a result")
        told: dict[str, Any] = json.loads(line)
        self.version = told.get("version") or self.version
        return told

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            if self._python is None:
                self._python = python_of(self._peer)
            self._leash = leash = Leash()
            self._process = process.start(
                leash.argv(self._python, str(_SCRIPT), self.name),
                pass_fds=[leash.fd],
                env=process.inherited_env("HOME"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        return self._process

    def kill(self) -> None:
        """Ends its process, and all that it has started. Idempotent."""
        running, self._process = self._process, None
        if running is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        if self._leash is not None:
            self._leash.close()
        for stream in (running.stdin, running.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()


def _seen(working: asyncio.Future[dict[str, Any]]) -> None:
    """Nobody waits for it any more."""
    if not working.cancelled():
        working.exception()
