"""Sandboxes: one contract, one facade, backends below it."""

from terraphim_rlm.sandbox.opening import open_sandbox
from terraphim_rlm.sandbox.sandbox import Sandbox
from terraphim_rlm.sandbox.sync import SandboxSync, open_sandbox_sync

__all__ = ["Sandbox", "SandboxSync", "open_sandbox", "open_sandbox_sync"]
