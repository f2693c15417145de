"""`trlm bench engine`: what the engine itself costs, with the sandbox on and a model that answers at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from terraphim_rlm.core.paths import data_dir
from terraphim_rlm.testing.bench import engine_inputs as inputs
from terraphim_rlm.testing.bench import engine_work as work
from terraphim_rlm.testing.bench import speculation
from terraphim_rlm.testing.bench.engine_peers import NO_ENGINES, Beside, all_engines
from terraphim_rlm.testing.bench.rows import Goal, row

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    runs: int = 40
    round_trips: int = 2_000
    repeats: int = 7
    megabytes: int = 1_000
    """Of the largest input."""
    growing_megabytes: Sequence[int] = (1, 10, 100)
    growing_calls: Sequence[int] = (50, 200, 1_000, 5_000)
    growing_children: Sequence[int] = (5, 20, 80)
    peer_seconds: float = 120.0
    """For each row of each peer."""


async def engine(
    emit: Callable[[Row], None], *, with_peers: bool = False, sizes: Sizes | None = None
) -> bool:
    """Emits every row; True when no goal is missed.

    Raises:
        AssertionError: something came out wrong. No figure of it is worth anything.
    """
    met, amount = True, sizes or Sizes()
    beside = all_engines(amount.peer_seconds) if with_peers else NO_ENGINES
    try:
        async for one in rows(amount, beside):
            emit(one)
            met = met and one["met"] is not False
    finally:
        beside.close()
    return met


async def rows(sizes: Sizes, beside: Beside) -> AsyncIterator[Row]:
    """Each row as soon as it is measured."""
    async for one in _single(sizes, beside):
        yield one
    yield await _cancelled(sizes)
    async for one in _speculated(sizes):
        yield one
    async for one in _many(sizes, beside):
        yield one
    async for one in _large(sizes, beside):
        yield one


async def _single(sizes: Sizes, beside: Beside) -> AsyncIterator[Row]:
    yield row(
        "floor: two processes",
        "ms",
        await work.floor(sizes.round_trips),
        None,
        why="one byte there and back over a socket pair: what waking two processes costs on this machine now",
    )
    yield row(
        "REPL round trip",
        "ms",
        await work.round_trips(sizes.round_trips),
        0.25,
        peers=await beside.repl(sizes.round_trips),
        why="print(1) in a living interpreter; only peers with a process for their cells",
    )
    yield row(
        "sub-call round trip",
        "ms",
        await work.sub_calls(sizes.round_trips),
        0.1,
        peers=await beside.timed_inside(work.SUB_CALLS, 1),
        why="llm_query, seen from the cell",
    )
    yield row(
        "run, spare ready",
        "ms",
        await work.runs(sizes.runs, spare=True),
        10,
        peers=await beside.seconds(work.RUN, sizes.runs, scale=1000),
        why="one turn, one cell, FINAL; journaled",
    )
    yield row(
        "run, no spare",
        "ms",
        await work.runs(max(sizes.runs // 3, 2), spare=False),
        None,
        why="the same, and a sandbox and its keeper start and end",
    )


async def _cancelled(sizes: Sizes) -> Row:
    return row(
        "cancel of a run",
        "ms",
        await work.cancels(sizes.repeats),
        100,
        why="its cell waits for 50 sub-calls; until its interpreter, calls and sandbox are gone",
    )


async def _speculated(sizes: Sizes) -> AsyncIterator[Row]:
    yield row(
        "speculation: time saved",
        "%",
        await speculation.savings(sizes.repeats),
        Goal(20, least=True),
        why="a run of two replies at 200 tokens/s; the first asks 5 sub-calls of 50 ms in a row, then says 66 words more",
    )
    yield row(
        "speculation: time saved where nothing is asked",
        "%",
        await speculation.savings(sizes.repeats, asks=False),
        None,
        why="the same run without sub-calls: what listening to the stream costs is below 0",
    )


async def _many(sizes: Sizes, beside: Beside) -> AsyncIterator[Row]:
    for count, goal in ((200, 0.12), (1_000, 0.25)):
        script = work.fan_out(count)
        yield row(
            f"{count:,} sub-calls of 50 ms",
            "s",
            await work.inside(script, sizes.repeats),
            goal,
            peers=await beside.timed_inside(script, 2),
            why="llm_query_batched, seen from the cell",
        )
    for count in sizes.growing_calls:
        yield row(
            f"growth: {count:,} sub-calls at once",
            "s",
            await work.inside(work.fan_out(count, latency=0), 3),
            None,
            why="an instant model, so that the row shows what grows",
        )
    yield row(
        "20 child nodes",
        "s",
        await work.inside(work.children(20), sizes.repeats),
        0.2,
        peers=await beside.timed_inside(work.children(20), 2),
        why="rlm_query one after another, each child with an interpreter and one turn",
    )
    for count in sizes.growing_children:
        yield row(
            f"growth: {count} child nodes side by side",
            "s",
            await work.inside(work.children(count, batched=True), 3),
            None,
            why="rlm_query_batched",
        )


async def _large(sizes: Sizes, beside: Beside) -> AsyncIterator[Row]:
    yield row(
        "100 MB context, 5 turns",
        "s",
        await inputs.turns(3, 100),
        0.1,
        peers=await beside.seconds(inputs.script(100), 2),
        why="a str: load, then 5 turns over it; 0 bytes are sent again",
    )
    for size in sizes.growing_megabytes:
        yield row(
            f"growth: load {size} MB",
            "s",
            await inputs.texts(3, size),
            None,
            why="a str in the host, until len(context) is known in a cell",
        )
    data_dir().mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=data_dir(), prefix="bench-") as folder:
        for size in sizes.growing_megabytes:
            smaller = inputs.text_file(Path(folder) / f"{size}.txt", size)
            yield row(
                f"growth: grep of {size} MB",
                "s",
                [seconds for seconds, _ in await inputs.greps(smaller, "000 the quick", 3)],
                None,
                why="a word of every thousandth line, counted",
            )
        file = inputs.text_file(Path(folder) / "large.txt", sizes.megabytes)
        async for one in _of_a_file(file, sizes, beside):
            yield one


async def _of_a_file(file: Path, sizes: Sizes, beside: Beside) -> AsyncIterator[Row]:
    seconds, memory = await inputs.files(file, 3)
    yield row(
        f"{sizes.megabytes:,} MB context",
        "s",
        seconds,
        2,
        peers=await beside.seconds(inputs.script(sizes.megabytes, turns=1), 1),
        why="a file, until len(context) is known in a cell and its last line is read; peers are given a str",
    )
    yield row(
        f"{sizes.megabytes:,} MB context, memory",
        "x",
        memory,
        1.1,
        peers=await beside.memory(inputs.script(sizes.megabytes, turns=1), sizes.megabytes),
        why="memory file, and what our processes have grown by, over the size; a peer's peak over it",
    )
    for what, pattern in inputs.PATTERNS.items():
        yield row(
            f"grep of {sizes.megabytes:,} MB: {what}",
            "x",
            [times for _, times in await inputs.greps(file, pattern, 5)],
            2,
            why=f"grep({pattern!r}, count=True) in a cell, over the time of `grep -cE` on the file",
        )
