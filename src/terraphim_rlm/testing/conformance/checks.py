"""How cases assert. Not by `assert`, which `python -O` leaves out, and which says nothing without pytest."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

from terraphim_rlm.core.values import CellError, ExecutionResult
from terraphim_rlm.testing.conformance.model import Box

_SHOWN = 160
_begun: ContextVar[list[asyncio.Future[Any]] | None] = ContextVar("begun", default=None)
_GONE_SECONDS = 3.0
_SPEAK_SECONDS = 8.0
Hear = Callable[[str, str], None]


def holds(condition: object, what: str) -> None:
    """Fails unless the condition holds; `what` says what should have been."""
    if not condition:
        raise AssertionError(what)


def same(seen: object, wanted: object, what: str = "it") -> None:
    """Fails unless both are equal."""
    if seen != wanted:
        raise AssertionError(f"{what} is {_shown(seen)}, not {_shown(wanted)}")


def like(result: ExecutionResult, **wanted: object) -> ExecutionResult:
    """Fails unless the named fields of a result have these values; gives the result."""
    for name, value in wanted.items():
        if getattr(result, name) != value:
            said = f"; status {result.status}, stderr {_shown(result.stderr)}, error {_shown(result.error)}"
            raise AssertionError(f"{name} is {_shown(getattr(result, name))}, not {_shown(value)}{said}")
    return result


def raised(result: ExecutionResult, kind: str) -> CellError:
    """Fails unless the execution ended by an error of this type; gives the error."""
    if result.error is None or result.error.type != kind:
        raise AssertionError(f"the error is {_shown(result.error)}, not a {kind}; status {result.status}")
    return result.error


async def refused(work: Awaitable[Any], *kinds: type[BaseException]) -> BaseException:
    """Fails unless the call raises one of these errors; gives the error."""
    try:
        came = await work
    except kinds as error:
        return error
    except Exception as error:
        raise AssertionError(
            f"{type(error).__name__} is raised, not {_names(kinds)}: {_shown(error)}"
        ) from error
    raise AssertionError(f"{_shown(came)} comes back; {_names(kinds)} should have been raised")


def begun(work: Awaitable[Any]) -> asyncio.Future[Any]:
    """Lets a call run beside the case; `Tidy` ends it with the case."""
    task = asyncio.ensure_future(work)
    kept = _begun.get()
    if kept is not None:
        kept.append(task)
    return task


async def speaking(start: Callable[[Hear], Awaitable[Any]]) -> asyncio.Future[Any]:
    """Begins an execution and waits until it has said something; fails when it has not in time, or ends before."""
    first = asyncio.Event()
    running, heard = begun(start(lambda *_: first.set())), begun(first.wait())
    await asyncio.wait({running, heard}, timeout=_SPEAK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    if not first.is_set():
        end = running.result() if running.done() else None
        raise AssertionError(f"nothing was heard while it ran; its end: {_shown(end)}")
    return running


class Tidy:
    """While a case runs: at its end nothing runs on that it began."""

    async def __aenter__(self) -> None:
        self._tasks: list[asyncio.Future[Any]] = []
        _begun.set(self._tasks)

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def within(seconds: float, work: Awaitable[Any], what: str) -> Any:
    """What the call gives; fails when it is not over in time."""
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        raise AssertionError(f"{what} is not over after {seconds:g} s") from None


@asynccontextmanager
async def branched(box: Box, *arguments: Any) -> AsyncIterator[list[Box]]:
    """Branches for the length of a block."""
    boxes: list[Box] = await box.branch(*arguments)
    try:
        yield boxes
    finally:
        for each in boxes:
            await each.close()


def marker() -> str:
    """Seconds for a `sleep` that nobody else sleeps: a process to be recognised by."""
    return f"{secrets.randbelow(9_000_000) + 1_000_000}"


async def processes(box: Box) -> str:
    """The command lines of all processes in the sandbox."""
    seen = await box.sh("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '")
    text: str = seen.stdout
    return text


async def ends(box: Box, mark: str) -> None:
    """Fails unless the processes with this mark are gone, or go within seconds."""
    loop = asyncio.get_running_loop()
    until = loop.time() + _GONE_SECONDS
    while mark in await processes(box):
        holds(loop.time() < until, "a process that should have been killed still runs")
        await asyncio.sleep(0.02)


async def appears(box: Box, path: str) -> None:
    """Waits until a file is there."""
    await box.sh(f"while [ ! -e {path} ]; do sleep 0.01; done", timeout=10)


def _names(kinds: tuple[type[BaseException], ...]) -> str:
    return " or ".join(kind.__name__ for kind in kinds)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}.. ({len(text):,} characters)"
