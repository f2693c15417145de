"""What a soak does over and over: the table of deeds, and how each of them must end."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from terraphim_rlm.core.errors import RlmError, SandboxLost
from terraphim_rlm.core.values import ExecutionResult
from terraphim_rlm.sandbox.contract import Backend, SandboxSpec
from terraphim_rlm.sandbox.sandbox import Sandbox

_COUNT = "count = globals().get('count', 0) + 1\nprint(count)"
_STUBBORN = "while True:\n    try:\n        while True: pass\n    except BaseException: pass"
_PROGRAMS = {
    "rust": 'fn main() { println!("{}", 6 * 7); }',
    "go": 'package main\n\nimport "fmt"\n\nfunc main() { fmt.Println(6 * 7) }\n',
}
_FLOOD = 3_000_000
_OPENING_SECONDS = 0.06
"""About as long as a sandbox takes to open: somewhere within it an opening is cut short."""


class Wrong(Exception):
    """A deed did not end as it must."""


@dataclass
class Worker:
    """One sandbox after another, or one that lives as long as the soak."""

    backend: Backend
    spec: SandboxSpec
    chance: random.Random
    box: Sandbox
    counted: int | None = 0
    """What the session's own counter must be; None when nobody can know."""
    ends: dict[str, int] = field(default_factory=dict)
    """Status -> how many executions ended so."""

    async def open(self) -> None:
        self.box, self.counted = Sandbox(self.backend, self.spec), 0
        await self.box.start()

    async def close(self) -> None:
        await self.box.close()

    async def run(self, code: str, language: str = "python", *status: str, **options: Any) -> ExecutionResult:
        """Runs code, which must end as one of `status` (ok when none is named)."""
        return self._ended(code, await self.box.run(code, language, **options), status)

    async def sh(self, command: str, *status: str, **options: Any) -> ExecutionResult:
        return self._ended(command, await self.box.sh(command, **options), status)

    def _ended(self, code: str, result: ExecutionResult, status: tuple[str, ...]) -> ExecutionResult:
        self.ends[result.status] = self.ends.get(result.status, 0) + 1
        if result.status not in (status or ("ok",)):
            said = " ".join(result.stderr.split())[-200:]
            raise Wrong(f"{code[:60]!r} ended as {result.status}: {said}")
        if result.state_after != "kept":
            self.counted = 0 if result.state_after == "lost" else None
        return result

    async def says(self, expected: str, code: str, language: str = "python", **options: Any) -> None:
        """Runs code that must print `expected`, and a line's end."""
        result = await self.run(code, language, **options)
        same(f"what {code[:60]!r} printed", result.stdout, f"{expected}\n")


def same(what: str, got: object, expected: object) -> None:
    if got != expected:
        raise Wrong(f"{what} was {str(got)[:80]!r}, not {str(expected)[:80]!r}")


async def compute(on: Worker) -> None:
    most = on.chance.randrange(1000)
    await on.says(str(sum(range(most))), f"print(sum(range({most})))")


async def count(on: Worker) -> None:
    """The session's own counter: lost only when it was said that state was lost."""
    result = await on.run(_COUNT)
    if on.counted is not None:
        same("the session's counter", result.stdout, f"{on.counted + 1}\n")
    on.counted = int(result.stdout)


async def raises(on: Worker) -> None:
    await on.run("{}['none']", "python", "exit_nonzero")


async def takes_input(on: Worker) -> None:
    size = on.chance.randrange(200_000)
    await on.says(
        str(size), "import sys; print(len(sys.stdin.read()))", stdin=bytes(size).replace(b"\0", b"x")
    )


async def shell(on: Worker) -> None:
    number = on.chance.randrange(1000)
    result = await on.sh(f"echo $(({number} + 1)); ls / >/dev/null")
    same("what the shell printed", result.stdout, f"{number + 1}\n")


async def bash(on: Worker) -> None:
    number = on.chance.randrange(1000)
    await on.run(f"kept={number}", "bash")
    await on.says(str(number), "echo $kept", "bash")


async def javascript(on: Worker) -> None:
    await on.says("42", "console.log(6 * 7)", "javascript")


async def rust(on: Worker) -> None:
    await on.says("42", _PROGRAMS["rust"], "rust", timeout=120.0)


async def go(on: Worker) -> None:
    await on.says("42", _PROGRAMS["go"], "go", timeout=120.0)


async def files(on: Worker) -> None:
    """In, out, listed, read from inside, removed."""
    content = on.chance.randbytes(on.chance.randrange(200_000))
    name = f"some/file-{on.chance.randrange(5)}"
    await on.box.files.write(name, content)
    same("a file's content", await on.box.files.read(name) == content, True)
    await on.says(str(len(content)), f"import os; print(os.path.getsize('/work/{name}'))")
    same(
        "the listing",
        name.rpartition("/")[2] in {each.path for each in await on.box.files.list("some")},
        True,
    )
    await on.box.files.remove("some")


async def read_partly(on: Worker) -> None:
    """A download that is left after its first block."""
    await on.box.files.write("long", bytes(2_000_000))
    async with contextlib.aclosing(on.box.files.read_blocks("long")) as blocks:
        async for _block in blocks:
            break
    await on.box.files.remove("long")


async def roll_back(on: Worker) -> None:
    await count(on)
    before = on.counted
    await on.box.files.write("kept", b"before")
    snapshot = await on.box.snapshot(partial=True)
    await count(on)
    await on.box.files.write("kept", b"after")
    same("the difference", (await on.box.diff(snapshot)).changed, ("/work/kept",))
    await on.box.rollback(snapshot)
    same("a file after a rollback", await on.box.files.read("kept"), b"before")
    on.counted = before
    await count(on)
    await on.box.forget(snapshot)
    await on.box.files.remove("kept")


async def branch(on: Worker) -> None:
    await count(on)
    async with AsyncExitStack() as stack:
        snapshot = await on.box.snapshot(partial=True)
        stack.push_async_callback(on.box.forget, snapshot)
        boxes = await on.box.branch(2, snapshot)
        on.chance.shuffle(boxes)
        for box in boxes:
            stack.push_async_callback(box.close)
        for box in sorted(boxes, key=id):
            result = await box.run(f"with open('own', 'w'): pass\n{_COUNT}")
            same("a branch's counter", result.stdout, f"{(on.counted or 0) + 1}\n")
    await on.says("False", "import os; print(os.path.exists('/work/own'))")


async def times_out(on: Worker) -> None:
    await on.run("while True: pass", "python", "timeout", timeout=0.05)


async def will_not_stop(on: Worker) -> None:
    await on.run(_STUBBORN, "python", "timeout", timeout=0.05)


async def shell_times_out(on: Worker) -> None:
    await on.sh("sleep 60 & sleep 60", "timeout", timeout=0.05)


async def out_of_memory(on: Worker) -> None:
    """Killed by its group, or refused the memory where each process has its own limit."""
    await on.run("held = bytearray(400 << 20)", "python", "oom", "exit_nonzero")


async def disk_full(on: Worker) -> None:
    code = "with open('/work/big', 'wb') as file: file.write(bytes(70 << 20))"
    await on.run(code, "python", "disk_full", "exit_nonzero")
    await on.sh("rm -f /work/big")


async def floods(on: Worker) -> None:
    result = await on.run(f"print('x' * {_FLOOD})")
    same("whether a flood was cut", result.truncated, True)


async def exits(on: Worker) -> None:
    await on.run("import os; os._exit(3)", "python", "exit_nonzero")


async def kills_itself(on: Worker) -> None:
    await on.run("import os; os.kill(os.getpid(), 9)", "python", "killed")


async def leaves_processes(on: Worker) -> None:
    """They are the sandbox's, and go with it or at once."""
    await on.sh("for n in 1 2 3; do setsid sleep 1 </dev/null >/dev/null 2>&1 & done")


async def cancelled(on: Worker) -> None:
    """The caller leaves at any moment of a cell."""
    work = asyncio.ensure_future(on.box.run("import time; time.sleep(5)"))
    await asyncio.wait({work}, timeout=on.chance.uniform(0, 0.02))
    await _cancelled(work)
    on.counted = None


async def shell_cancelled(on: Worker) -> None:
    work = asyncio.ensure_future(on.box.sh("sleep 5 | cat"))
    await asyncio.wait({work}, timeout=on.chance.uniform(0, 0.02))
    await _cancelled(work)


async def stream_left(on: Worker) -> None:
    async with contextlib.aclosing(on.box.stream("while True: print('on and on')")) as pieces:
        async for _piece in pieces:
            break
    on.counted = None


async def reopen(on: Worker) -> None:
    await on.close()
    await on.open()
    await count(on)


async def opening_cancelled(on: Worker) -> None:
    """The caller leaves at any moment of a sandbox's set-up."""
    box = Sandbox(on.backend, on.spec)
    work = asyncio.ensure_future(box.start())
    await asyncio.wait({work}, timeout=on.chance.uniform(0, _OPENING_SECONDS))
    await _cancelled(work)
    await box.close()


async def closed_while_running(on: Worker) -> None:
    work = asyncio.ensure_future(on.box.run("import time; time.sleep(5)"))
    await asyncio.wait({work}, timeout=on.chance.uniform(0, 0.02))
    await on.close()
    with contextlib.suppress(SandboxLost):
        await work
    await on.open()


async def _cancelled(work: asyncio.Future[Any]) -> None:
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError, RlmError):
        await work


@dataclass(frozen=True, slots=True)
class Deed:
    """One entry of the table."""

    does: Callable[[Worker], Awaitable[None]]
    weight: float
    """How often it is done, against the others."""
    ends_sandbox: bool = False
    """Not for a session that is to live as long as the soak."""
    language: str = "python"


_LIST = (
    Deed(compute, 25), Deed(count, 20), Deed(raises, 5), Deed(takes_input, 3), Deed(shell, 14), Deed(bash, 5, language="bash"),
    Deed(javascript, 3, language="javascript"), Deed(rust, 1, language="rust"), Deed(go, 1, language="go"),
    Deed(files, 5), Deed(read_partly, 1), Deed(roll_back, 2), Deed(branch, 1), Deed(times_out, 1), Deed(will_not_stop, 0.2),
    Deed(shell_times_out, 1), Deed(out_of_memory, 0.7), Deed(disk_full, 0.5), Deed(floods, 1), Deed(exits, 1.5), Deed(kills_itself, 1.5),
    Deed(leaves_processes, 1), Deed(cancelled, 2), Deed(shell_cancelled, 1), Deed(stream_left, 1),
    Deed(reopen, 3, ends_sandbox=True), Deed(opening_cancelled, 2, ends_sandbox=True), Deed(closed_while_running, 1, ends_sandbox=True),
)  # fmt: skip
DEEDS: Mapping[str, Deed] = {deed.does.__name__: deed for deed in _LIST}
"""Name -> deed."""
