"""A guest behind one byte stream does what a guest with sockets of its own does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tunnel_kit import Piped

from terraphim_rlm.sandbox.backends.docker import boot
from terraphim_rlm.sandbox.contract import SandboxSpec
from terraphim_rlm.sandbox.sandbox import Sandbox
from terraphim_rlm.testing.conformance import cases
from terraphim_rlm.testing.conformance.model import Case, Target
from terraphim_rlm.testing.conformance.runner import Conformance

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]
MEGABYTE = 1 << 20
GROUPS = ("output", "callback", "shell", "stdin")


@pytest.fixture
async def box() -> AsyncIterator[Sandbox]:
    async with Piped() as backend, Sandbox(backend, SandboxSpec()) as sandbox:
        yield sandbox


async def test_what_a_cell_printed_is_there_when_it_says_that_it_is_done(box: Sandbox) -> None:
    for size in (1, 70_000, 3 * MEGABYTE):
        result = await box.run(f"import sys; sys.stderr.write('e' * {size}); print('o' * {size})")
        assert (result.status, len(result.stdout), len(result.stderr)) == ("ok", size + 1, size)


async def test_what_a_program_printed_is_there_when_it_has_ended(box: Sandbox) -> None:
    for _ in range(10):
        result = await box.sh(
            "head -c 300000 /dev/zero | tr '\\0' x; head -c 200000 /dev/zero | tr '\\0' y >&2"
        )
        assert (len(result.stdout), len(result.stderr)) == (300_000, 200_000)


async def test_what_an_interpreter_printed_before_it_fell_is_there(box: Sandbox) -> None:
    for _ in range(5):
        result = await box.run("import os; os.write(1, b'x' * 50000); os._exit(3)")
        assert (result.exit_code, len(result.stdout)) == (3, 50_000)


async def test_input_files_and_output_of_many_windows_arrive_whole_and_side_by_side(box: Sandbox) -> None:
    data = bytes(range(256)) * (4 * MEGABYTE // 256)

    async def through_a_file(name: str) -> bool:
        await box.files.write(name, data)
        return await box.files.read(name) == data

    async def through_a_program() -> bool:
        result = await box.sh("sha256sum; wc -c", stdin=data)
        return result.status == "ok"

    assert (
        await asyncio.gather(
            through_a_file("a"), through_a_file("b"), through_a_program(), through_a_program()
        )
        == [True] * 4
    )
    summed = await box.sh("sha256sum a b | cut -d' ' -f1 | uniq | wc -l; stat -c %s a")
    assert summed.stdout == f"1\n{len(data)}\n"


async def test_who_stops_reading_a_file_holds_up_nobody(box: Sandbox) -> None:
    await box.files.write("big", b"x" * (8 * MEGABYTE))
    blocks = box.files.read_blocks("big")
    assert await anext(blocks)
    result = await box.run("print('y' * 2_000_000)")
    assert len(result.stdout) == 2_000_001
    await blocks.aclose()  # type: ignore[attr-defined]
    assert (await box.sh("echo on")).stdout == "on\n"


async def test_sub_calls_of_a_cell_are_answered_over_the_same_stream() -> None:
    async with Piped() as backend:
        machine = await backend.create(SandboxSpec())
        code = "answers = [llm_query(str(n) + 'x' * 20_000) for n in range(100)]\n"
        code += "print(len(answers), answers[7][:4], len(answers[7]))"
        end = await machine.python.execute(
            code, timeout=20, handler=lambda call: call.reply(call.args["prompt"][:2] + "y" * 30_000)
        )
        assert (end.cause, end.stdout) == ("done", b"100 7xyy 30002\n")
        await machine.destroy()


async def test_nobody_in_the_sandbox_gets_at_the_stream(box: Sandbox) -> None:
    code = (
        "import os\n"
        "for path in ('/proc/1/fd/0', '/proc/1/fd/1', '/proc/1/mem', '/proc/1/environ'):\n"
        "    try: os.open(path, os.O_RDWR); print('opened', path)\n"
        "    except OSError: pass\n"
        "for number in range(0, 600):\n"
        "    try: target = os.readlink(f'/proc/self/fd/{number}')\n"
        "    except OSError: continue\n"
        "    print(number, target.split(':')[0])\n"
    )
    seen = (await box.run(code)).stdout.splitlines()
    assert not any(line.startswith("opened") for line in seen)
    assert [line for line in seen if "socket" in line] == ["3 socket"]  # its channel, and no other


async def test_a_cell_that_floods_its_channel_ends_itself_and_no_other(box: Sandbox) -> None:
    await box.run("kept = 1", "bash")
    flood = "import os\nwhile True: os.write(3, b'\\xff' * 65536)"
    assert (await box.run(flood, timeout=10)).status in ("killed", "exit_nonzero", "internal_error")
    assert (await box.run("echo still", "bash")).stdout == "still\n"
    assert (await box.run("1 + 1")).stdout == "2\n"


async def test_a_guest_for_another_python_is_compiled_inside() -> None:
    parcel = boot.parcel(b"none")
    assert len(parcel) > len(boot.parcel(boot.MAGIC_NUMBER)) // 2
    async with Piped() as backend:
        backend_parcel, boot.parcel = boot.parcel, lambda magic, guest=None: parcel  # type: ignore[assignment]
        try:
            async with Sandbox(backend, SandboxSpec()) as box:
                assert (await box.run("6 * 7")).stdout == "42\n"
        finally:
            boot.parcel = backend_parcel


@pytest.mark.parametrize(
    "case", [case for case in cases() if case.group in GROUPS], ids=lambda case: case.name
)
async def test_conformance(case: Case) -> None:
    from contextlib import asynccontextmanager

    from terraphim_rlm.core.values import Resources

    async with Piped() as backend:

        @asynccontextmanager
        async def opened(*, resources: Resources = Resources()) -> AsyncIterator[Sandbox]:  # noqa: B008 - frozen
            async with Sandbox(backend, SandboxSpec(resources=resources)) as box:
                yield box

        async with Conformance(Target("piped", opened)) as conformance:
            outcome = await conformance.run(case)
    if outcome.verdict == "skipped":
        pytest.skip(outcome.why)
    assert outcome.verdict == "passed", outcome.why
