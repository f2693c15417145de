"""Opening a sandbox by the name of its backend."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from terraphim_rlm.core.network import Access
from terraphim_rlm.core.values import Resources
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
    on_access: Callable[[Access], None] | None = None,
) -> AsyncIterator[Sandbox]:
    """A sandbox for the length of a block.

    Args:
        backend: `auto`, or a name such as `bubblewrap`.
        resources: what it may use; the defaults are those of `Resources`.
        packages: Python packages such as `numpy` or `pandas>=2,<3`, for its code to import. They are fetched once, as
            wheels, with pip; from then on they are here, also without a network.
        prefer: the order in which `auto` tries backends.
        on_step: gets a line for each step of fetching packages.
        on_access: gets what its code reached by `Resources.network`, or was refused. It must not block or raise.

    Raises:
        InvalidArgument, PackageNotFound, PackagesUnavailable, DiskFull: the packages are not to be had.
        BackendUnavailable: nothing that was asked for works here; what was tried and the fix for each.
    """
    from terraphim_rlm.sandbox.packages.requirements import normalised
    from terraphim_rlm.sandbox.selection import choose

    spec = SandboxSpec(resources or Resources(), packages=normalised(packages), on_step=on_step)
    async with await choose(backend, tuple(prefer)) as chosen, Sandbox(chosen, spec) as box:
        box.on_access = on_access
        yield box
