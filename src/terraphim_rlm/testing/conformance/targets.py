"""Targets by name: the backends of this package, or somebody's own."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.core.values import Resources
from terraphim_rlm.sandbox.contract import SandboxSpec
from terraphim_rlm.sandbox.sandbox import Sandbox
from terraphim_rlm.sandbox.selection import choose
from terraphim_rlm.testing.conformance.model import Box, Target

_STANDARD = Resources()


@asynccontextmanager
async def opened(name: str, kind: str = "sandbox") -> AsyncIterator[Target]:
    """The target called `name`, for as long as the block: a backend's or an engine's, or `MODULE:ATTRIBUTE`, a `Target`.

    Raises:
        InvalidArgument: there is none of this name.
        BackendUnavailable: it does not work here; the fix is named.
    """
    if ":" in name:
        yield _imported(name)
        return
    if kind == "engine":
        from terraphim_rlm.testing.conformance.engine.targets import opened_engine

        async with opened_engine(name) as engine:
            yield engine
        return
    async with await choose(name) as backend:
        await backend.probe()

        @asynccontextmanager
        async def open_box(*, resources: Resources = _STANDARD) -> AsyncIterator[Box]:
            async with Sandbox(backend, SandboxSpec(resources=resources)) as box:
                yield box

        yield Target(name, open_box)


def _imported(name: str) -> Target:
    module, _, attribute = name.partition(":")
    try:
        target = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InvalidArgument(
            f"There is no {attribute} in {module}: {error}.",
            fix="Name a backend, or MODULE:ATTRIBUTE with PYTHONPATH set so that it can be imported.",
        ) from error
    if not isinstance(target, Target):
        raise InvalidArgument(
            f"{name} is a {type(target).__name__}, not a Target.",
            fix="Make one: Target(name, open), see docs/conformance.md.",
        )
    return target
