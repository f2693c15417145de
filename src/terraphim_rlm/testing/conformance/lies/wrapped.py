"""A sandbox behind a wrapper, and the table entry of a wrapper that lies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from terraphim_rlm.core.values import ExecutionResult, Resources
from terraphim_rlm.testing.conformance.model import Box, Target

_STANDARD = Resources()


class Wrapped:
    """Forwards all; itself the control that wrapping as such breaks no case. Lies override."""

    def __init__(self, box: Box) -> None:
        self._box = box

    def __getattr__(self, name: str) -> Any:
        return getattr(self._box, name)

    async def run(self, code: Any, language: Any = "python", **options: Any) -> ExecutionResult:
        return self.told(await self._box.run(code, language, **options))

    async def sh(self, command: Any, **options: Any) -> ExecutionResult:
        return self.told(await self._box.sh(command, **options))

    async def branch(self, *arguments: Any, **options: Any) -> list[Any]:
        return [type(self)(box) for box in await self._box.branch(*arguments, **options)]

    def told(self, result: ExecutionResult) -> ExecutionResult:
        """What is said of every execution."""
        return result


@dataclass(frozen=True, slots=True)
class Fault:
    """One lie, and where it should show."""

    name: str
    """What the sandbox does wrong, a phrase."""
    groups: tuple[str, ...]
    """Groups of cases of which at least one must fail."""
    wrap: Callable[[Target], Target]
    raises: tuple[type[Exception], ...] = ()
    """What it raises where nothing may be raised."""


def fault(
    name: str, *groups: str, raises: tuple[type[Exception], ...] = ()
) -> Callable[[type[Wrapped]], type[Wrapped]]:
    """Enters a class of lying sandboxes into the table."""

    def enter(lie: type[Wrapped]) -> type[Wrapped]:
        FAULTS.append(Fault(name, groups, lambda target: wrapped(target, lie), raises))
        return lie

    return enter


def wrapped(target: Target, kind: Callable[[Box], Box] = Wrapped) -> Target:
    """The target with every sandbox of it wrapped."""

    @asynccontextmanager
    async def open_box(*, resources: Resources = _STANDARD) -> AsyncIterator[Box]:
        async with target.open(resources=resources) as box:
            yield kind(box)

    return Target(target.name, open_box)


def opening(
    name: str, *groups: str
) -> Callable[[Callable[[Target], Callable[[Resources], AbstractAsyncContextManager[Box]]]], None]:
    """Enters a way of opening sandboxes that lies: `make(target)` gives `open(resources)`."""

    def enter(make: Callable[[Target], Callable[[Resources], AbstractAsyncContextManager[Box]]]) -> None:
        def wrap(target: Target) -> Target:
            open_box = make(target)
            return Target(target.name, lambda *, resources=_STANDARD: open_box(resources))

        FAULTS.append(Fault(name, groups, wrap))

    return enter


FAULTS: list[Fault] = []
