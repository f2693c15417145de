"""Recursive Language Models: answers over inputs of any size, by code in an isolated sandbox.

Who may import whom (checked by import-linter): `guest` imports only the standard library. Then each
line may import the lines before it:

    core
    llm  sandbox  guard  store  supervision      (side by side, none imports another)
    engine
    service
    faces

`testing` may import all; only tests import it, and the command line for `bench`, `attack`, `conform`.
Importing any module has no side effect; heavy libraries are imported inside the function that needs them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from terraphim_rlm.core.errors import RlmError
    from terraphim_rlm.core.network import Access
    from terraphim_rlm.core.values import (
        Answer,
        Evidence,
        ExecutionResult,
        FileInfo,
        Limits,
        Output,
        Resources,
        Snapshot,
        SnapshotDiff,
        Usage,
    )
    from terraphim_rlm.guard.asking import Asked
    from terraphim_rlm.guard.default import make_guard
    from terraphim_rlm.guard.hooks import Hook, HookDecision
    from terraphim_rlm.sandbox.opening import open_sandbox
    from terraphim_rlm.sandbox.sandbox import Sandbox
    from terraphim_rlm.sandbox.sync import SandboxSync, open_sandbox_sync
    from terraphim_rlm.service.rlm import Rlm, RlmSync

__version__ = "0.1.0"

_HOMES = {
    "RlmError": "core.errors",
    "Access": "core.network",
    "Answer": "core.values",
    "Evidence": "core.values",
    "ExecutionResult": "core.values",
    "FileInfo": "core.values",
    "Limits": "core.values",
    "Output": "core.values",
    "Resources": "core.values",
    "Snapshot": "core.values",
    "SnapshotDiff": "core.values",
    "Usage": "core.values",
    "Asked": "guard.asking",
    "Hook": "guard.hooks",
    "HookDecision": "guard.hooks",
    "make_guard": "guard.default",
    "Sandbox": "sandbox.sandbox",
    "SandboxSync": "sandbox.sync",
    "open_sandbox": "sandbox.opening",
    "open_sandbox_sync": "sandbox.sync",
    "Rlm": "service.rlm",
    "RlmSync": "service.rlm",
}

__all__ = [
    "Access",
    "Answer",
    "Asked",
    "Evidence",
    "ExecutionResult",
    "FileInfo",
    "Hook",
    "HookDecision",
    "Limits",
    "Output",
    "Resources",
    "Rlm",
    "RlmError",
    "RlmSync",
    "Sandbox",
    "SandboxSync",
    "Snapshot",
    "SnapshotDiff",
    "Usage",
    "__version__",
    "make_guard",
    "open_sandbox",
    "open_sandbox_sync",
]


def __getattr__(name: str) -> Any:
    """Public names load their module when they are first used, so that `trlm --help` stays quick."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
