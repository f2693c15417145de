"""Output as it comes, for readers fast, slow and gone; and what a sandbox counts."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terraphim_rlm import ExecutionResult, Output, Resources, Sandbox, open_sandbox
from terraphim_rlm.core.errors import InvalidArgument, SandboxBusy
from terraphim_rlm.sandbox.link.streams import Pieces, StreamName


@pytest.mark.sandbox
async def test_pieces_come_while_the_code_runs_and_the_result_comes_last(box: Sandbox) -> None:
    code = (
        "import os, sys, time\nprint('one', flush=True)\n"
        "while not os.path.exists('go'): time.sleep(0.005)\n"
        "print('two'); print('bad', file=sys.stderr); 3"
    )
    seen: list[Output | ExecutionResult] = []
    async for piece in box.stream(code):
        if not seen:
            assert piece == Output("stdout", "one\n")
            await box.files.write("go", b"")
        seen.append(piece)
    result = seen.pop()
    assert isinstance(result, ExecutionResult)
    assert (result.status, result.stdout, result.stderr) == ("ok", "one\ntwo\n3\n", "bad\n")
    said = {"stdout": "", "stderr": ""}
    for piece in seen:
        assert isinstance(piece, Output)
        said[piece.stream] += piece.text
    assert said == {"stdout": result.stdout, "stderr": result.stderr}


@pytest.mark.sandbox
@pytest.mark.parametrize("language", ["python", "bash"])
async def test_an_execution_that_says_nothing_or_fails_gives_its_result_alone(
    box: Sandbox, language: str
) -> None:
    assert [type(piece) async for piece in box.stream("", language)] == [ExecutionResult]
    *said, last = [
        piece
        async for piece in box.stream("raise SystemExit(7)" if language == "python" else "exit 7", language)
    ]
    assert isinstance(last, ExecutionResult)
    assert (said, last.exit_code) == ([], 7)


@pytest.mark.sandbox
async def test_leaving_the_loop_early_stops_the_code_and_keeps_its_state(box: Sandbox) -> None:
    async with aclosing(
        box.stream("import time\nx = 1\nprint('in', flush=True)\ntime.sleep(1000)")
    ) as pieces:
        async for piece in pieces:
            assert piece == Output("stdout", "in\n")
            break
    assert box.statistics().queue.running == 0
    after = await box.run("x", timeout=5)
    assert (after.status, after.stdout, after.state_after) == ("ok", "1\n", "kept")
    async for _ in box.stream("print('again', flush=True)\ntime.sleep(1000)"):
        break
    assert (await box.run("x", timeout=5)).stdout == "1\n"
    assert box.statistics().by_status == {"ok": 2, "cancelled": 2}


@pytest.mark.sandbox
async def test_a_slow_reader_costs_no_more_than_the_output_may_be() -> None:
    """And it gets every byte up to there, whatever the size of the pieces."""
    async with open_sandbox("bubblewrap", resources=Resources(output_bytes=300_000)) as box:
        code = "import os\nfor n in range(20000):\n    os.write(1 + n % 2, b'%d ' % n)\nos.write(1, b'x' * 5_000_000)"
        said = {"stdout": "", "stderr": ""}
        count = 0
        async for piece in box.stream(code, timeout=60):
            if isinstance(piece, ExecutionResult):
                assert piece.truncated
                assert said == {"stdout": piece.stdout, "stderr": piece.stderr}
                assert len(piece.stdout) == 300_000
            else:
                said[piece.stream] += piece.text
                count += 1
                if count == 1:
                    await box.sh("sleep 1")
        assert count < 5000


@given(
    said=st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.text(max_size=3)), max_size=3000),
    taken=st.lists(st.integers(0, 3000), max_size=5),
)
def test_joined_pieces_lose_nothing_of_a_stream_and_are_few(
    said: list[tuple[StreamName, str]], taken: list[int]
) -> None:
    async def read() -> None:
        pieces = Pieces()
        got: list[Output] = []
        for number, (name, text) in enumerate(said):
            pieces(name, text)
            if number in taken:
                got.append(await anext(aiter(pieces))) if text else None
        most = len(got) + 1002
        pieces.end()
        got += [piece async for piece in pieces]
        for name in ("stdout", "stderr"):
            assert "".join(each.text for each in got if each.stream == name) == "".join(
                text for stream, text in said if stream == name
            )
        assert all(each.text for each in got)
        assert len(got) <= most

    asyncio.run(read())


@pytest.mark.sandbox
async def test_what_cannot_be_streamed_is_refused_as_by_run(box: Sandbox) -> None:
    with pytest.raises(InvalidArgument, match="language"):
        await anext(box.stream("1", "cobol"))
    with pytest.raises(InvalidArgument, match="on_output"):
        await anext(box.stream("1", on_output=lambda *_: None))
    running = asyncio.ensure_future(box.run("import time; time.sleep(1000)"))
    await asyncio.sleep(0)
    with pytest.raises(SandboxBusy):
        await anext(box.stream("1", wait=0))
    running.cancel()
    await asyncio.wait({running})


@pytest.mark.sandbox
async def test_statistics_count_what_was_done_and_what_the_kernel_sees(box: Sandbox) -> None:
    await box.run("print('four')")
    await box.run("1/0")
    await box.run("import time; time.sleep(1000)", timeout=0.2)
    await box.sh("echo 1234 >&2; exit 3")
    await box.files.write("f", b"12345")
    await box.files.read("f")
    await box.files.read("f")
    told = box.statistics()
    assert told.executions == 4
    assert told.by_status == {"ok": 1, "exit_nonzero": 2, "timeout": 1}
    assert told.by_language == {"python": 3, "sh": 1}
    assert 0.2 < told.seconds < 30
    assert told.output_bytes == len("four\n1234\n")
    assert (told.files_written_bytes, told.files_read_bytes) == (5, 10)
    assert (told.queue.turns, told.queue.running, told.queue.waiting, told.queue.refused) == (7, 0, 0, 0)
    if box.capabilities.limits["memory"] == "kernel-group":
        grown = (await box.run("held = bytearray(50_000_000)")).status
        now = box.statistics().consumption
        assert grown == "ok"
        assert told.consumption.memory_bytes is not None
        assert now.memory_bytes is not None
        assert now.memory_bytes - told.consumption.memory_bytes > 40_000_000
        assert now.processes is not None
        assert 2 <= now.processes <= 4
    else:
        assert told.consumption.memory_bytes is None
