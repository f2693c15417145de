"""The kinds of children: tasks of this event loop, and processes. A supervisor is a third."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from terraphim_rlm.core import process as processes
from terraphim_rlm.core.errors import ChildError
from terraphim_rlm.supervision.spec import Child, Exit, Start

_GUARDIAN = Path(__file__).with_name("guardian.py")
_MOST_WORDS = 4096


class Ignored(Exception):
    """Raised by a task before it is ready: it does not want to run, and that is no failure."""


class Stopped(Exception):
    """Raised by a task that ends in good order, of its own (OTP's `{shutdown, Reason}`)."""


class Link:
    """What a task has of its supervisor."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.started: asyncio.Future[None] = loop.create_future()
        self._asked = asyncio.Event()
        self.listens = False
        """Whether the task waits to be asked, and so is not cancelled instead."""

    def ready(self) -> None:
        """The child is started; its supervisor goes on to the next one."""
        if not self.started.done():
            self.started.set_result(None)

    async def stop(self) -> None:
        """Returns when the child is to end. A task that never calls it is cancelled instead."""
        self.listens = True
        await self._asked.wait()

    def ask(self) -> None:
        self._asked.set()


class TaskChild(Child):
    """A task. One that swallows its cancellation cannot be killed: what may hang must be a process."""

    dies_when_killed = False

    def __init__(self, work: Awaitable[None], link: Link, name: str) -> None:
        super().__init__()
        self._link = link
        self._asked = self._killed = False
        self._task = asyncio.ensure_future(_awaited(work))
        self._task.set_name(name)
        self._task.add_done_callback(self._done)

    def ask(self) -> None:
        self._asked = True
        if self._link.listens:
            self._link.ask()
        else:
            self._task.cancel()

    def kill(self) -> None:
        self._killed = True
        self._task.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            kind = "killed" if self._killed or not self._asked else "shutdown"
            self.over(Exit(kind, "" if self._killed or self._asked else "its task was cancelled"))  # type: ignore[arg-type]
        elif (error := task.exception()) is None:
            self.over(Exit("shutdown") if self._asked else Exit("normal"))
        elif isinstance(error, Stopped):
            self.over(Exit("shutdown", str(error), error))
        else:
            self.over(Exit("error", f"{type(error).__name__}: {error}"[:_MOST_WORDS], error))


async def _awaited(work: Awaitable[None]) -> None:
    await work


def task(work: Callable[..., Awaitable[None]]) -> Start:
    """A task that counts as started at once; `work` takes what `start_child` is given."""

    async def start(*arguments: Any) -> Child:
        return TaskChild(work(*arguments), Link(), getattr(work, "__name__", "child"))

    return start


def linked(work: Callable[..., Awaitable[None]]) -> Start:
    """A task that is started when it calls `ready` of its `Link`, its first argument.

    Ending before that, it has failed to start; raising `Ignored`, it is left out.
    """

    async def start(*arguments: Any) -> Child | None:
        link = Link()
        child = TaskChild(work(link, *arguments), link, getattr(work, "__name__", "child"))
        try:
            both: list[asyncio.Future[Any]] = [link.started, child.ended]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            child.kill()
            raise
        if link.started.done():
            return child
        exit = child.ended.result()
        if isinstance(exit.error, Ignored):
            return None
        if exit.error is not None:
            raise exit.error
        raise ChildError(f"The child ended before it was ready: {exit}.", state="failed")

    return start


class ProcessChild(Child):
    """A process and all that came of it, held by a guardian: none of them outlives the child, or us."""

    def __init__(self, guardian: subprocess.Popen[bytes], line: socket.socket, pid: int, mark: str) -> None:
        super().__init__()
        self._mark = mark
        self._guardian = guardian
        self._line = line
        self._asked = self._killed = False
        self.pid = pid
        self._loop = asyncio.get_running_loop()
        self._pidfd = os.pidfd_open(guardian.pid)
        self._loop.add_reader(self._pidfd, self._gone)

    def ask(self) -> None:
        """SIGTERM, to the process alone."""
        self._asked = True
        self._tell(b"t")

    def kill(self) -> None:
        """SIGKILL, to all of its tree; a stopped guardian is woken for it."""
        self._killed = True
        self._tell(b"k")
        with suppress(ProcessLookupError):
            os.kill(self._guardian.pid, signal.SIGCONT)

    def _tell(self, order: bytes) -> None:
        with suppress(OSError):  # it has hung up: its end is on its way
            self._line.send(order)

    def _gone(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        with suppress(ProcessLookupError):  # a guardian that was killed: its group still has the number
            os.killpg(self._guardian.pid, signal.SIGKILL)
        code = self._guardian.wait()
        self._line.close()
        if code == -signal.SIGKILL:  # perhaps it was killed itself, before it could end all
            _kill_marked(self._mark)
        self.over(self._exit(code))

    def _exit(self, code: int) -> Exit:
        if self._killed:
            return Exit("killed")
        if code == 0:
            return Exit("shutdown") if self._asked else Exit("normal")
        if code == -signal.SIGTERM:
            return Exit("shutdown", "" if self._asked else "SIGTERM")
        if code == -signal.SIGKILL:
            return Exit("killed", "SIGKILL")
        if code < 0:
            return Exit("error", signal.Signals(-code).name)
        return Exit("error", f"exit status {code}")


def _kill_marked(mark: str) -> None:
    """Kills what has the mark in its environment. By pidfd, opened before it is read: a pid may get a new owner."""
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with suppress(OSError):
            fd = os.pidfd_open(pid)
            try:
                if mark.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
            finally:
                os.close(fd)


def process(argv: Sequence[str], *, env: Mapping[str, str] = processes.MINIMAL_ENV, **streams: Any) -> Start:
    """A process, started once its program runs; what `start_child` is given are further words of its command line.

    Ends: 0 is normal, SIGTERM is shutdown, everything else abnormal.
    """

    async def start(*words: str) -> Child:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            ours.setblocking(False)
            mark = f"TRLM_CHILD={secrets.token_hex(16)}"
            command = [sys.executable, "-I", "-S", str(_GUARDIAN), str(theirs.fileno()), *argv, *words]
            try:
                guardian = processes.start(
                    command, env={**env, **dict([mark.split("=")])}, pass_fds=(theirs.fileno(),), **streams
                )
            except BaseException:
                ours.close()
                raise
        try:
            said = await asyncio.get_running_loop().sock_recv(ours, _MOST_WORDS)
        except BaseException:
            ours.close()  # upon which the guardian ends all it has
            await asyncio.shield(asyncio.to_thread(guardian.wait))
            raise
        if not said.startswith(b"pid "):
            ours.close()
            guardian.wait()
            words_said = said.decode("utf-8", "replace") or "its guardian ended"
            raise ChildError(f"{argv[0]} could not be started: {words_said}.", state="failed")
        return ProcessChild(guardian, ours, int(said[4:]), mark)

    return start
