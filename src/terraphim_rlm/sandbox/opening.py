"""Opening a sandbox by the name of its backend, asynchronous and plain."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from terraphim_rlm.core.values import ExecutionResult, ExecutorCapabilities, Resources
from terraphim_rlm.sandbox.contract import SandboxSpec
from terraphim_rlm.sandbox.sandbox import Sandbox


@asynccontextmanager
async def open_sandbox(
    backend: str = "auto",
    *,
    resources: Resources | None = None,
    packages: Sequence[str] = (),
    prefer: Sequence[str] = (),
    on_step: Callable[[str], None] | None = None,
) -> AsyncIterator[Sandbox]:
    """A sandbox for the length of a block.

    Args:
        backend: `auto`, or a name such as `bubblewrap`.
        resources: what it may use; the defaults are those of `Resources`.
        packages: Python packages such as `numpy` or `pandas>=2,<3`, for its code to import. They are fetched once, as
            wheels, with pip; from then on they are here, also without a network.
        prefer: the order in which `auto` tries backends.
        on_step: gets a line for each step of fetching packages.

    Raises:
        InvalidArgument, PackageNotFound, PackagesUnavailable, DiskFull: the packages are not to be had.
        BackendUnavailable: nothing that was asked for works here; what was tried and the fix for each.
    """
    from terraphim_rlm.sandbox.packages.requirements import normalised
    from terraphim_rlm.sandbox.selection import choose

    spec = SandboxSpec(resources or Resources(), packages=normalised(packages), on_step=on_step)
    async with await choose(backend, tuple(prefer)) as chosen, Sandbox(chosen, spec) as box:
        yield box


class SandboxSync:
    """A sandbox for code without an event loop; each method waits for its end."""

    def __init__(self, portal: Any, box: Sandbox) -> None:
        self._portal = portal
        self._box = box

    def run(self, code: str, language: str = "python", **options: Any) -> ExecutionResult:
        """See `Sandbox.run`."""
        result: ExecutionResult = self._portal.call(lambda: self._box.run(code, language, **options))
        return result

    def sh(self, command: str, **options: Any) -> ExecutionResult:
        """See `Sandbox.sh`."""
        result: ExecutionResult = self._portal.call(lambda: self._box.sh(command, **options))
        return result

    @property
    def capabilities(self) -> ExecutorCapabilities:
        return self._box.capabilities


@contextmanager
def open_sandbox_sync(backend: str = "auto", **options: Any) -> Iterator[SandboxSync]:
    """`open_sandbox` for code without an event loop; an event loop runs in a thread of its own."""
    from anyio.from_thread import start_blocking_portal

    with (
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(open_sandbox(backend, **options)) as box,
    ):
        yield SandboxSync(portal, box)
