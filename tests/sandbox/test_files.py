"""Files of a sandbox: whole, in blocks, by any name, and nothing that code inside does makes them hang or lie."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from terraphim_rlm import Resources, Sandbox, open_sandbox
from terraphim_rlm.core.errors import (
    DiskFull,
    ExecutionFailed,
    FileTooLarge,
    InvalidArgument,
    PathDenied,
    PathIsFolder,
    PathNotFound,
    RlmError,
    SandboxLost,
)

pytestmark = pytest.mark.sandbox
MB = 1 << 20


def _open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def _said(box: Sandbox, command: str) -> str:
    result = await box.sh(command)
    assert result.status == "ok", result.stderr
    return result.stdout


async def test_what_is_written_is_what_code_and_we_read(box: Sandbox) -> None:
    await box.files.write("a/b c.txt", "grüße\n")
    assert await _said(box, "cat 'a/b c.txt'; stat -c %a a 'a/b c.txt'") == "grüße\n755\n644\n"
    assert await box.files.read("a/b c.txt") == "grüße\n".encode()
    assert await box.files.read_text(PurePosixPath("/work/a/b c.txt")) == "grüße\n"
    await box.run("open('c', 'wb').write(bytes(range(256)))")
    assert await box.files.read("/work/./a/../c") == bytes(range(256))
    with pytest.raises(UnicodeDecodeError):
        await box.files.read_text("c")
    assert await box.files.read_text("c", encoding="latin-1") == bytes(range(256)).decode("latin-1")
    with pytest.raises(UnicodeEncodeError):
        await box.files.write("c", "\ud800")


NAMES = st.lists(
    st.binary(min_size=1, max_size=40)
    .map(lambda name: name.replace(b"\0", b"-").replace(b"/", b"\n"))
    .filter(lambda name: name not in (b".", b"..")),
    min_size=1,
    max_size=3,
)


async def test_any_content_under_any_name_comes_back(box: Sandbox) -> None:
    """One event loop for all examples: hypothesis runs in a thread and hands each to it."""
    loop = asyncio.get_running_loop()

    @given(names=NAMES, content=st.binary(max_size=200_000), absolute=st.booleans())
    @settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
    def each(names: list[bytes], content: bytes, absolute: bool) -> None:
        path = os.fsdecode(b"x/" + b"/".join(names))
        asyncio.run_coroutine_threadsafe(_round_trip(path, content, absolute), loop).result(60)

    async def _round_trip(path: str, content: bytes, absolute: bool) -> None:
        where = f"/work/{path}" if absolute else path
        await box.files.write(where, content)
        assert await box.files.read(where) == content
        found = await box.files.list("/work" if absolute else ".", deep=True)
        assert [(info.path, info.size) for info in found if info.kind == "file"] == [(where, len(content))]
        await box.files.remove("x")
        assert await box.files.list() == []

    await asyncio.to_thread(each)


@pytest.mark.parametrize(
    "name", ["-rf", "--help", "a\nb", "*", "$(id)", "\udcff\udcfe", "é" * 127, " ", "..."]
)
async def test_odd_names_are_only_names(box: Sandbox, name: str) -> None:
    await box.files.write(name, b"1")
    (info,) = await box.files.list()
    assert (info.path, info.kind, info.size, info.mode) == (name, "file", 1, 0o644)
    assert await box.files.read(info.path) == b"1"
    await box.files.remove(name)
    assert await box.files.list() == []


@pytest.mark.parametrize(
    "path", ["", "a\0b", "\ud800", "x" * 5000, "é" * 2048, None, b"bytes", 3, ["a"]], ids=repr
)
async def test_what_is_no_path_is_refused_before_anything_happens(box: Sandbox, path: Any) -> None:
    for use in (box.files.read, box.files.list, box.files.remove):
        with pytest.raises(InvalidArgument):
            await use(path)
    with pytest.raises(InvalidArgument):
        await box.files.write(path, b"")
    with pytest.raises(InvalidArgument):
        await anext(box.files.read_blocks(path))


Use = Callable[[Sandbox], Awaitable[Any]]
REFUSED: list[tuple[str, type[RlmError], str, Use]] = [
    ("true", PathNotFound, "is not there", lambda box: box.files.read("none")),
    ("true", PathNotFound, "is not there", lambda box: box.files.remove("none")),
    ("true", PathNotFound, "is not there", lambda box: box.files.list("none")),
    ("touch f", PathNotFound, "a part of it is no folder", lambda box: box.files.read("f/g")),
    ("touch f", PathNotFound, "a part of it is no folder", lambda box: box.files.write("f/g/h", b"")),
    ("touch f", PathNotFound, "a part of it is no folder", lambda box: box.files.list("f")),
    ("ln -s a b; ln -s b a", PathNotFound, "go round", lambda box: box.files.read("a")),
    ("ln -s a b; ln -s b a", PathNotFound, "go round", lambda box: box.files.write("a", b"")),
    ("mkdir d", PathIsFolder, "is a folder", lambda box: box.files.read("d")),
    ("mkdir d", PathIsFolder, "is a folder", lambda box: box.files.write("d", b"")),
    ("mkfifo p", PathDenied, "no regular file", lambda box: box.files.read("p")),
    ("mkfifo p", PathDenied, "no regular file", lambda box: box.files.write("p", b"")),
    ("true", PathDenied, "no regular file", lambda box: box.files.read("/dev/zero")),
    ("true", PathDenied, "no regular file", lambda box: box.files.write("/dev/null", b"")),
    (
        "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"s\")'",
        PathDenied,
        "cannot be used|no regular file",
        lambda box: box.files.read("s"),
    ),
    ("touch f; chmod 0 f", PathDenied, "Permission denied", lambda box: box.files.read("f")),
    ("touch f; chmod 444 f", PathDenied, "Permission denied", lambda box: box.files.write("f", b"")),
    ("mkdir d; touch d/f; chmod 555 d", PathDenied, "denied", lambda box: box.files.write("d/g", b"")),
    ("mkdir d; touch d/f; chmod 555 d", PathDenied, "denied", lambda box: box.files.remove("d")),
    ("true", PathDenied, "read-only", lambda box: box.files.write("/etc/x", b"")),
    ("true", PathDenied, "read-only", lambda box: box.files.remove("/etc/passwd")),
    ("true", PathDenied, "Permission denied", lambda box: box.files.read("/proc/1/environ")),
    ("touch f", PathDenied, "folder of the sandbox itself", lambda box: box.files.remove("/work")),
    ("touch f", PathDenied, "folder of the sandbox itself", lambda box: box.files.remove("/tmp/")),
    ("true", InvalidArgument, "too long", lambda box: box.files.write("x" * 256, b"")),
    ("true", InvalidArgument, "names nothing", lambda box: box.files.remove("/")),
    ("mkdir d", InvalidArgument, "names nothing", lambda box: box.files.remove("d/..")),
    ("true", InvalidArgument, "names nothing", lambda box: box.files.remove(".")),
    ("true", InvalidArgument, "no path of a file", lambda box: box.files.write("a/", b"")),
    ("true", InvalidArgument, "must be bytes", lambda box: box.files.write("a", 3)),  # type: ignore[arg-type]
    ("true", InvalidArgument, "must be bytes", lambda box: box.files.write_blocks("a", ["text"])),  # type: ignore[list-item]
    ("true", InvalidArgument, "no blocks, but one", lambda box: box.files.write_blocks("a", b"one")),  # type: ignore[arg-type]
    ("printf 12345 >f", FileTooLarge, "limit", lambda box: box.files.read("f", limit=4)),
    ("true", InvalidArgument, "limit", lambda box: box.files.read("f", limit=-1)),
]


@pytest.mark.parametrize(
    ("before", "error", "words", "use"),
    REFUSED,
    ids=[f"{number}-{case[2]}" for number, case in enumerate(REFUSED)],
)
async def test_what_cannot_be_done_is_refused_by_its_name_and_leaves_all_as_it_was(
    box: Sandbox, before: str, error: type[RlmError], words: str, use: Use
) -> None:
    await box.sh(before)
    census = "ls -AlR --time-style=+ . /tmp | grep -v '^total'"
    was = await _said(box, census)
    with pytest.raises(error, match=words) as caught:
        await asyncio.wait_for(use(box), 20)
    assert caught.value.fix
    assert await _said(box, census) == was


async def test_a_limit_holds_to_the_byte(box: Sandbox) -> None:
    await box.files.write("f", b"12345")
    assert await box.files.read("f", limit=5) == b"12345"
    assert await box.files.read("f", limit=None) == b"12345"


async def test_a_file_without_a_stated_size_is_read_up_to_the_limit_too(box: Sandbox) -> None:
    assert b"MemTotal" in await box.files.read("/proc/meminfo")
    with pytest.raises(FileTooLarge):
        await box.files.read("/proc/meminfo", limit=10)


async def test_links_lead_where_they_lead_inside_and_are_told_as_links(box: Sandbox) -> None:
    await box.sh(
        "echo in >f; ln -s f l; ln -s /etc/hostname out; ln -s / root; ln -s nowhere/x broken; mkdir d; ln -s ../l d/up"
    )
    assert await box.files.read("l") == b"in\n"
    assert await box.files.read("d/up") == b"in\n"
    assert b"sandbox:x" in await box.files.read("root/etc/passwd")  # the sandbox's own, not the host's
    found = {info.path: info for info in await box.files.list(deep=True)}
    assert {path: info.kind for path, info in found.items()} == {
        "f": "file", "l": "link", "out": "link", "root": "link", "broken": "link", "d": "folder", "d/up": "link",
    }  # fmt: skip
    assert found["root"].size == 0
    await box.files.write("d/up", b"through")
    assert await _said(box, "readlink d/up l; cat f") == "../l\nf\nthrough"
    await box.files.write("broken", b"made")
    assert await _said(box, "cat nowhere/x") == "made"
    with pytest.raises(PathDenied):
        await box.files.write("root/etc/passwd", b"")
    for link in ("root", "out", "broken", "l"):
        await box.files.remove(link)
    assert await _said(box, "ls; ls /etc/passwd") == "d\nf\nnowhere\n/etc/passwd\n"


async def test_removing_a_folder_removes_its_links_and_not_what_they_lead_to(box: Sandbox) -> None:
    await box.sh("mkdir -p d/e keep; echo k >keep/k; ln -s /work/keep d/e/l; ln -s ../keep d/l; ln -s d link")
    await box.files.remove("d")
    assert await _said(box, "cat keep/k; ls") == "k\nkeep\nlink\n"


async def test_a_folder_deeper_than_any_path_is_removed_and_listed_as_far_as_paths_go(box: Sandbox) -> None:
    deep = "import os\nfor _ in range(3000):\n    os.mkdir('dd'); os.chdir('dd')\nopen('f', 'w'); os.chdir('/work')"
    assert (await box.run(deep)).status == "ok"
    found = await box.files.list(deep=True)
    assert 1000 < len(found) < 3000
    await box.files.remove("dd")
    assert await box.files.list() == []


async def test_a_folder_with_many_entries_is_listed_sorted_and_removed_and_one_with_too_many_refused(
    box: Sandbox,
) -> None:
    await box.run("import os\nos.mkdir('d')\nfor n in range(20000): os.close(os.open(f'd/{n}', os.O_CREAT))")
    found = await box.files.list("/work/d")
    assert [info.path for info in found] == sorted(f"/work/d/{number}" for number in range(20_000))
    await box.run("for n in range(20000, 100_001): os.close(os.open(f'd/{n}', os.O_CREAT))")
    with pytest.raises(FileTooLarge, match="more than 100,000 entries"):
        await box.files.list("d")
    with pytest.raises(FileTooLarge):
        await box.files.list(deep=True)
    await box.files.remove("d")
    assert await box.files.list() == []


async def test_a_listing_shows_hidden_files_modes_times_and_folders_that_may_not_be_read(
    box: Sandbox,
) -> None:
    await box.sh(
        "touch -d @1000000000.5 .hidden; chmod 751 .hidden; mkdir shut; touch shut/x; chmod 0 shut; mkfifo p"
    )
    found = await box.files.list(deep=True)
    assert [(info.path, info.kind, info.mode) for info in found[:2]] == [
        (".hidden", "file", 0o751),
        ("p", "other", 0o644),
    ]
    assert found[0].modified == 1_000_000_000.5
    assert [info.path for info in found] == [".hidden", "p", "shut"]


async def test_a_file_that_is_written_anew_has_no_setuid_bits(box: Sandbox) -> None:
    await box.sh("touch run; chmod 6755 run")
    await box.files.write("run", b"#!/bin/sh")
    assert await _said(box, "stat -c %a run") == "755\n"


async def test_replacing_a_file_keeps_its_mode_and_leaves_readers_of_the_old_one_alone(box: Sandbox) -> None:
    await box.run("open('f', 'w').write('old'); import os; os.chmod('f', 0o750); old = open('f')")
    await box.files.write("f", b"new")
    assert await _said(box, "cat f; stat -c %a f; ls -A") == "new750\nf\n"
    assert (await box.run("old.read()")).stdout == "'old'\n"


async def test_blocks_are_read_no_faster_than_they_are_taken(box: Sandbox) -> None:
    await box.sh("head -c 50000000 /dev/urandom >big; sha256sum big | cut -c-64 >sum")
    import hashlib

    digest, taken = hashlib.sha256(), 0
    async for block in box.files.read_blocks("big", size=100_000):
        assert 0 < len(block) <= 100_000
        digest.update(block)
        taken += 1
        if taken == 3:
            await box.sh("sleep 0.2")  # all that could come ahead has come
            moved = box.statistics().files_read_bytes
            assert moved <= 3 * 100_000
    assert digest.hexdigest() == (await box.files.read_text("sum")).strip()


async def test_leaving_a_read_early_leaves_no_process_no_descriptor_and_no_turn(box: Sandbox) -> None:
    await box.sh("head -c 50000000 /dev/zero >big")
    await box.run("1")
    before = _open_descriptors()
    async with aclosing(box.files.read_blocks("big")) as blocks:
        async for _ in blocks:
            break
    assert _open_descriptors() == before
    assert box.statistics().queue.running == 0
    assert await _processes(box) == 1
    async for _ in box.files.read_blocks("big"):
        break
    await box.snapshot("waits-for-it")
    assert _open_descriptors() <= before + 1  # that of the snapshot


async def _processes(box: Sandbox) -> int:
    """Besides pid 1 and the shell that counts."""
    return int(await _said(box, "set -- /proc/[0-9]*; echo $#")) - 2


async def test_blocks_are_written_from_any_iterable_and_each_may_be_empty_or_large(box: Sandbox) -> None:
    def plain() -> Iterator[bytes | bytearray | memoryview]:
        yield b""
        yield bytearray(b"one ")
        yield memoryview(b"two ")
        yield b"x" * (3 * MB)
        yield b""

    async def one_by_one() -> AsyncIterator[bytes]:
        for part in (b"a", b"", b"b"):
            await asyncio.sleep(0)
            yield part

    await box.files.write_blocks("plain", plain())
    assert await box.files.read("plain") == b"one two " + b"x" * (3 * MB)
    await box.files.write_blocks("slow", one_by_one())
    await box.files.write_blocks("none", [])
    assert [await box.files.read(name) for name in ("slow", "none")] == [b"ab", b""]
    assert box.statistics().files_written_bytes == 3 * MB + 10


async def test_a_source_that_raises_leaves_the_old_file_and_nothing_else(box: Sandbox) -> None:
    await box.files.write("f", b"old")

    def failing() -> Iterator[bytes]:
        yield b"x" * MB
        raise OSError("the source broke")

    for path in ("f", "new/folder/f"):
        with pytest.raises(OSError, match="the source broke"):
            await box.files.write_blocks(path, failing())
    assert await _said(box, "cat f; ls -A") == "oldf\n"


async def test_a_cancelled_write_leaves_the_old_file_and_nothing_else(box: Sandbox) -> None:
    await box.files.write("f", b"old")
    before, begun = _open_descriptors(), asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000
            begun.set()
            await asyncio.sleep(0.01)

    task = asyncio.ensure_future(box.files.write_blocks("f", endless()))
    await begun.wait()
    task.cancel()
    assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)
    assert _open_descriptors() == before
    assert box.statistics().queue.running == 0
    assert await _said(box, "cat f; ls -A") == "oldf\n"


async def test_a_transfer_is_cancelled_at_any_moment_without_harm(box: Sandbox) -> None:
    await box.files.write("f", b"old" * 100_000)
    before = _open_descriptors()
    for number in range(30):
        for use in (
            box.files.read("f"),
            box.files.write("f", b"new" * 100_000),
            box.files.list("/", deep=False),
        ):
            task = asyncio.ensure_future(use)
            await asyncio.sleep(number * 0.0002)
            task.cancel()
            await asyncio.wait({task})
    assert await box.files.read("f") in (b"old" * 100_000, b"new" * 100_000)
    assert [info.path for info in await box.files.list()] == ["f"]
    assert _open_descriptors() == before
    assert await _processes(box) == 0


async def test_a_full_disk_is_said_and_the_old_file_stands() -> None:
    async with open_sandbox("bubblewrap", resources=Resources(disk_mb=8)) as box:
        await box.files.write("f", b"old")
        for path in ("f", "new/g"):
            with pytest.raises(DiskFull, match=r"disk is full|larger than"):
                await box.files.write(path, b"x" * (20 * MB))
        assert await _said(box, "cat f; ls -A; du -s .") == "oldf\n4\t.\n"
        await box.files.write("f", b"y" * (5 * MB))
        assert len(await box.files.read("f")) == 5 * MB


async def test_code_that_kills_a_transfer_gets_no_half_file_and_no_draft_to_keep(box: Sandbox) -> None:
    await box.files.write("f", b"old")
    await box.run("1")
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def waiting() -> AsyncIterator[bytes]:
        yield b"x"
        begun.set()
        await go_on.wait()
        yield b"y"

    task = asyncio.ensure_future(box.files.write_blocks("f", waiting()))
    await begun.wait()
    kill = (
        "import os\nown = os.getpid()\n"
        "for name in os.listdir('/proc'):\n    if name.isdigit() and int(name) not in (1, own): os.kill(int(name), 9)"
    )
    assert (await box.run(kill)).status == "ok"
    go_on.set()
    with pytest.raises(ExecutionFailed, match="signal 9"):
        await task
    assert await _said(box, "cat f; ls -A") == "oldf\n"


async def test_code_cannot_look_into_a_transfer_or_write_into_its_pipe(box: Sandbox) -> None:
    await box.sh("head -c 5000000 /dev/zero >big")
    async with aclosing(box.files.read_blocks("big", size=1000)) as blocks:
        assert await anext(blocks) == bytes(1000)
        tried = await box.run(
            "import os\nseen = []\nfor name in os.listdir('/proc'):\n"
            "    if name.isdigit() and int(name) not in (1, os.getpid()):\n"
            "        for what in ('fd/0', 'mem', 'environ', 'cwd/x'):\n"
            "            try:\n                open(f'/proc/{name}/{what}', 'wb'); seen.append(what)\n"
            "            except OSError: pass\n"
            "print(seen)"
        )
        assert tried.stdout == "[]\n"


async def test_a_transfer_that_code_has_stopped_is_ended_when_we_leave(box: Sandbox) -> None:
    await box.sh("head -c 5000000 /dev/zero >big")
    await box.run("1")
    async with aclosing(box.files.read_blocks("big", size=1000)) as blocks:
        await anext(blocks)
        await box.run(
            "import os\nfor name in os.listdir('/proc'):\n"
            "    if name.isdigit() and int(name) not in (1, os.getpid()): os.kill(int(name), 19)"
        )
    assert await _processes(box) == 1
    assert len(await box.files.read("big")) == 5_000_000


async def test_the_end_of_the_sandbox_ends_every_transfer_with_that_reason() -> None:
    async with open_sandbox("bubblewrap") as box:
        await box.sh("head -c 50000000 /dev/zero >big")
        before = _open_descriptors()
        async with aclosing(box.files.read_blocks("big")) as blocks:
            await anext(blocks)
            await box.machine.destroy()
            with pytest.raises(SandboxLost):
                async for _ in blocks:
                    pass
        assert _open_descriptors() < before
        with pytest.raises(SandboxLost):
            await box.files.read("big")


async def test_transfers_go_beside_executions_and_beside_each_other(box: Sandbox) -> None:
    """Nine at once are one too many: it waits for the others and then comes all the same."""
    await box.files.write("f", b"content")
    running = asyncio.ensure_future(
        box.run("import time\nwhile not __import__('os').path.exists('go'): time.sleep(0.01)")
    )
    streams = [box.files.read_blocks("f") for _ in range(8)]
    assert [await anext(each) for each in streams] == [b"content"] * 8
    ninth = asyncio.ensure_future(box.files.write("go", b""))
    await asyncio.sleep(0)
    assert not ninth.done()
    assert not running.done()
    for each in streams:
        await each.aclose()
    await ninth
    assert (await running).status == "ok"


async def test_background_programs_live_on_when_a_transfer_is_cancelled(box: Sandbox) -> None:
    await box.sh("setsid sleep 1000 >/dev/null 2>&1 & head -c 5000000 /dev/zero >big")
    async with aclosing(box.files.read_blocks("big", size=1000)) as blocks:
        await anext(blocks)
    assert await _said(box, "pgrep -c sleep || cat /proc/[0-9]*/comm | grep -c sleep") == "1\n"


async def test_files_go_back_with_a_snapshot_and_a_branch_has_its_own(box: Sandbox) -> None:
    await box.files.write("d/f", b"before")
    await box.snapshot("s")
    await box.files.write("d/f", b"after")
    await box.files.write("d/g", b"new")
    (twin,) = await box.branch(1, "s")
    async with twin:
        await twin.files.write("d/f", b"twin")
        assert await box.files.read("d/f") == b"after"
        assert await twin.files.read("d/f") == b"twin"
        await twin.files.remove("d")
        assert await twin.files.list() == []
    await box.files.remove("d")
    await box.rollback("s")
    assert [(info.path, info.size) for info in await box.files.list(deep=True)] == [("d", 0), ("d/f", 6)]
