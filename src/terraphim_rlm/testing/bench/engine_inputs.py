"""Rows of the engine: large inputs, their memory, and searches in them."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from terraphim_rlm.core import process
from terraphim_rlm.engine.context import make_context
from terraphim_rlm.sandbox.opening import open_sandbox
from terraphim_rlm.sandbox.sandbox import Sandbox
from terraphim_rlm.testing.bench.boxes import expect, said
from terraphim_rlm.testing.bench.processes import descendants
from terraphim_rlm.testing.engines.ours import Ours

_ROOT = "ROOT-7f"
_MB = 1_000_000
_LINE = "{n:08d} the quick brown fox jumps over the lazy dog while seven wizards brew potions, entry {n}\n"
PATTERNS = {
    "a word": "needle",
    "a number after a word": r"needle [0-9]+",
    "one of two words": "needle|haystack",
    "a word of every thousandth line": "000 the quick",
    "a word of every tenth line": "0 the quick",
    "a word of every line": "quick",
}


def script(megabytes: int, turns: int = 5) -> dict[str, Any]:
    """Turns over a text of that size; the last one gives its length."""
    steps = [{"code": f"print(len(context), {turn})"} for turn in range(turns - 1)]
    return {
        "question": f"{_ROOT} How long is it?",
        "context": {"repeat": ["x" * 999 + "\n", megabytes * 1_000]},
        "turns": [[_ROOT, [*steps, {"code": "n = len(context)", "final": "n"}]]],
    }


async def turns(count: int, megabytes: int) -> list[float]:
    """Seconds of whole runs over a str."""
    asked = script(megabytes)
    text = ("x" * 999 + "\n") * (megabytes * 1_000)
    samples = []
    async with Ours() as engine:
        for _ in range(count):
            told = await engine.ask(asked, text)
            if told["answer"] != len(text):
                raise AssertionError(f"the run gave {told['answer']!r}, {told['error']}")
            samples.append(float(told["seconds"]))
    return samples


async def texts(count: int, megabytes: int) -> list[float]:
    """Seconds from a str in the host to its length in a cell."""
    text = "x" * (megabytes * _MB)
    return [await _loaded(text, "print(len(context))", f"{len(text)}\n") for _ in range(count)]


async def _loaded(value: Any, code: str, answer: str) -> float:
    async with open_sandbox() as box:
        await box.run("1")
        started = time.perf_counter()
        context = await asyncio.to_thread(make_context, value)
        try:
            box.python.give(context.handover())
            await expect(box, code, answer)
            return time.perf_counter() - started
        finally:
            context.close()


def text_file(path: Path, megabytes: int) -> Path:
    """A text of that size, with one needle near its end."""
    block = "".join(_LINE.format(n=n) for n in range(10_000)).encode()
    size = megabytes * _MB
    with path.open("wb") as file:
        while file.tell() + len(block) < size:
            file.write(block)
        file.write(b"a needle 4711 lies here\n")
    return path


async def files(path: Path, count: int) -> tuple[list[float], list[float]]:
    """Seconds to load a file and read its end, and the memory that it takes, over its size."""
    size = await asyncio.to_thread(os.path.getsize, path)
    last = "a needle 4711 lies here"
    seconds, memory = [], []
    for _ in range(count):
        async with open_sandbox() as box:
            await box.run("1")
            before = _own_memory()
            started = time.perf_counter()
            context = await asyncio.to_thread(make_context, path)
            try:
                handover = context.handover()
                box.python.give(handover)
                await expect(box, "print(len(context), context[-24:].strip())", f"{size} {last}\n")
                seconds.append(time.perf_counter() - started)
                held = os.fstat(handover.fd).st_blocks * 512
                memory.append((held + _own_memory() - before) / size)
            finally:
                context.close()
    return seconds, memory


def _own_memory() -> int:
    """Bytes of anonymous memory of this process and all that came of it."""
    return sum(map(_anonymous, {os.getpid(), *descendants()}))


def _anonymous(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Anonymous:"))


async def greps(path: Path, pattern: str, count: int) -> list[tuple[float, float]]:
    """Seconds of a search of a file in a cell, and how many times as long it takes as `grep -cE` on the same file."""
    context = await asyncio.to_thread(make_context, path)
    try:
        async with open_sandbox() as box:
            box.python.give(context.handover())
            await said(box, "len(context)")
            return [await _grep(box, path, pattern) for _ in range(count)]
    finally:
        context.close()


async def _grep(box: Sandbox, path: Path, pattern: str) -> tuple[float, float]:
    started = time.perf_counter()
    done = await asyncio.to_thread(process.run, ["grep", "-cE", pattern, str(path)], timeout=120)
    theirs = time.perf_counter() - started
    started = time.perf_counter()
    await expect(box, f"print(grep({pattern!r}, count=True))", done.stdout.decode())
    ours = time.perf_counter() - started
    return ours, ours / theirs
