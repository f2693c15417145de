"""Measures what a bubblewrap sandbox holds on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from terraphim_rlm.core.values import ExecutorCapabilities
from terraphim_rlm.sandbox.contract import SandboxSpec

if TYPE_CHECKING:
    from terraphim_rlm.sandbox.backends.bubblewrap.backend import Bubblewrap


async def measure(backend: Bubblewrap) -> ExecutorCapabilities:
    link = await backend.create(SandboxSpec())
    try:
        return link.capabilities
    finally:
        await link.destroy()
