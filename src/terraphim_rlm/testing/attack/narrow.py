"""Whatever a sandbox is asked for, with room for 0, 1, 2 .. further descriptors of ours until it works."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from terraphim_rlm.core.errors import InternalError, RlmError
from terraphim_rlm.sandbox.link.calls import Call
from terraphim_rlm.sandbox.link.memory import Handover, sealed
from terraphim_rlm.sandbox.sandbox import Sandbox

Operation = Callable[[], Awaitable[Any]]
_MOST = 64
"""Descriptors with which everything must work."""
_SECONDS = 30.0
_SETTLE_SECONDS = 2.0
_ANSWER = 3_000_000
_ASK = "print(len(llm_query('how long?')), len(context))"


@contextmanager
def room_for(count: int) -> Iterator[None]:
    """For the block, this process can open `count` further descriptors.

    The kernel limits their numbers, not how many there are. So the numbers below the highest one in use, which whoever
    started us may have left free, are taken first.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    top = max(descriptors())
    fillers = [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)]
    try:
        while fillers[-1] < top:
            fillers.append(os.dup(fillers[0]))
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(fillers[-1] + 1 + count, hard), hard))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in fillers:
            os.close(fd)


def descriptors() -> dict[int, str]:
    """Those that are open, with what they are."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the listing's own
    return found


class Climb:
    """Tries operations so, and keeps what was wrong with how they were refused."""

    def __init__(self) -> None:
        self.wrongs: list[str] = []
        self.refused = 0

    async def __call__(self, name: str, operation: Operation, expected: object = None) -> Any:
        """What it gave at last.

        Args:
            expected: what it must give; None = anything.

        Raises:
            NeverWorked: it did not, with room for 64.
        """
        for count in range(_MOST):
            before = descriptors()
            try:
                with room_for(count):
                    found = await asyncio.wait_for(operation(), _SECONDS)
            except InternalError as error:
                self._wrong(name, count, f"{error.message}")
            except RlmError as error:
                self.refused += 1
                if not error.fix:
                    self._wrong(name, count, f"no fix with {type(error).__name__}: {error.message}")
            except Exception as error:
                self._wrong(name, count, f"{type(error).__name__}: {error}")
            else:
                if expected not in (None, found):
                    self._wrong(name, count, f"it gave {str(found)[-300:]!r}")
                return found
            if lost := await _lost(before):
                self._wrong(name, count, f"it left {lost}")
        raise NeverWorked(f"{name} does not work with room for {_MOST} descriptors")

    def _wrong(self, name: str, count: int, what: str) -> None:
        self.wrongs.append(f"{name}, with room for {count} descriptors: {what}")


class NeverWorked(Exception):
    """An operation that was refused to the end."""


async def tried(make: Callable[[], Sandbox]) -> list[str]:
    """What was wrong about any operation in a sandbox that `make` makes; it has the backend's way of starting it."""
    climb = Climb()
    box = make()
    try:
        await climb("a start", box.start)
        await _languages(climb, box)
        await _files(climb, box)
        await _states(climb, box)
        await _model(climb, box)
        if "javascript" in box.capabilities.languages:
            await climb("JavaScript", lambda: box.run("1", "javascript", timeout=20))
        await climb("a further start", lambda: _started(make))
    except NeverWorked as error:
        climb.wrongs.append(str(error))
    finally:
        await box.close()
    return climb.wrongs


async def _started(make: Callable[[], Sandbox]) -> None:
    """A sandbox from its start to its end, with one cell."""
    async with make() as box:
        await box.run("print(1)", timeout=10)


async def _languages(climb: Climb, box: Sandbox) -> None:
    async def ran(code: str, language: str, **options: Any) -> str:
        return (await box.run(code, language, timeout=20, **options)).stdout

    async def sh(command: str, **options: Any) -> str:
        return (await box.sh(command, timeout=20, **options)).stdout

    await climb("Python", lambda: ran("print(6 * 7)", "python"), "42\n")
    given: dict[str, Any] = {"stdin": b"x\n", "env": {"A": "b"}}
    code = "import os; print(input() + os.environ['A'])"
    await climb("Python with stdin", lambda: ran(code, "python", **given), "xb\n")
    await climb("bash", lambda: ran("kept=7; echo $kept", "bash"), "7\n")
    await climb("sh", lambda: sh("echo 1"), "1\n")
    await climb("sh with stdin", lambda: sh("cat; echo $A", **given), "x\nb\n")


async def _files(climb: Climb, box: Sandbox) -> None:
    content = b"0123456789abcdef" * (1 << 15)
    await climb("writing a file", lambda: box.files.write("narrow.txt", content))
    await climb("reading a file", lambda: box.files.read("narrow.txt"), content)
    await climb("listing a folder", box.files.list)
    await climb("removing a file", lambda: box.files.remove("narrow.txt"))


async def _states(climb: Climb, box: Sandbox) -> None:
    """A rollback is refused before anything was undone, or it may be taken again."""
    if box.capabilities.supports_snapshots.get("python", "none") == "none":
        return
    kept = (await climb("a snapshot", lambda: box.snapshot("narrow"))).name
    await climb("a rollback", lambda: box.rollback(kept))
    if (said := (await box.run("echo $kept", "bash", timeout=20)).stdout) != "7\n":
        climb.wrongs.append(f"bash came back as {said!r}")
    await climb("a difference", lambda: box.diff(kept))
    twin = (await climb("a branch", lambda: box.branch(1, kept)))[0]
    try:
        await climb("work in a branch", twin.files.list)
        if (said := (await twin.run("echo $kept", "bash", timeout=20)).stdout) != "7\n":
            climb.wrongs.append(f"bash began in a branch as {said!r}")
    finally:
        await twin.close()
    await climb("work after a branch", box.files.list)
    await climb("forgetting a snapshot", lambda: box.forget(kept))


async def _model(climb: Climb, box: Sandbox) -> None:
    """What an engine does with an interpreter."""

    def answer(call: Call) -> None:
        call.reply("y" * _ANSWER)

    async def asked() -> str:
        end = await box.python.execute(_ASK, timeout=20, handler=answer)
        return end.stdout.decode()

    fd = sealed("context", [b"z" * 10])
    try:
        about = b'{"kind": "text", "path": "x", "ascii": true, "errors": "replace", "spans": []}'
        context = Handover(fd, about)

        async def given() -> None:
            box.python.give(context)

        await climb("a context", given)
        await climb("a sub-call", asked, f"{_ANSWER} 10\n")
        await box.python.close()
        await climb("a fresh interpreter", asked, f"{_ANSWER} 10\n")
    finally:
        os.close(fd)


async def _lost(before: dict[int, str]) -> str:
    """What is open that was not, once what is ending has ended."""
    deadline = asyncio.get_running_loop().time() + _SETTLE_SECONDS
    while True:
        now = descriptors()
        more = [what for what in now.values() if what not in set(before.values())]
        if len(now) <= len(before) or asyncio.get_running_loop().time() > deadline:
            return "" if len(now) <= len(before) else ", ".join(more) or "copies of descriptors"
        await asyncio.sleep(0.01)
