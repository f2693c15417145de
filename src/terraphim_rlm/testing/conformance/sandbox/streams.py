"""What code says while it says it, and what a sandbox counts."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.core.values import ExecutionResult
from terraphim_rlm.testing.conformance.checks import begun, holds, like, refused, same, within
from terraphim_rlm.testing.conformance.model import Box, Group

STREAM = Group("stream")
STATISTICS = Group("statistics")


async def _all_of(box: Box, *arguments: Any, **options: Any) -> list[Any]:
    async with aclosing(box.stream(*arguments, **options)) as pieces:
        return [piece async for piece in pieces]


@STREAM.fresh()
async def pieces_come_while_the_code_runs(box: Box) -> None:
    code = "import os, time\nprint('one', flush=True)\nwhile not os.path.exists('go'): time.sleep(0.005)\nprint('two')"
    async with aclosing(box.stream(code, timeout=15)) as pieces:
        first = await within(8, anext(pieces), "the first piece")
        same((first.stream, first.text), ("stdout", "one\n"), "the first piece")
        await box.sh("touch go")
        *_, last = [piece async for piece in pieces]
    like(last, status="ok", stdout="one\ntwo\n")


@STREAM.shared()
async def pieces_are_together_what_the_result_says(box: Box) -> None:
    code = "import sys\nfor n in range(9999): print(n, '😀é')\nprint('bad\\r\\n' * 999, file=sys.stderr)\nprint('end', end='')"
    *pieces, result = await _all_of(box, code)
    for name in ("stdout", "stderr"):
        told = "".join(piece.text for piece in pieces if piece.stream == name)
        same(told, getattr(result, name), f"what the pieces of {name} hold together")
    holds(result.stdout.endswith("end"), "the end is there")


@STREAM.shared()
async def the_result_comes_last_and_once(box: Box) -> None:
    for code, status in (("", "ok"), ("print(1)", "ok"), ("print(1)\n1 / 0", "exit_nonzero")):
        found = await _all_of(box, code)
        same([isinstance(each, ExecutionResult) for each in found].count(True), 1, "the number of results")
        like(found[-1], status=status)


@STREAM.shared("language:bash")
async def bash_streams_too(box: Box) -> None:
    *pieces, result = await _all_of(box, "echo out; echo err >&2; (exit 3)", "bash")
    same(
        sorted((each.stream, each.text) for each in pieces),
        [("stderr", "err\n"), ("stdout", "out\n")],
        "the pieces",
    )
    like(result, exit_code=3)


@STREAM.shared()
async def a_stream_that_is_left_early_stops_the_code_and_keeps_its_state(box: Box) -> None:
    async with aclosing(
        box.stream("kept = 5\nprint('in', flush=True)\nimport time\ntime.sleep(1000)")
    ) as pieces:
        await within(8, anext(pieces), "the first piece")
    like(await within(8, box.run("kept"), "the next execution"), stdout="5\n", status="ok")


@STREAM.shared()
async def a_stream_out_of_time_says_so_after_what_it_said(box: Box) -> None:
    *pieces, result = await _all_of(box, "print('said', flush=True)\nwhile True: pass", timeout=0.3)
    same("".join(each.text for each in pieces), "said\n", "the pieces")
    like(result, status="timeout", stdout="said\n")


@STREAM.shared()
async def what_cannot_run_cannot_be_streamed(box: Box) -> None:
    await refused(_all_of(box, "1", "no-such-language"), InvalidArgument)
    await refused(_all_of(box, 5), InvalidArgument)
    await refused(_all_of(box, "1", on_output=lambda *_: None), InvalidArgument)


@STATISTICS.fresh()
async def executions_are_counted_by_status_and_language(box: Box) -> None:
    same(box.statistics().executions, 0, "the count of a new sandbox")
    await box.run("1")
    await box.run("1 / 0")
    await box.run("import time; time.sleep(9)", timeout=0.1)
    await box.sh("true")
    seen = box.statistics()
    same(seen.executions, 4, "the number of executions")
    same(dict(seen.by_status), {"ok": 2, "exit_nonzero": 1, "timeout": 1}, "by status")
    same(dict(seen.by_language), {"python": 3, "sh": 1}, "by language")


@STATISTICS.fresh()
async def seconds_and_bytes_are_counted(box: Box) -> None:
    await box.run("import time; time.sleep(0.1); print('x' * 999)")
    await box.sh("printf '%.0s-' {1..100} >&2")
    await box.files.write("f", b"12345")
    await box.files.read("f")
    await box.files.read("f")
    seen = box.statistics()
    holds(0.1 <= seen.seconds < 10, f"{seen.seconds} s is between 0.1 and 10")
    same((seen.output_bytes, seen.files_written_bytes, seen.files_read_bytes), (1100, 5, 10), "the bytes")


@STATISTICS.fresh()
async def who_runs_and_who_waits_is_counted(box: Box) -> None:
    code = "import os, time\nprint('go', flush=True)\nwhile not os.path.exists('/tmp/go'): time.sleep(0.005)"
    first = asyncio.Event()
    work = [begun(box.run(code, on_output=lambda *_: first.set()))]
    await within(8, first.wait(), "the first word")
    work += [begun(box.run("1")), begun(box.run("2"))]
    for _ in range(3):
        await asyncio.sleep(0)
    seen = box.statistics().queue
    same((seen.running, seen.waiting), (1, 2), "those that run and wait")
    await box.sh("touch /tmp/go")
    await within(10, asyncio.gather(*work), "all of them")
    seen = box.statistics().queue
    same((seen.running, seen.waiting, seen.turns), (0, 0, 4), "those that run, wait and ran")


@STATISTICS.fresh("group:pids", "group:memory")
async def what_it_takes_up_is_measured(box: Box) -> None:
    await box.run("1")
    before = box.statistics().consumption
    holds(before.memory_bytes and before.processes, f"{before} tells memory and processes")
    await box.run(
        "import subprocess\nheld = bytes(range(256)) * 200_000\np = [subprocess.Popen(['sleep', '1000']) for _ in 'abc']"
    )
    after = box.statistics().consumption
    holds(after.processes >= before.processes + 3, f"{after.processes} processes after {before.processes}")
    holds(
        after.memory_bytes >= before.memory_bytes + 50_000_000,
        f"{after.memory_bytes} bytes after {before.memory_bytes}",
    )
