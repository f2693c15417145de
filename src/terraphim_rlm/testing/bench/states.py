"""Rows about states: snapshot, rollback, first write afterwards, branches."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from terraphim_rlm.sandbox.contract import Backend
from terraphim_rlm.sandbox.sandbox import Sandbox
from terraphim_rlm.testing.bench.boxes import Row, box_of, expect, said, timed
from terraphim_rlm.testing.bench.rows import row

if TYPE_CHECKING:
    from terraphim_rlm.testing.bench.sandbox import Sizes

GOAL = 25.0
"""Milliseconds for a snapshot, and for a rollback."""
MEMORY_MB = 3_072
HEAP = """
heap = bytearray({mb} << 20)
for at in range(0, len(heap), 4096):
    heap[at] = 1
"""
FILES = """
import os
os.makedirs('/work/many')
for number in range({count}):
    with open('/work/many/%d' % number, 'wb') as file:
        file.write(os.urandom(10_000))
"""
_OBJECTS = "heap = [{{'number': number}} for number in range({count})]"
_TOUCH_HEAP = "for at in range(0, len(heap), 4096):\n    heap[at] ^= 3"
_TOUCH_OBJECTS = "for each in heap:\n    each['number'] += 1"
_TOUCH_FILES = """
for name in os.listdir('/work/many'):
    with open('/work/many/' + name, 'ab') as file:
        file.write(b'x')
"""
_MARK = "value = {number}\nwith open('/work/value', 'w') as file:\n    print(value, file=file)"
_SPOIL = "value = heap[0] = 'later'.__len__()\nos.remove('/work/value')\nopen('/work/later', 'w').close()"
_SEEN = "print(value, heap[0], open('/work/value').read(), os.path.exists('/work/later'))"


@dataclass(frozen=True, slots=True)
class _Case:
    """What an interpreter and its files hold when they are kept."""

    name: str
    build: str
    touch: str
    files: int
    fresh: bool = True
    """Whether each sample has a sandbox of its own; else all was written again since the snapshot before."""
    goal: float | None = GOAL


@dataclass(frozen=True, slots=True)
class _Samples:
    """Milliseconds."""

    very_first: list[float] = field(default_factory=list)
    snapshot: list[float] = field(default_factory=list)
    rollback: list[float] = field(default_factory=list)
    first_heap: list[float] = field(default_factory=list)
    first_files: list[float] = field(default_factory=list)


def _cases(sizes: Sizes) -> list[_Case]:
    mb, some = sizes.heap_mb, sizes.files[0]
    build = HEAP.format(mb=mb)
    return [
        *(_Case(f"{mb} MB + {files:,} files", build, _TOUCH_HEAP, files) for files in sizes.files),
        _Case(f"{mb} MB rewritten + {some:,} files", build, _TOUCH_HEAP, some, fresh=False),
        _Case(
            f"{sizes.objects:,} dicts + {some:,} files",
            _OBJECTS.format(count=sizes.objects),
            _TOUCH_OBJECTS,
            some,
            fresh=False,
            goal=None,
        ),
    ]


async def rows(backend: Backend, sizes: Sizes) -> AsyncIterator[Row]:
    """Each row as soon as it is measured."""
    for number, case in enumerate(_cases(sizes)):
        samples = await _measured(backend, case, sizes.states)
        if not number:
            why = "of an empty sandbox: who keeps its files is started, and Python as well"
            yield row("first snapshot of all", "ms", samples.very_first, None, why=why)
        for one in _case_rows(case, samples):
            yield one
    async with box_of(backend, memory_mb=MEMORY_MB) as box:
        async for one in _branch_rows(box, sizes):
            yield one


def _case_rows(case: _Case, samples: _Samples) -> list[Row]:
    about = "" if case.fresh else "; since an earlier snapshot, all of it was written again"
    return [
        row(f"snapshot, {case.name}", "ms", samples.snapshot, case.goal, why=f"both in one act{about}"),
        row(f"rollback, {case.name}", "ms", samples.rollback, case.goal, why="checked by a value and files"),
        row(
            f"first write to heap, {case.name}",
            "ms",
            samples.first_heap,
            None,
            why="to every page or object of it",
        ),
        row(
            f"first write to files, {case.name}",
            "ms",
            samples.first_files,
            None,
            why="one byte to the end of each",
        ),
    ]


async def _measured(backend: Backend, case: _Case, count: int) -> _Samples:
    samples = _Samples()
    if case.fresh:
        for _ in range(count):
            await _go_back(backend, case, 1, samples)
    else:
        await _go_back(backend, case, count, samples)
    return samples


async def _go_back(backend: Backend, case: _Case, count: int, samples: _Samples) -> None:
    """Takes `count` snapshots, one after another, in one sandbox, and goes back to each once."""
    async with box_of(backend, memory_mb=MEMORY_MB) as box:
        samples.very_first.append(await timed(box.snapshot("kept")))
        await box.forget("kept")
        await said(box, FILES.format(count=case.files))
        await said(box, case.build)
        for number in range(count):
            await said(box, _MARK.format(number=number))
            seen = await said(box, _SEEN)
            samples.snapshot.append(await timed(box.snapshot("kept")))
            await said(box, _SPOIL)
            samples.rollback.append(await timed(box.rollback("kept")))
            await expect(box, _SEEN, seen)
            samples.first_heap.append(await timed(said(box, case.touch)))
            samples.first_files.append(await timed(said(box, _TOUCH_FILES)))
            await box.forget("kept")


async def _branch_rows(box: Sandbox, sizes: Sizes) -> AsyncIterator[Row]:
    await said(box, FILES.format(count=sizes.files[0]))
    await said(box, HEAP.format(mb=sizes.heap_mb))
    await said(box, "value = 'kept'")
    about = f"{sizes.heap_mb} MB + {sizes.files[0]:,} files"
    made = [await _branched(box, sizes.branches) for _ in range(max(sizes.states // 3, 1))]
    yield row(f"branch({sizes.branches})", "ms", made, None, why=f"all of them; {about}")
    each = [total / sizes.branches for total in made]
    yield row("branch, each", "ms", each, None, why="the same, divided by their number")
    switches = await _switches(box, 4 * sizes.states)
    yield row(
        "switch of branches", "ms", switches, None, why=f"print(value) in the one that is parked; {about}"
    )


async def _branched(box: Sandbox, count: int) -> float:
    async with AsyncExitStack() as stack:
        started = time.perf_counter()
        branches = await box.branch(count)
        elapsed = (time.perf_counter() - started) * 1000
        for number, branch in enumerate(branches):
            stack.push_async_callback(branch.close)
            await expect(branch, f"print(value)\nvalue = {number}", "kept\n")
        for number, branch in enumerate(branches):
            await expect(branch, "print(value)", f"{number}\n")
    return elapsed


async def _switches(box: Sandbox, count: int) -> list[float]:
    (other,) = await box.branch(1)
    async with other:
        pair = (box, other)
        for one in pair:
            await expect(one, "print(value)", "kept\n")
        return [await timed(expect(pair[turn % 2], "print(value)", "kept\n")) for turn in range(count)]
