"""Groups B and E, transfers: names that lie, files that change under way, and many at once."""

from __future__ import annotations

import asyncio
import hashlib

from terraphim_rlm.core.errors import FileTooLarge, RlmError
from terraphim_rlm.core.values import Resources
from terraphim_rlm.sandbox.sandbox import Sandbox
from terraphim_rlm.testing.attack.model import PRELUDE, Row
from terraphim_rlm.testing.attack.stage import Stage

_NAMES = (
    b"new\nline", b"-rf", b"--help", b"x" * 255, b"\xff\xfe", b"CON", "\u202etxt.exe".encode(), b"\x1b[31mred\x07", b"f 7 420 0 forged",
    b"  spaces ", b"'\"`$(id)`", b"%s%n%00", b"a\tb\rc", "\ud83d".encode("utf-8", "surrogatepass"), b"...", b"*", b"\xc3\x28", b"~", b"\\..\\",
)  # fmt: skip
_FORGED = b"new\nf 7 420 0 forged"


def _made(folder: str, names: tuple[bytes, ...]) -> str:
    return f"import os\nos.makedirs({folder!r})\nfor name in {names!r}:\n    open({folder.encode()!r} + b'/' + name, 'wb').write(name)"


async def lying_names(stage: Stage) -> None:
    """B37: what a listing shows is what is there, and each name leads to its file and no other."""
    async with stage.box() as box:
        await box.run(_made("/work/one", (_FORGED,)))
        with stage.refusing():
            listed = {info.path for info in await box.files.list("one")}
            for extra in listed - {_FORGED.decode()}:
                stage.harm(f"a listing shows {extra!r}, which is not there")
        await _round_trip(stage, box, "/work/many")


async def odd_names(stage: Stage) -> None:
    """E10: files of odd names, made from outside, are there inside and can be had back."""
    async with stage.box() as box:
        for name in _NAMES:
            path = "/work/put/" + name.decode("utf-8", "surrogateescape")
            await box.files.write(path, name)
            stage.expect(await box.files.read(path) == name, f"{name!r} came back otherwise")
        found = await box.run("import os; print(sorted(os.listdir(b'/work/put')))")
        stage.expect(found.stdout.strip() == repr(sorted(_NAMES)), f"inside there are {found.stdout[:200]}")
        await _round_trip(stage, box, "/work/many")


async def _round_trip(stage: Stage, box: Sandbox, folder: str) -> None:
    await box.run(_made(folder, _NAMES))
    expected = {name.decode("utf-8", "surrogateescape"): name for name in _NAMES}
    with stage.refusing():
        listed = {info.path for info in await box.files.list(folder.removeprefix("/work/"))}
        stage.expect(listed == set(expected), f"listed otherwise: {sorted(listed ^ set(expected))}")
        for path, content in expected.items():
            stage.expect(
                await box.files.read(f"{folder}/{path}") == content, f"{path!r} leads to another file"
            )
            await box.files.remove(f"{folder}/{path}")
        stage.expect(await box.files.list(folder) == [], "removing by name left something")


_CHANGES = {
    "grows": "f = open('big', 'ab', buffering=0)\nwhile True: f.write(b'x' * 65536) if f.tell() < 40 << 20 else f.truncate(1 << 20)",
    "shrinks": "import itertools\nfor n in itertools.count(): os.truncate('big', (n % 16) << 20)",
    "goes": "while True:\n    try: os.unlink('big')\n    except OSError: pass\n    open('big', 'wb').write(b'y' * (1 << 20))",
    "becomes a pipe": "while True:\n    try: os.unlink('big')\n    except OSError: pass\n    os.mkfifo('big')",
}


async def changing_file(stage: Stage) -> None:
    """E04: whatever becomes of a file while it is read, reading ends, by bytes or by an error."""
    for what, code in _CHANGES.items():
        async with stage.box() as box:
            await box.files.write("big", b"x" * (8 << 20))
            begun = asyncio.Event()
            text = PRELUDE + "print('begun', flush=True)\n" + code
            work = asyncio.ensure_future(box.run(text, timeout=15.0, on_output=lambda *_, b=begun: b.set()))
            await asyncio.wait({work, asyncio.ensure_future(begun.wait())}, return_when="FIRST_COMPLETED")
            for _ in range(10):
                try:
                    async with asyncio.timeout(10):
                        await box.files.read("big", limit=64 << 20)
                except TimeoutError:
                    stage.expect(False, f"reading a file that {what} did not end")
                    break
                except RlmError:
                    continue
            work.cancel()
            await asyncio.wait({work})


async def permissions(stage: Stage) -> None:
    """E06: what the host writes has no setuid bits, also in the place of a file that had some."""
    async with stage.box() as box:
        await box.sh(
            "touch run plain; chmod 6755 run; chmod 0640 plain; mkdir -m 0500 closed; umask 0777; touch none; chmod 0 none"
        )
        await box.files.write("run", b"#!/bin/sh\n")
        await box.files.write("plain", b"kept")
        await box.files.write("new", b"new")
        modes = {info.path: info.mode for info in await box.files.list(".")}
        stage.expect(not modes["run"] & 0o6000, f"an upload kept setuid bits: {modes['run']:o}")
        stage.expect(modes["plain"] == 0o640, f"an upload changed permissions to {modes['plain']:o}")
        stage.expect(modes["new"] == 0o644, f"a new file has permissions {modes['new']:o}")
        for path in ("none", "closed/new"):
            with stage.refusing():
                await box.files.write(path, b"x")
                stage.expect(False, f"{path} was written in spite of its permissions")


async def many_files(stage: Stage) -> None:
    """E07: a hundred thousand files are listed, and one more is refused by name."""
    resources = Resources(memory_mb=1024, cpus=1.0, pids=64, disk_mb=512, output_bytes=1 << 20)
    async with stage.box(resources=resources) as box:
        make = "import os\nfor n in range({}, {}): os.close(os.open('many/%d' % n, os.O_CREAT | os.O_WRONLY))"
        await box.run("import os; os.mkdir('many')\n" + make.format(0, 100_000), timeout=120)
        listed = await box.files.list("many")
        stage.expect(len(listed) == 100_000, f"{len(listed):,} files were listed")
        await box.run(make.format(100_000, 100_001))
        try:
            await box.files.list("many")
            stage.expect(False, "more files were listed than a listing may hold")
        except FileTooLarge:
            await box.files.remove("many")


async def many_writers(stage: Stage) -> None:
    """E09: of many uploads and downloads of one path, each download is one upload, whole."""
    async with stage.box() as box:
        contents = [stage.random.randbytes(300_000 + number) for number in range(8)]
        known = {hashlib.sha256(content).digest() for content in contents}
        await box.files.write("shared", contents[0])

        async def write(content: bytes) -> None:
            for _ in range(4):
                await box.files.write("shared", content)

        async def read() -> None:
            for _ in range(6):
                got = hashlib.sha256(await box.files.read("shared")).digest()
                stage.expect(got in known, "a download was a mixture of uploads")

        await asyncio.gather(*(write(content) for content in contents), *(read() for _ in range(8)))
        left = [info.path for info in await box.files.list(".") if info.path.startswith(".trlm")]
        stage.expect(not left, f"drafts are left: {left}")


ROWS = (
    Row("B37", "P0", "gives files names that look like entries of a listing", act=lying_names, off=("names-end-with-nul",)),
    Row("E04", "P1", "changes a file while it is read", act=changing_file, most=120.0),
    Row("E06", "P1", "keeps setuid bits and odd permissions over a round trip", act=permissions),
    Row("E07", "P2", "lists a hundred thousand files", act=many_files, most=150.0),
    Row("E09", "P1", "writes one file from many sides at once", act=many_writers),
    Row("E10", "P1", "writes and reads files of odd names", act=odd_names),
)  # fmt: skip
