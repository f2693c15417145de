"""Sandboxes for code without an event loop: the same methods, each of which waits for its end.

An event loop runs in a thread of its own. Any number of threads may call; executions of one language run in the order
in which their calls arrive there.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from threading import Event
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from terraphim_rlm.core.errors import SandboxLost
from terraphim_rlm.core.values import ExecutorCapabilities, Resources, Snapshot
from terraphim_rlm.sandbox.files import Block, Files, Path
from terraphim_rlm.sandbox.opening import open_sandbox
from terraphim_rlm.sandbox.sandbox import Sandbox

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

P = ParamSpec("P")
T = TypeVar("T")
Of = TypeVar("Of")


class Twin(Generic[Of]):
    """Stands in other threads for something that lives in the event loop's."""

    def __init__(self, portal: BlockingPortal, of: Of) -> None:
        self._portal = portal
        self._of = of


class _Work(Generic[T]):
    """Something that is being done in the event loop's thread.

    Raises:
        SandboxLost: the event loop has ended, or this is its thread.
    """

    def __init__(self, portal: BlockingPortal, work: Callable[[], Awaitable[T]]) -> None:
        self._over = Event()
        try:
            self._future = portal.start_task_soon(self._whole, work)
        except RuntimeError as error:
            raise SandboxLost(
                f"The sandbox cannot be reached from here: {error}.",
                fix="Use it within its `with` block, and not from a callback such as `on_output`.",
            ) from error

    async def _whole(self, work: Callable[[], Awaitable[T]]) -> T:
        try:
            return await work()
        finally:
            self._over.set()

    def result(self) -> T:
        """Waits for it. Ctrl-C, or whatever else ends the waiting, stops it first."""
        try:
            return self._future.result()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Cancels it, if it is not over, and waits for its end."""
        if self._future.cancel():
            self._over.wait()


def waited(method: Callable[Concatenate[Of, P], Awaitable[T]]) -> Callable[Concatenate[Twin[Of], P], T]:
    """A coroutine method, for its twin."""

    @functools.wraps(method)
    def call(self: Twin[Of], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return _Work(self._portal, lambda: method(self._of, *args, **kwargs)).result()

    return call


def asked(method: Callable[Concatenate[Of, P], T]) -> Callable[Concatenate[Twin[Of], P], T]:
    """A method that needs no waiting, but the event loop's thread."""

    @functools.wraps(method)
    def call(self: Twin[Of], /, *args: P.args, **kwargs: P.kwargs) -> T:
        async def there() -> T:
            return method(self._of, *args, **kwargs)

        return _Work(self._portal, there).result()

    return call


def iterated(
    method: Callable[Concatenate[Of, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[Twin[Of], P], Iterator[T]]:
    """An asynchronous iterator, for its twin; leaving the loop early ends it."""

    @functools.wraps(method)
    def call(self: Twin[Of], /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        items = method(self._of, *args, **kwargs)
        try:
            while True:
                try:
                    item = _Work(self._portal, items.__anext__).result()
                except StopAsyncIteration:
                    return
                yield item
        finally:
            with suppress(SandboxLost):  # the sandbox is closed, and this with it
                _Work(self._portal, items.aclose).result()

    return call


class FilesSync(Twin[Files]):
    """See `Files`."""

    read = waited(Files.read)
    read_text = waited(Files.read_text)
    read_blocks = iterated(Files.read_blocks)
    write = waited(Files.write)
    list = waited(Files.list)
    remove = waited(Files.remove)

    def write_blocks(self, path: Path, blocks: Iterable[Block]) -> None:
        """As `write`, from blocks as they come, in this thread. When `blocks` raises, what was there before still is."""
        import anyio

        put, got = anyio.create_memory_object_stream[Block](1)

        async def write() -> None:
            async with got:
                await self._of.write_blocks(path, got)

        writing = _Work(self._portal, write)
        try:
            with suppress(anyio.BrokenResourceError):  # it was refused, and says why below
                for block in blocks:
                    _Work(self._portal, functools.partial(put.send, block)).result()
        except BaseException:
            writing.stop()
            raise
        finally:
            _Work(self._portal, put.aclose).result()
        writing.result()


class SandboxSync(Twin[Sandbox]):
    """See `Sandbox`. A callback such as `on_output` is called in the event loop's thread, where it may not use this."""

    run = waited(Sandbox.run)
    sh = waited(Sandbox.sh)
    stream = iterated(Sandbox.stream)
    snapshot = waited(Sandbox.snapshot)
    rollback = waited(Sandbox.rollback)
    restore_files = waited(Sandbox.restore_files)
    diff = waited(Sandbox.diff)
    snapshots = asked(Sandbox.snapshots)
    forget = waited(Sandbox.forget)
    statistics = asked(Sandbox.statistics)
    close = waited(Sandbox.close)
    _branch = waited(Sandbox.branch)

    @functools.cached_property
    def files(self) -> FilesSync:
        return FilesSync(self._portal, self._of.files)

    def branch(self, count: int = 1, snapshot: Snapshot | str | None = None) -> list[SandboxSync]:
        """See `Sandbox.branch`; each is a context manager, and closes when its block ends."""
        return [SandboxSync(self._portal, box) for box in self._branch(count, snapshot)]

    @property
    def is_open(self) -> bool:
        return self._of.is_open

    @property
    def capabilities(self) -> ExecutorCapabilities:
        return self._of.capabilities

    @property
    def resources(self) -> Resources:
        return self._of.resources

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def open_sandbox_sync(backend: str = "auto", **options: Any) -> Iterator[SandboxSync]:
    """`open_sandbox` for code without an event loop; an event loop runs in a thread of its own."""
    from anyio.from_thread import start_blocking_portal

    with (
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(open_sandbox(backend, **options)) as box,
    ):
        yield SandboxSync(portal, box)
