"""Sandboxes that are not separate machines, do not end, or are not what they claim."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace

from terraphim_rlm.core.values import ExecutorCapabilities, Resources
from terraphim_rlm.testing.conformance.lies.wrapped import Wrapped, fault, opening
from terraphim_rlm.testing.conformance.model import Box, Target

Open = Callable[[Resources], AbstractAsyncContextManager[Box]]


@fault("claims a language that it cannot run", "languages")
class ClaimsLanguage(Wrapped):
    @property
    def capabilities(self) -> ExecutorCapabilities:
        told: ExecutorCapabilities = self._box.capabilities
        return replace(told, languages=(*told.languages, "fortran"))


@fault("claims another set of limits each time", "status", "capabilities")
class ClaimsAnew(Wrapped):
    @property
    def capabilities(self) -> ExecutorCapabilities:
        told: ExecutorCapabilities = self._box.capabilities
        return replace(told, limits={**told.limits, "disk": "watched", str(id(self)): "none"})


@fault("works on after it was closed", "lifecycle")
class NeverCloses(Wrapped):
    async def close(self) -> None:
        """Does nothing."""


@opening("gives two callers the same machine", "isolation")
def one_machine(target: Target) -> Open:
    """The first sandbox is handed out again for as long as anybody has it."""
    held: list[Box] = []

    @asynccontextmanager
    async def open_box(resources: Resources) -> AsyncIterator[Box]:
        if held:
            yield _Borrowed(held[-1])
            return
        async with target.open(resources=resources) as box:
            held.append(box)
            try:
                yield box
            finally:
                held.pop()

    return open_box


@opening("gives a used machine to the next caller", "isolation")
def used_machine(target: Target) -> Open:
    """Each sandbox is kept until the next is given back, and handed out once more."""
    kept: list[tuple[Box, AsyncExitStack]] = []

    @asynccontextmanager
    async def open_box(resources: Resources) -> AsyncIterator[Box]:
        box, stack = kept.pop() if kept else (None, AsyncExitStack())
        if box is None:
            box = await stack.enter_async_context(target.open(resources=resources))
        try:
            yield _Borrowed(box)
        finally:
            if kept:
                await stack.aclose()
            else:
                kept.append((box, stack))

    return open_box


class _Borrowed(Wrapped):
    async def close(self) -> None:
        """Is another's to close."""


@opening("ignores the limits that were asked for", "limits", "output")
def unlimited(target: Target) -> Open:
    def open_box(resources: Resources) -> AbstractAsyncContextManager[Box]:
        more = replace(resources, disk_mb=512, output_bytes=10_485_760)
        return target.open(resources=more)

    return open_box
