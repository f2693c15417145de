"""Sandboxes: one contract, one facade, backends below it."""

from terraphim_rlm.sandbox.opening import SandboxSync, open_sandbox, open_sandbox_sync
from terraphim_rlm.sandbox.sandbox import Sandbox

__all__ = ["Sandbox", "SandboxSync", "open_sandbox", "open_sandbox_sync"]
