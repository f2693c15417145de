"""Files from outside: whole, in blocks, by any name, where code inside has them; refused by what stands in the way."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from pathlib import PurePosixPath
from typing import Any

from terraphim_rlm.core.errors import (
    DiskFull,
    FileTooLarge,
    InvalidArgument,
    PathDenied,
    PathIsFolder,
    PathNotFound,
    SandboxLost,
)
from terraphim_rlm.testing.conformance.checks import holds, like, refused, same, within
from terraphim_rlm.testing.conformance.model import Box, Group

FILES = Group("files")
NAMES = (
    "-rf",
    "--help",
    "a\nb",
    "*",
    "$(id)",
    "`id`",
    "'\"",
    "\udcff\udcfe",
    "é" * 127,
    " ",
    "...",
    "x" * 255,
)
_BYTES = bytes(range(256)) * 9 + b"\r\n\0\n\xff"
_MB = 1 << 20
Use = Callable[[Box], Awaitable[Any]]


@FILES.fresh()
async def what_is_written_is_what_code_reads(box: Box) -> None:
    await box.files.write("plain", _BYTES)
    await box.files.write("a/b c.txt", "grüße\r\n")
    await box.files.write("/tmp/t", bytearray(b"1"))
    like(
        await box.run("print(open('plain', 'rb').read() == bytes(range(256)) * 9 + b'\\r\\n\\0\\n\\xff')"),
        stdout="True\n",
    )
    seen = await box.sh("cat 'a/b c.txt' /tmp/t")
    same(seen.stdout_bytes, "grüße\r\n1".encode(), "what a command reads")


@FILES.fresh()
async def what_code_writes_is_what_is_read(box: Box) -> None:
    await box.run(
        "open('c', 'wb').write(bytes(range(256)) * 9 + b'\\r\\n\\0\\n\\xff')\nopen('t', 'w').write('grüße\\r\\n')"
    )
    same(await box.files.read("c"), _BYTES, "the content")
    same(await box.files.read_text("t"), "grüße\r\n", "the text")
    same(
        await box.files.read_text("t", encoding="latin-1"), "grüße\r\n".encode().decode("latin-1"), "the text"
    )
    await refused(box.files.read_text("c"), UnicodeDecodeError)


@FILES.fresh()
async def paths_are_absolute_or_begin_in_work(box: Box) -> None:
    await box.run("import os; os.makedirs('/tmp/deep'); os.chdir('/tmp/deep')")
    await box.files.write("f", b"1")
    for path in ("f", "/work/f", "./f", "../work/f", "//work//f", PurePosixPath("f")):
        same(await box.files.read(path), b"1", f"{path}")
    like(await box.sh("ls /work /tmp/deep"), stdout="/tmp/deep:\n\n/work:\nf\n")


@FILES.fresh()
async def odd_names_are_only_names(box: Box) -> None:
    for name in NAMES:
        await box.files.write(name, name.encode("utf-8", "surrogateescape"))
    same([each.path for each in await box.files.list()], sorted(NAMES), "the names")
    for name in NAMES:
        same(await box.files.read(name), name.encode("utf-8", "surrogateescape"), "the content")
        await box.files.remove(name)
    like(await box.sh("ls -A"), stdout="")


@FILES.shared()
async def what_is_no_path_is_refused(box: Box) -> None:
    for path in ("", "a\0b", "\ud800", "x" * 5000, None, b"bytes", 3, ["a"]):
        for use in (
            box.files.read,
            box.files.list,
            box.files.remove,
            lambda path: box.files.write(path, b""),
        ):
            await refused(use(path), InvalidArgument)


@FILES.shared()
async def what_is_no_content_is_refused(box: Box) -> None:
    none: tuple[Any, ...] = (None, 3, ["a"], [b"a"], {})
    for content in none:
        await refused(box.files.write("no-content", content), InvalidArgument)
    await refused(box.files.write("no-content", "\ud800"), UnicodeEncodeError)
    await refused(box.files.write_blocks("no-content", b"one"), InvalidArgument)
    await refused(box.files.write_blocks("no-content", ["text"]), InvalidArgument)
    await refused(box.files.read("no-content"), PathNotFound)


@FILES.fresh()
async def what_is_not_there_is_told_so(box: Box) -> None:
    await box.sh("touch f; ln -s nowhere l")
    for path in ("none", "none/x", "f/g", "l"):
        await refused(box.files.read(path), PathNotFound)
    for work in (box.files.list, box.files.remove):
        await refused(work("none"), PathNotFound)


@FILES.fresh()
async def a_folder_is_no_file(box: Box) -> None:
    await box.sh("mkdir d; touch d/f")
    await refused(box.files.read("d"), PathIsFolder)
    await refused(box.files.write("d", b"x"), PathIsFolder)
    like(await box.sh("ls d"), stdout="f\n")


@FILES.fresh()
async def pipes_and_devices_are_refused_and_hold_nobody_up(box: Box) -> None:
    await box.sh("mkfifo p")
    for path in ("p", "/dev/zero", "/dev/null"):
        await within(10, refused(box.files.read(path), PathDenied), f"reading {path}")
        await within(10, refused(box.files.write(path, b"1"), PathDenied), f"writing {path}")


@FILES.fresh()
async def what_code_may_not_do_is_refused(box: Box) -> None:
    await box.sh("touch f g; chmod 0 f; chmod 444 g; mkdir d; chmod 555 d")
    works = (
        box.files.read("f"), box.files.write("g", b""), box.files.write("d/x", b""),
        box.files.write("/etc/x", b""), box.files.remove("/etc/passwd"), box.files.remove("/work"),
    )  # fmt: skip
    for work in works:
        await refused(work, PathDenied)
    like(await box.sh("ls /etc/passwd; ls"), stdout="/etc/passwd\nd\nf\ng\n")


@FILES.fresh()
async def links_lead_where_they_lead_inside(box: Box) -> None:
    await box.sh("echo in > f; ln -s f l; ln -s / root; mkdir d; ln -s ../l d/up; ln -s a b; ln -s b a")
    for path in ("l", "d/up", "root/work/f"):
        same(await box.files.read(path), b"in\n", "the content")
    await box.files.write("d/up", b"through")
    like(await box.sh("readlink d/up l; cat f"), stdout="../l\nf\nthrough")
    await within(10, refused(box.files.read("a"), PathNotFound), "reading a link that leads to itself")


@FILES.fresh()
async def writing_replaces_whole_and_keeps_the_mode(box: Box) -> None:
    await box.files.write("f", b"a long content")
    await box.sh("chmod 750 f")
    await box.files.write("f", b"new")
    await box.files.write("empty", b"")
    like(await box.sh("cat f; stat -c ' %a %s' f empty; ls -A"), stdout="new 750 3\n 644 0\nempty\nf\n")


@FILES.fresh()
async def large_files_go_through_bit_by_bit_the_same(box: Box) -> None:
    content = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(400_000))
    wanted = hashlib.sha256(content).hexdigest()
    await box.files.write("large", content)
    like(await box.sh("sha256sum < large | cut -c-64"), stdout=wanted + "\n")
    same(hashlib.sha256(await box.files.read("large")).hexdigest(), wanted, "the hash of what is read")


@FILES.fresh()
async def a_limit_holds_to_the_byte(box: Box) -> None:
    await box.files.write("f", b"12345")
    for limit in (5, 6, None):
        same(await box.files.read("f", limit=limit), b"12345", "the content")
    await refused(box.files.read("f", limit=4), FileTooLarge)
    await refused(box.files.read("/proc/meminfo", limit=10), FileTooLarge)


@FILES.fresh()
async def blocks_are_no_larger_than_asked_for_and_all_there(box: Box) -> None:
    await box.files.write("f", _BYTES * 100)
    async with aclosing(box.files.read_blocks("f", size=1000)) as blocks:
        got = [block async for block in blocks]
    holds(all(0 < len(block) <= 1000 for block in got), "every block has 1 to 1,000 bytes")
    same(b"".join(got), _BYTES * 100, "what the blocks hold together")


@FILES.fresh()
async def blocks_are_written_from_any_source(box: Box) -> None:
    def plain() -> Iterator[bytes | bytearray | memoryview]:
        yield from (b"", bytearray(b"one "), memoryview(b"two "), b"x" * (3 * _MB), b"")

    async def later() -> AsyncIterator[bytes]:
        for part in (b"a", b"", b"b"):
            await asyncio.sleep(0)
            yield part

    await box.files.write_blocks("plain", plain())
    await box.files.write_blocks("later", later())
    await box.files.write_blocks("none", [])
    like(
        await box.sh("head -c 8 plain; stat -c ' %s' plain; cat later none"),
        stdout=f"one two  {3 * _MB + 8}\nab",
    )


@FILES.fresh()
async def a_source_that_fails_leaves_what_was_there(box: Box) -> None:
    def failing() -> Iterator[bytes]:
        yield b"x" * _MB
        raise LookupError("the source broke")

    await box.files.write("f", b"old")
    await refused(box.files.write_blocks("f", failing()), LookupError)
    await refused(box.files.write_blocks("g", failing()), LookupError)
    like(await box.sh("cat f; ls -A"), stdout="oldf\n")


@FILES.fresh("limit:disk", disk_mb=16)
async def what_does_not_fit_is_refused_and_leaves_what_was_there(box: Box) -> None:
    await box.files.write("f", b"old")
    await refused(box.files.write("f", b"x" * (24 * _MB)), DiskFull)
    like(await box.sh("cat f; ls -A"), stdout="oldf\n")
    await box.files.write("f", b"x" * (4 * _MB))


@FILES.fresh()
async def a_list_tells_kind_size_mode_and_time(box: Box) -> None:
    await box.sh(
        "printf 123 > .hidden; chmod 751 .hidden; mkdir d; ln -s d l; mkfifo p; touch -d @1000000000.5 .hidden"
    )
    found = {each.path: each for each in await box.files.list()}
    kinds = {path: each.kind for path, each in found.items()}
    same(kinds, {".hidden": "file", "d": "folder", "l": "link", "p": "other"}, "the kinds")
    hidden = found[".hidden"]
    same((hidden.size, hidden.mode, hidden.modified), (3, 0o751, 1_000_000_000.5), "size, mode and time")


@FILES.fresh()
async def a_list_is_sorted_deep_where_asked_for_and_named_as_asked_for(box: Box) -> None:
    await box.sh("mkdir -p b/c; touch b/c/z b/a a; ln -s / b/root")
    same([each.path for each in await box.files.list()], ["a", "b"], "the list")
    deep = ["a", "b", "b/a", "b/c", "b/c/z", "b/root"]
    same([each.path for each in await box.files.list(deep=True)], deep, "the deep list")
    same(
        [each.path for each in await box.files.list("/work/b")],
        ["/work/b/a", "/work/b/c", "/work/b/root"],
        "the list",
    )
    same(await box.files.list("b/c/../../b/c/"), await box.files.list("b/c"), "the list")


@FILES.fresh(seconds=40)
async def thousands_of_entries_are_all_listed(box: Box) -> None:
    await box.run("for n in range(5000): open(f'{n:05}', 'w').close()")
    same([each.path for each in await box.files.list()], [f"{n:05}" for n in range(5000)], "the list")


@FILES.fresh()
async def removing_takes_folders_with_all_in_them_and_no_link_further(box: Box) -> None:
    await box.sh("mkdir -p d/e keep; echo k > keep/k; ln -s /work/keep d/e/l; ln -s keep link; touch f")
    for path in ("d", "link", "f"):
        await box.files.remove(path)
    like(await box.sh("ls -A; cat keep/k"), stdout="keep\nk\n")
    for path in ("/", ".", "..", "keep/.."):
        await refused(box.files.remove(path), InvalidArgument, PathDenied)
    like(await box.sh("ls"), stdout="keep\n")


@FILES.fresh()
async def transfers_go_on_beside_executions_and_one_another(box: Box) -> None:
    running = asyncio.ensure_future(
        box.run("import os, time\nwhile not os.path.exists('go'): time.sleep(0.005)", timeout=15)
    )
    await asyncio.gather(*(box.files.write(f"f{number}", b"%d" % number * 9999) for number in range(20)))
    got = await asyncio.gather(*(box.files.read(f"f{number}") for number in range(20)))
    same(
        [content == b"%d" % number * 9999 for number, content in enumerate(got)],
        [True] * 20,
        "each content its own",
    )
    await box.files.write("go", b"")
    like(await within(10, running, "the execution"), status="ok")


@FILES.opening()
async def a_closed_sandbox_has_no_files(open_box: Any) -> None:
    async with open_box() as box:
        await box.files.write("f", b"1")
        files = box.files
        await box.close()
        await within(5, refused(files.read("f"), SandboxLost), "reading")
        await within(5, refused(files.write("f", b""), SandboxLost), "writing")
