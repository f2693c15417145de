"""pip as a child process: wheels from the user's own package index, by the user's own pip settings.

No code of a package runs on the host. Wheels hold none that runs when they are installed, and whatever else could
bring some in (a source archive that a wheel names as its dependency by URL, a repository) needs a process of its own
to be built or fetched: the child refuses to start any.
"""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from terraphim_rlm.core import process

TIMEOUT = 3600.0
"""Seconds for all of it: 90 MB at 25 kB/s."""
LOOK_EVERY = 0.2
_MOST_SAID = 2_000_000
_SETTINGS = (
    "HOME", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS", "XDG_CACHE_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
    "http_proxy", "https_proxy", "all_proxy", "no_proxy",
)  # fmt: skip
_OVERRULED: Mapping[str, str] = {"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", "PIP_NO_COLOR": "1"}
"""Settings that say how to install into the user's own Python, which is not done here."""
_REFUSED = "pip may not start another process here"
_DRIVER = f"""
import ctypes, os, runpy, sys
place, parent, then, *sys.argv[1:] = sys.argv[1:]
ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG, SIGKILL
if os.getppid() != int(parent):
    os._exit(1)
os.umask(0o022)
def refuse(event, arguments):
    if event in ("subprocess.Popen", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "pty.spawn"):
        raise PermissionError({_REFUSED!r})
sys.addaudithook(refuse)
sys.path.insert(0, place)
import pip
sys.path.remove(place)
try:
    runpy.run_module("pip", run_name="__main__", alter_sys=True)
except SystemExit as end:
    if end.code:
        raise
exec(then)
"""
"""Arguments: the folder that pip lies in, our pid, code to run at last, and then pip's own arguments."""
_LOGIN = re.compile(r"//[^/\s@]+@")

Fault = Literal[
    "no_pip", "time", "stopped", "disk_full", "hashes", "conflict", "builds", "invalid", "not_found", "unreachable", "other"
]  # fmt: skip
_SIGNS: tuple[tuple[str, Fault], ...] = (
    (r"No space left on device|Disk quota exceeded", "disk_full"),
    (r"DO NOT MATCH THE HASHES", "hashes"),
    (re.escape(_REFUSED), "builds"),
    (r"ERROR: Invalid requirement", "invalid"),
    (r"ResolutionImpossible", "conflict"),
    (r"\(from versions: (?!none\))", "not_found"),
    (r"Retrying \(Retry\(|NewConnectionError|Could not fetch URL .*: connection error", "unreachable"),
    (r"No matching distribution", "not_found"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PipEnd:
    """How a run of pip ended."""

    fault: Fault | None
    """None when all went well."""
    said: str = ""
    """Its log without logins, the last 2 MB."""

    @property
    def reason(self) -> str:
        """The line of the log that says most, at most 300 characters."""
        lines = [line.strip() for line in self.said.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")]
        return (errors or lines or ["it said nothing"])[-1][:300]


def run(
    arguments: Sequence[str],
    folder: Path,
    *,
    python: str = sys.executable,
    then: str = "",
    look: Callable[[str], None] = lambda log: None,
    stop: threading.Event | None = None,
    timeout: float = TIMEOUT,
) -> PipEnd:
    """Runs this installation's pip. Blocking. However it ends, pip has ended, and it ends when this process does.

    Args:
        arguments: of pip; their order after the command is pip's.
        folder: is written to: log and temporary files.
        python: the interpreter that runs it, and for which it so chooses wheels.
        then: source to run in the same process when pip is done; it may not start processes either.
        look: called some times a second with the lines that the log has grown by.
        stop: ends pip when it is set.
    """
    found = importlib.util.find_spec("pip")
    if found is None or found.origin is None:
        return PipEnd("no_pip")
    place = str(Path(found.origin).parents[1])
    argv = [python, "-I", "-u", "-c", _DRIVER, place, str(os.getpid()), then, *arguments]
    env = process.inherited_env(*_SETTINGS, *(name for name in os.environ if name.startswith("PIP_")))
    env |= {**_OVERRULED, "TMPDIR": str(folder)}
    stop = stop or threading.Event()
    with (folder / "pip.log").open("w+b") as log, (folder / "pip.log").open("rb") as seen:
        code = _wait(argv, env, folder, log, lambda: look(_grown(seen)), stop, timeout)
        look(_grown(seen))
        seen.seek(max(0, log.tell() - _MOST_SAID))
        said = _LOGIN.sub("//***@", seen.read().decode("utf-8", "replace"))
    if stop.is_set():  # also when it came too late for pip: who has stopped does not want it
        return PipEnd("stopped", said)
    if isinstance(code, str):
        return PipEnd(code, said)
    return PipEnd(_fault(said) if code else None, said)


def _wait(
    argv: list[str],
    env: Mapping[str, str],
    folder: Path,
    log: IO[bytes],
    look: Callable[[], None],
    stop: threading.Event,
    timeout: float,
) -> int | Literal["stopped", "time"]:
    """The exit code, or why there is none."""
    deadline = time.monotonic() + timeout
    with process.start(argv, env=env, stdout=log, stderr=log, cwd=str(folder)) as child:
        try:
            while time.monotonic() < deadline:
                try:
                    return child.wait(LOOK_EVERY)
                except subprocess.TimeoutExpired:
                    look()
                if stop.is_set():
                    return "stopped"
            return "time"
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)


def _grown(log: IO[bytes]) -> str:
    """Whole lines that came since the last call; the rest of one is left for the next."""
    data = log.read(_MOST_SAID)
    whole = data.rfind(b"\n") + 1
    log.seek(whole - len(data), os.SEEK_CUR)
    return data[:whole].decode("utf-8", "replace")


def _fault(said: str) -> Fault:
    for sign, fault in _SIGNS:
        if re.search(sign, said):
            return fault
    return "other"
