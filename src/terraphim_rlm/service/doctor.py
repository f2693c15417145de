"""The use case of looking at this installation: each check does what the real work does."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import importlib.util
import os
import platform
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from terraphim_rlm.core.errors import DiskFull, JournalUnavailable, ModelNotInstalled, RlmError
from terraphim_rlm.core.paths import data_dir
from terraphim_rlm.core.values import SCHEMA_VERSION, Check, to_json

OLDEST_PYTHON = (3, 11)
_BUILT = 1_793_000_000.0
"""Seconds since the epoch at a time (October 2026) before which nothing of this was written."""
_LITTLE_SPACE = 200_000_000
_SKEW = 120.0
_PATIENCE = 60.0
_CONNECT = 2.0


def healthy(checks: list[Check]) -> bool:
    """Whether nothing failed."""
    return all(check.status != "fail" for check in checks)


def checks_to_json(checks: list[Check]) -> dict[str, Any]:
    return {"schema_version": SCHEMA_VERSION, "healthy": healthy(checks), "checks": to_json(checks)}


async def examine(on_check: Callable[[Check], None] = lambda check: None) -> list[Check]:
    """Makes every check, the cheap ones first; none asks a model anything or costs money.

    Args:
        on_check: gets each check as it is made.
    """
    found: list[Check] = []
    for name, look in _LOOKS:
        for check in await _looked(name, look):
            found.append(check)
            on_check(check)
    return found


async def _looked(name: str, look: Callable[[], Awaitable[list[Check]]]) -> list[Check]:
    """A look that fails is a finding, too."""
    try:
        async with asyncio.timeout(_PATIENCE):
            return await look()
    except TimeoutError:
        return [
            Check(name, "fail", f"no end after {_PATIENCE:g} s", "Try again on a machine with less load.")
        ]
    except RlmError as error:
        return [Check(name, "fail", error.message, error.fix)]
    except OSError as error:
        return [Check(name, "fail", f"the system refused: {error}", "Mend what the evidence names.")]


async def _python() -> list[Check]:
    found = f"Python {platform.python_version()} at {sys.executable}"
    if sys.version_info < OLDEST_PYTHON:
        return [Check("python", "fail", found, "Install Python 3.11 or newer.")]
    if sys.platform != "linux":
        return [
            Check("python", "fail", f"{found} on {sys.platform}", "Use Linux; sandboxes need its namespaces.")
        ]
    return [Check("python", "ok", f"{found}, Linux {platform.release()} on {platform.machine()}")]


async def _clock() -> list[Check]:
    """Wall time is plausible and agrees with the file system's; monotonic time goes on."""
    now, first = time.time(), time.monotonic()
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    with tempfile.TemporaryFile() as file:
        skew = abs(os.fstat(file.fileno()).st_mtime - now)
    await asyncio.sleep(0.001)
    if now < _BUILT:
        return [Check("clock", "warn", f"it says {shown}, which is in the past", "Set the clock.")]
    if skew > _SKEW or time.monotonic() <= first:
        return [
            Check(
                "clock",
                "warn",
                f"{shown}; files are {skew:.0f} s off",
                "Set the clock, or the file server's.",
            )
        ]
    return [Check("clock", "ok", shown)]


async def _store() -> list[Check]:
    return [await asyncio.to_thread(_folder, data_dir())]


async def _journaled() -> list[Check]:
    return [await asyncio.to_thread(_journal, data_dir())]


def _folder(folder: Path) -> Check:
    """Writes, syncs and removes a file there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        fix = DiskFull("").fix if full else JournalUnavailable("").fix
        return Check("store", "fail", f"{folder}: {error.strerror}", fix)
    space = os.statvfs(folder)
    free = space.f_bavail * space.f_frsize
    little = free < _LITTLE_SPACE
    evidence = f"{folder} is writable, {free / 1e9:.1f} GB free"
    return Check("store", "warn" if little else "ok", evidence, "Free disk space." if little else "")


def _journal(folder: Path) -> Check:
    """Reads all of it."""
    from terraphim_rlm.store.database import FILE_NAME
    from terraphim_rlm.store.verify import verify

    path = folder / FILE_NAME
    if not path.exists():
        return Check("journal", "ok", "none yet; the first question makes it")
    found = verify(path)
    if found.problems:
        fix = "Move it away; a new one is made at the next start. Nothing was changed."
        return Check("journal", "fail", f"{path}: {'; '.join(found.problems[:3])}", fix)
    return Check("journal", "ok", f"{found.events:,} events and {found.blobs:,} blobs, all whole")


async def _backend() -> list[Check]:
    from terraphim_rlm.sandbox.backends.bubblewrap import doctor

    return await doctor.checks()


async def _docker() -> list[Check]:
    from terraphim_rlm.sandbox.backends.docker import doctor

    return await doctor.checks()


async def _execution() -> list[Check]:
    """Starts a sandbox as `trlm exec` does, and runs something in it."""
    from terraphim_rlm.sandbox.opening import open_sandbox

    started = time.monotonic()
    async with open_sandbox("auto") as box:
        result = await box.run("print(1)")
        took = time.monotonic() - started
        if result.stdout != "1\n":
            why = f"print(1) gave {result.status}: {(result.stderr or result.stdout)[:300]!r}"
            return [
                Check("execution", "fail", why, "Report this with the whole output of `trlm doctor --json`.")
            ]
    limits = ", ".join(f"{name} {how}" for name, how in sorted(result.limits_enforced.items()))
    return [
        Check(
            "execution", "ok", f"{result.backend} started and ran print(1) in {took:.2f} s; limits: {limits}"
        )
    ]


async def _weights() -> list[Check]:
    from terraphim_rlm.llm.weights import list_models

    engine = importlib.util.find_spec("xllamacpp") is not None
    checks = [
        Check("local-engine", "ok", "xllamacpp is installed")
        if engine
        else Check("local-engine", "warn", "the engine of the built-in model is not installed", "pip install 'terraphim-rlm[local]'")
    ]  # fmt: skip
    for model in list_models():
        if model.installed:
            checks.append(Check(f"weights.{model.name}", "ok", f"{model.path}, {model.bytes / 1e6:.0f} MB"))
        else:
            fix = f"trlm models get {model.name}"
            checks.append(Check(f"weights.{model.name}", "warn", "not on this machine", fix))
    return checks


async def _keys() -> list[Check]:
    """Where each provider's key comes from; never the key."""
    from terraphim_rlm.llm.providers import ANTHROPIC, PROVIDERS, key_for

    checks = []
    for provider in (*PROVIDERS.values(), ANTHROPIC):
        name = provider.key_env
        if name is None:
            continue
        if not os.environ.get(name, "").strip():
            checks.append(
                Check(f"key.{provider.name}", "ok", f"{name} is not set; only {provider.name}/.. reads it")
            )
            continue
        try:
            key_for(provider, provider.base_url)
        except RlmError as error:
            checks.append(Check(f"key.{provider.name}", "warn", error.message, f"Set {name} anew."))
        else:
            checks.append(Check(f"key.{provider.name}", "ok", f"from {name} in the environment"))
    return checks


async def _model() -> list[Check]:
    """The model that is used when none is named: it opens, and its server answers if that is on this machine."""
    from terraphim_rlm.llm.providers import is_loopback
    from terraphim_rlm.llm.select import open_model

    try:
        model = open_model()
    except ModelNotInstalled as error:
        return [Check("model", "warn", error.message, error.fix)]
    try:
        name, url = model.info.name, getattr(model, "base_url", None)
    finally:
        await model.aclose()
    if url is None:
        return [Check("model", "ok", f"{name}, in this process")]
    if not is_loopback(url):
        return [Check("model", "ok", f"{name} at {url}; not called, `trlm models test {name}` does")]
    if await _answers(url):
        return [Check("model", "ok", f"{name}; a server answers at {url}")]
    return [
        Check(
            "model", "fail", f"{name}: nothing answers at {url}", "Start its server, or name another model."
        )
    ]


async def _answers(url: str) -> bool:
    """Whether something listens there."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        async with asyncio.timeout(_CONNECT):
            _, writer = await asyncio.open_connection(parts.hostname, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


_LOOKS: tuple[tuple[str, Callable[[], Awaitable[list[Check]]]], ...] = (
    ("python", _python),
    ("clock", _clock),
    ("store", _store),
    ("journal", _journaled),
    ("weights", _weights),
    ("keys", _keys),
    ("model", _model),
    ("bubblewrap", _backend),
    ("docker", _docker),
    ("execution", _execution),
)
