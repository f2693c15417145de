"""Fetches packages ahead of the work that needs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from terraphim_rlm.sandbox.opening import open_sandbox


async def fetch_packages(
    packages: Sequence[str], sandbox: str, on_step: Callable[[str], None] | None = None
) -> None:
    """Sees to it that they are here, so that fetching them takes none of a run's time. Opens a sandbox with them.

    Raises:
        RlmError: as `open_sandbox`.
    """
    async with open_sandbox(sandbox, packages=packages, on_step=on_step):
        pass
