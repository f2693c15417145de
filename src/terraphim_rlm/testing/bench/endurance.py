"""Rows that take minutes: fifty rollbacks of which each is checked, and five hundred sandboxes that live at once."""

from __future__ import annotations

import os
import random
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import TYPE_CHECKING

from terraphim_rlm.sandbox.sandbox import Sandbox
from terraphim_rlm.sandbox.selection import choose
from terraphim_rlm.testing.bench.boxes import Row, box_of, expect, said, timed
from terraphim_rlm.testing.bench.processes import Unreadable, descendants, pss_mb
from terraphim_rlm.testing.bench.rows import Goal, row
from terraphim_rlm.testing.bench.states import FILES, GOAL, HEAP, MEMORY_MB

if TYPE_CHECKING:
    from terraphim_rlm.testing.bench.sandbox import Sizes

_DESCRIPTORS = 12
"""Of ours for each sandbox, at most."""
_SPARE = 200
_SESSION_MB = 12
"""What a sandbox may take for the row to be tried."""
_COUNTERS = """
import hashlib, itertools, os
counter = itertools.count(100)
next(counter)
numbers = open('/work/numbers', 'w+')
numbers.writelines('%d\\n' % number for number in range(1_000))
numbers.flush()
numbers.seek(0)
numbers.readline()
def digest():
    files = hashlib.sha256()
    for folder, folders, names in os.walk('/work'):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            with open(path, 'rb') as file:
                files.update(repr((path, hashlib.sha256(file.read()).digest())).encode())
    plain = {name: value for name, value in globals().items() if type(value) in (int, str, list, dict)}
    plain = sorted((name, value) for name, value in plain.items() if not name.startswith('_'))
    return ' '.join(hashlib.sha256(data).hexdigest() for data in (heap, repr(plain).encode())), files.hexdigest()
state = {'of': ['the', 'interpreter']}
"""
_CHECK = "print(*digest(), counter, numbers.tell(), os.getcwd())"
_COUNT = "print(next(counter), numbers.readline().strip())"
_SPOIL = """
import random
random.seed({seed})
for at in random.sample(range(len(heap)), 1_000):
    heap[at] ^= 255
for name in random.sample(os.listdir('/work/many'), {few}):
    with open('/work/many/' + name, 'r+b') as file:
        file.write(b'spoilt')
os.remove('/work/many/' + random.choice(os.listdir('/work/many')))
open('/work/many/new', 'w').close()
state['of'].append({seed})
added = {seed}
for _ in range({seed} + 1):
    next(counter)
    numbers.readline()
numbers.write('spoilt')
numbers.flush()
os.chdir('/tmp')
"""


async def rows(backend: str, sizes: Sizes) -> AsyncIterator[Row]:
    """Each row as soon as it is measured."""
    async with await choose(backend) as standing, box_of(standing, memory_mb=MEMORY_MB) as box:
        yield row(
            f"{sizes.rollbacks} rollbacks in a row",
            "ms",
            await rollbacks(box, sizes.rollbacks, sizes.heap_mb, sizes.files[0]),
            GOAL,
            why=f"{sizes.heap_mb} MB + {sizes.files[0]:,} files; hashes of state and files, an open file and a "
            "counter were right after each",
        )
    async for one in sessions(backend, sizes.sessions):
        yield one


async def rollbacks(box: Sandbox, count: int, heap_mb: int, files: int) -> list[float]:
    """Goes back to one snapshot `count` times, each time after other damage; milliseconds of each rollback.

    Raises:
        AssertionError: something was not what it had been; it says which time and what.
    """
    for code in (FILES.format(count=files), HEAP.format(mb=heap_mb), _COUNTERS):
        await said(box, code)
    kept = await box.snapshot("kept")
    right = await said(box, _CHECK)
    counted = await said(box, _COUNT)
    samples = []
    for time in range(1, count + 1):
        await said(box, _SPOIL.format(seed=time, few=min(files, 50)))
        if set(right.split()) & set((await said(box, _CHECK)).split()):
            raise AssertionError(f"the damage before rollback {time} left something as it was")
        samples.append(await timed(box.rollback(kept)))
        for what, code, was in (("state", _CHECK, right), ("counters", _COUNT, counted)):
            if (found := await said(box, code)) != was:
                raise AssertionError(
                    f"after rollback {time} of {count} the {what} were {found!r}, not {was!r}"
                )
    return samples


async def sessions(backend: str, count: int) -> AsyncIterator[Row]:
    """Sandboxes that each hold their own value, read back in random order."""
    names = f"{count} sandboxes at once: "
    with descriptors(count * _DESCRIPTORS + _SPARE) as lacking:
        if reason := lacking or _no_room(count):
            for name, unit in (("read back", "ms"), ("memory of each", "MB")):
                yield row(names + name, unit, [], None, why=f"cannot run here: {reason}")
            return
        async with await choose(backend) as standing, AsyncExitStack() as stack:
            before = descendants()
            boxes = []
            for number in range(count):
                box = await stack.enter_async_context(box_of(standing))
                await expect(box, f"value = {number}\nprint(value)", f"{number}\n")
                boxes.append(box)
            yield _memory_row(names + "memory of each", descendants() - before, count)
            yield row(
                names + "read back",
                "ms",
                await read_back(boxes),
                Goal(100, at=0.99),
                why="print(value) in each, in random order; the goal is for p99",
            )


async def read_back(boxes: list[Sandbox]) -> list[float]:
    order = list(enumerate(boxes)) * 2
    random.Random(1).shuffle(order)  # noqa: S311 -- reproducible, not secret
    return [await timed(expect(box, "print(value)", f"{number}\n")) for number, box in order]


def _memory_row(name: str, pids: set[int], count: int) -> Row:
    try:
        total = pss_mb(pids)
    except Unreadable as error:
        return row(name, "MB", [], None, why=f"cannot be measured here: {error}")
    return row(name, "MB", [total / count], None, why=f"{total:,.0f} MB for all, their keeper among them")


@contextmanager
def descriptors(needed: int) -> Iterator[str]:
    """Lets this process open `needed` for the block; what is lacking, or nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        yield f"it takes {needed:,} open files, and the hard limit is {hard:,}"
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    try:
        yield ""
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _no_room(count: int) -> str:
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    needed = count * _SESSION_MB
    return "" if free >= needed else f"it may take {needed:,} MB of memory, and {free:,} are free"
