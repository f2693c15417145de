"""Sandboxes as the benchmarks use them: opened in a backend that stands, asked, timed and doubted."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

from terraphim_rlm.core.values import Resources
from terraphim_rlm.sandbox.contract import Backend, SandboxSpec
from terraphim_rlm.sandbox.sandbox import Sandbox

Row = dict[str, Any]


@asynccontextmanager
async def box_of(backend: Backend, **resources: Any) -> AsyncIterator[Sandbox]:
    """A sandbox of `backend` for the length of a block; `resources` are those of `Resources`."""
    async with Sandbox(backend, SandboxSpec(resources=Resources(**resources))) as box:
        yield box


async def said(box: Sandbox, code: str) -> str:
    """What `code` prints.

    Raises:
        AssertionError: it did not end well.
    """
    result = await box.run(code, timeout=300.0)
    if result.status != "ok":
        raise AssertionError(f"a cell of the benchmark ended as {result!r}")
    return result.stdout


async def expect(box: Sandbox, code: str, answer: str) -> None:
    """Raises AssertionError unless `code` prints `answer`."""
    if (found := await said(box, code)) != answer:
        raise AssertionError(f"the cell {code!r} printed {found!r}, not {answer!r}")


async def timed(work: Awaitable[Any]) -> float:
    """Milliseconds until `work` is done."""
    started = time.perf_counter()
    await work
    return (time.perf_counter() - started) * 1000
