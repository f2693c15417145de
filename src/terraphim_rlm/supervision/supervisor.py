"""Keeps children running, with the semantics of Erlang/OTP's supervisor (OTP 27).

One task works through one inbox, so nothing happens to a child in two places at once. Exits of children, retries of
failed restarts and the calls of users are all messages in it; while a restart fails again and again, calls are served
in between.

What asyncio cannot give is said where it matters: a task that swallows its cancellation is abandoned and reported, so
what may hang must be a process; and when this process dies, its child processes die by their guardians, not by links.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from terraphim_rlm.core.clock import SYSTEM_CLOCK, Clock
from terraphim_rlm.core.errors import ChildError, CrashLoop, InternalError
from terraphim_rlm.supervision.inbox import refuse
from terraphim_rlm.supervision.intensity import Intensity
from terraphim_rlm.supervision.keeping import GIVES_UP, Keeping
from terraphim_rlm.supervision.reports import (
    ChildInfo,
    Counts,
    OnReport,
    SupervisorStatistics,
)
from terraphim_rlm.supervision.slots import Slots
from terraphim_rlm.supervision.spec import (
    Child,
    ChildSpec,
    Exit,
    Flags,
    Later,
    Start,
    check_flags,
)

T = TypeVar("T")


class Supervisor(Child):
    """Starts its children in order, restarts them as their specs say, and ends them in reverse order.

    An async context manager: entering it starts the children, leaving it ends them. Also a child itself.

    Args:
        children: in start order; for `simple_one_for_one` the spec of each.
        clock: for counting restarts.
        later: waits, for back-off and health; a seam for tests.
        on_report: told of what happens; what it raises is counted and hurts nobody.

    Raises:
        InvalidArgument: a spec or the flags cannot be.
    """

    def __init__(
        self,
        children: Iterable[ChildSpec] = (),
        flags: Flags = Flags(),  # noqa: B008 - frozen
        *,
        name: str = "supervisor",
        clock: Clock = SYSTEM_CLOCK,
        later: Later = asyncio.sleep,
        on_report: OnReport = lambda report: None,
    ) -> None:
        super().__init__()
        check_flags(flags)
        self.name = name
        self._flags = flags
        self._kept = Keeping(
            name,
            Slots(tuple(children), flags),
            flags,
            Intensity(flags.intensity, flags.period, clock),
            later,
            on_report,
        )
        self._main: asyncio.Task[None] | None = None

    # What users call.

    async def start(self) -> None:
        """Starts the children, each after the one before is started.

        Raises:
            ChildError: one could not be started; those before it were ended again, in reverse order.
        """
        if self._main is not None or self.ended.done():
            raise ChildError(f"The supervisor {self.name} was started already.", state="running")
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        begun.add_done_callback(lambda done: done.exception())  # seen, also when the caller has left
        self._main = asyncio.ensure_future(self._live(begun))
        self._main.set_name(self.name)
        try:
            await asyncio.shield(begun)
        except asyncio.CancelledError:
            self.kill()
            await self._gone()
            raise
        except BaseException:
            await self._gone()
            raise

    async def stop(self) -> Exit:
        """Ends the children in reverse order, each as its spec says, then the supervisor. Idempotent."""
        self.ask()
        return await self.wait()

    async def wait(self) -> Exit:
        """Returns when it is over, by whatever reason."""
        return await asyncio.shield(self.ended)

    def check(self) -> None:
        """Raises:
        CrashLoop: it is over because its children crashed too often.
        """
        if self.ended.done() and self.ended.result().why.startswith(GIVES_UP):
            raise CrashLoop(
                f"{self.name} gave up: more than {self._flags.intensity} restarts within {self._flags.period} s; "
                f"the last: {self.ended.result().why.partition(': ')[2]}."
            )

    async def start_child(self, *what: Any) -> str | None:
        """Adds a child: a `ChildSpec`, or for `simple_one_for_one` the arguments of its start.

        Returns:
            its id; None when it does not want to run and its spec is not kept.

        Raises:
            ChildError: it could not be started, or its id is known (`state`: `running`, `restarting` or `down`).
            InvalidArgument: the spec cannot be.
        """
        return await self._call(partial(self._kept.start_child, what))

    async def terminate_child(self, id: str) -> None:
        """Ends a child as its spec says; the spec is kept unless it is temporary. Counts as no restart.

        Raises:
            ChildError: there is none.
        """
        await self._call(partial(self._kept.terminate_child, id))

    async def restart_child(self, id: str) -> None:
        """Starts a child that is down.

        Raises:
            ChildError: there is none, it is `running` or `restarting`, or it could not be started.
        """
        await self._call(partial(self._kept.restart_child, id))

    async def delete_child(self, id: str) -> None:
        """Forgets the spec of a child that is down.

        Raises:
            ChildError: there is none, or it is `running` or `restarting`.
        """
        await self._call(partial(self._kept.delete_child, id))

    def childspec(self, id: str) -> ChildSpec:
        """Raises ChildError: there is none."""
        return self._kept.slots.get(id).spec

    def which_children(self) -> list[ChildInfo]:
        """The last started first."""
        return [slot.info() for slot in reversed(self._kept.slots.all())]

    def count_children(self) -> Counts:
        return self._kept.slots.counts()

    def statistics(self) -> SupervisorStatistics:
        own, tally = self._flags, self._kept.tally
        state: Literal["new", "running", "over"] = "new" if self._main is None else "running"
        return SupervisorStatistics(
            self.name, "over" if self.ended.done() else state, own.strategy, self.count_children().active,
            tally.starts, tally.restarts, self._kept.intensity.count, own.intensity, own.period, dict(tally.exits),
            tally.abandoned, tally.failed_reports, tuple(slot.info() for slot in self._kept.slots.all()),
        )  # fmt: skip

    async def settled(self) -> None:
        """Returns when all that has happened so far is dealt with, further tries of failed restarts included."""

        async def is_settled() -> bool:
            ended = any(slot.child is not None and slot.child.ended.done() for slot in self._kept.slots.all())
            return self._kept.inbox.is_empty and not ended

        with suppress(ChildError):  # it is over: there is nothing more to deal with
            while not await self._call(is_settled):  # noqa: ASYNC110 - each round asks from the inbox's end
                await asyncio.sleep(0)

    def ask(self) -> None:
        if self._main is None:
            self.over(Exit("shutdown"))
            return
        self._kept.stopping.set()
        self._kept.inbox.wake()

    def kill(self) -> None:
        self._kept.hurry.set()
        self.ask()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ask()
        await self._gone()

    # The one task.

    async def _live(self, begun: asyncio.Future[None]) -> None:
        failure: Exception | None = None
        try:
            await self._kept.start_all()
            begun.set_result(None)
            await self._serve()
        except asyncio.CancelledError:  # the loop is about to end: so are we, in order
            self._kept.hurry.set()
            failure = ChildError(f"The supervisor {self.name} was cancelled.", state="over")
        except ChildError as error:
            failure = error
            self._kept.reason = Exit("shutdown", f"failed_to_start_child: {error}", error)
        except Exception as error:
            failure = InternalError(f"The supervisor {self.name} failed: {type(error).__name__}: {error}")
            self._kept.reason = Exit("error", str(failure), error)
        await self._end()
        if not begun.done():
            begun.set_exception(failure or self._over())
        self.over(self._kept.reason or Exit("shutdown"))

    async def _serve(self) -> None:
        while not self._kept.stopping.is_set() and self._kept.reason is None:
            message = await self._kept.inbox.next()
            if self._kept.stopping.is_set():
                refuse(message, self._over())
            else:
                await message()

    async def _end(self) -> None:
        """Ends all children whatever happens meanwhile; a cancellation of us makes it hurry."""
        self._kept.stopping.set()
        ending = asyncio.ensure_future(self._kept.end_all())
        while not ending.done():
            try:
                await asyncio.wait({ending})
            except asyncio.CancelledError:
                self._kept.hurry.set()
        self._kept.close()
        self._kept.inbox.refuse_all(self._over)
        if ending.cancelled() or ending.exception() is not None:  # the loop ends, or we have a bug
            self._kept.let_go()

    async def _gone(self) -> None:
        """Waits for our own end, cancelled or not; the cancellation is raised when that has come."""
        assert self._main is not None
        cancelled: asyncio.CancelledError | None = None
        while not self._main.done():
            try:
                await asyncio.wait({self._main})
            except asyncio.CancelledError as error:
                cancelled = error
                self._kept.hurry.set()
        if cancelled is not None:
            raise cancelled

    async def _call(self, work: Callable[[], Awaitable[T]]) -> T:
        if self._main is None or self.ended.done():
            raise self._over()
        return await self._kept.inbox.call(work)

    def _over(self) -> ChildError:
        return ChildError(f"The supervisor {self.name} does not run.", state="over")


def supervised(make: Callable[[], Supervisor]) -> Start:
    """A supervisor as a child of another one; each start makes a new one. Its spec has the type `supervisor`."""

    async def start(*_: Any) -> Child:
        found = make()
        await found.start()
        return found

    return start
