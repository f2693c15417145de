"""A root filesystem from Debian's packages, as a tar archive: made by mmdebstrap, the same each time for the same packages."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from terraphim_rlm.core import process
from terraphim_rlm.core.errors import InvalidArgument, PackagesUnavailable
from terraphim_rlm.sandbox.languages.table import LANGUAGES

SUITE = "bookworm"
EPOCH = "1700000000"
"""The time that every file in an archive has at most: without one, two archives of the same packages would differ."""
_BASE = ("python3", "python3-pip", "ca-certificates")
_BY_LANGUAGE: Mapping[str, tuple[str, ...]] = {
    "python": (), "bash": (), "javascript": ("nodejs",), "rust": ("rustc", "gcc", "libc6-dev"), "go": ("golang-go",),
}  # fmt: skip
COMMON = ("numpy", "pandas", "requests", "yaml", "lxml", "matplotlib", "pytest")
"""Python packages of the default image, by Debian's names without `python3-`."""
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]*")
_BLOCK = 1 << 20
_HOOK = """
set -e
root=$1
mkdir -p "$root/work" "$root/trlm"
chmod 1777 "$root/tmp" "$root/var/tmp"
printf '127.0.0.1 localhost sandbox\\n::1 localhost\\n' >"$root/etc/hosts"
printf 'passwd: files\\ngroup: files\\nhosts: files dns\\n' >"$root/etc/nsswitch.conf"
printf 'root:x:0:0:root:/:/usr/sbin/nologin\\nsandbox:x:65534:65534:sandbox:/work:/bin/sh\\n' >"$root/etc/passwd"
printf 'root:x:0:\\nsandbox:x:65534:\\n' >"$root/etc/group"
rm -rf "$root"/etc/shadow* "$root"/etc/gshadow* "$root"/etc/passwd- "$root"/etc/group- "$root"/etc/resolv.conf
rm -rf "$root"/var/log/* "$root"/var/cache/* "$root"/var/lib/apt/lists/* "$root"/usr/share/doc/* "$root"/usr/share/man/*
find "$root" -xdev -type f -perm /6000 -exec chmod a-s {} +
printf 'sandbox\\n' >"$root/etc/hostname"
rm -f "$root/etc/machine-id"
"""
"""What is changed in it at last: no programs that change their user, no logs, no caches, nobody else's account."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a root filesystem holds."""

    languages: tuple[str, ...] = tuple(LANGUAGES)
    packages: tuple[str, ...] = COMMON
    """Python packages, by Debian's names without `python3-`."""
    suite: str = SUITE

    def debian_packages(self) -> list[str]:
        """Raises InvalidArgument."""
        wanted: set[str] = set(_BASE)
        for language in self.languages:
            if language not in _BY_LANGUAGE:
                raise InvalidArgument(
                    f"There is no language {language!r}.", fix=f"Use some of: {', '.join(_BY_LANGUAGE)}."
                )
            wanted.update(_BY_LANGUAGE[language])
        for package in self.packages:
            if not _NAME.fullmatch(package):
                raise InvalidArgument(
                    f"{package!r} is no name of a package.", fix="Name packages such as numpy or scipy."
                )
            wanted.add(f"python3-{package}")
        return sorted(wanted)


class Archive:
    """A root filesystem under way: an async iterator of its tar archive's bytes. Raises where it cannot be made."""

    def __init__(self, recipe: Recipe) -> None:
        program = shutil.which("mmdebstrap", path=process.BASE_PATH)
        if program is None:
            raise PackagesUnavailable(
                "mmdebstrap, which makes images of Debian's packages, is not installed.",
                fix="sudo apt install mmdebstrap, or build from a Dockerfile (--dockerfile).",
            )
        packages = ",".join(recipe.debian_packages())
        self.command = [
            program, "--quiet", "--variant=minbase", f"--include={packages}", f"--customize-hook=sh -c '{_quoted()}' hook \"$1\"",
            "--format=tar", recipe.suite, "-",
        ]  # fmt: skip

    async def blocks(self) -> AsyncIterator[bytes]:
        """Raises PackagesUnavailable."""
        loop = asyncio.get_running_loop()
        names = ("HOME", "TMPDIR", "http_proxy", "https_proxy", "no_proxy")
        env = {**process.inherited_env(*names), "SOURCE_DATE_EPOCH": EPOCH}
        child = process.start(self.command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stderr is not None
        said = loop.run_in_executor(None, child.stderr.read)
        try:
            while block := await asyncio.to_thread(child.stdout.read, _BLOCK):
                yield block
            code = await asyncio.to_thread(child.wait)
        finally:
            if child.poll() is None:
                child.terminate()  # it unmounts and removes what it made
                await asyncio.to_thread(child.wait)
            child.stdout.close()
            text = (await said).decode("utf-8", "replace").strip()
            child.stderr.close()
        if code != 0:
            raise PackagesUnavailable(
                f"mmdebstrap made no image (exit code {code}): {text[-600:]}",
                fix="See that these packages exist in Debian, and that its mirror and enough disk space can be had.",
            )


def _quoted() -> str:
    return _HOOK.strip().replace("'", "'\\''")
