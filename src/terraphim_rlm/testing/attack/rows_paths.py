"""Groups B and E, paths: what the host is asked to open for a sandbox, while code in there decides where it leads."""

from __future__ import annotations

import asyncio
import itertools
import time
from urllib.parse import quote

from terraphim_rlm.core.errors import InternalError, RlmError
from terraphim_rlm.sandbox.sandbox import Sandbox
from terraphim_rlm.testing.attack.model import PRELUDE, Row, Step
from terraphim_rlm.testing.attack.stage import Stage

_SWAPS = 300
"""Reads and writes, at least, below a folder that code in the sandbox keeps swapping for a link."""
_SWAPPING = 2.0
"""Seconds of them, at least: fewer may fall into a moment in which that code does not run."""


async def reads(stage: Stage, box: Sandbox, path: str) -> None:
    """The host reads, and lists, and must not come out with the canary."""
    with stage.refusing():
        stage.saw(await box.files.read(path, limit=1 << 20), f"reading {path!r}")
    with stage.refusing():
        names = " ".join(info.path for info in await box.files.list(path))
        if "agent.sock" in names:
            stage.harm(f"the canary's folder was listed by {path!r}")


async def writes(stage: Stage, box: Sandbox, path: str) -> None:
    """The host writes; what it changed of its own, the laboratory sees."""
    with stage.refusing():
        await box.files.write(path, b"changed by an upload")


def _folders(stage: Stage) -> list[str]:
    folder = stage.words["@CANARY_FOLDER@"]
    return [
        "..", "../..", "../" * 12 + folder[1:], folder, f"/proc/self/root{folder}", f"/proc/1/root{folder}", "/proc/1/cwd",
        "/proc/self/fd/7", "/proc/self/fd/3", "/proc/self/cwd/../..", "/work/link", "/work/link/../..", "//" + folder[1:],
    ]  # fmt: skip


async def starts_elsewhere(stage: Stage) -> None:
    """B10: an execution begins in a folder of the caller's choice."""
    folder = stage.words["@CANARY_FOLDER@"]
    async with stage.box() as box:
        await box.sh(f"ln -s {folder} link")
        for cwd in _folders(stage):
            with stage.refusing():
                stage.saw((await box.sh("cat file ./file; ls", cwd=cwd)).stdout, f"starting in {cwd!r}")
            with stage.refusing():
                found = await box.run("print(open('file').read())", cwd=cwd)
                stage.saw(found.stdout, f"starting Python in {cwd!r}")


async def links_for_the_host(stage: Stage) -> None:
    """B33: where the host reads and writes there are links and pipes."""
    canary, folder = stage.words["@CANARY@"], stage.words["@CANARY_FOLDER@"]
    async with stage.box() as box:
        for name in ("result.json", "_exec.py", "log", ".trlm", "out.txt"):
            await box.sh(f"ln -s {canary} {name}; ln -s {folder} {name}.d; mkfifo {name}.pipe")
            await reads(stage, box, name)
            await reads(stage, box, f"{name}.d")
            await reads(stage, box, f"{name}.d/file")
            await reads(stage, box, f"{name}.pipe")
            await writes(stage, box, name)
            await writes(stage, box, f"{name}.pipe")
        await box.sh(
            "rm -rf /work/*; ln -s /proc/self/fd/0 in; ln -s /dev/zero zero; ln -s loop loop; ln -s /proc/1/root up"
        )
        for name in ("in", "loop", f"up{canary}", "/proc/1/root" + canary):
            await reads(stage, box, name)
        with stage.refusing():
            await box.files.read("zero", limit=1 << 20)


async def links_hard(stage: Stage) -> None:
    """B34: the host writes where the sandbox has linked to what it may only read."""
    code = """
count = 0
for place in ("/work/hard", "/tmp/hard", "/dev/shm/hard", "@CANARY_FOLDER@/hard"):
    for source in ("@CANARY@", "/etc/passwd", "/bin/sh"):
        count += 1
        try: os.link(source, place)
        except OSError: pass
tried(count)
"""
    async with stage.box() as box:
        await stage.step(box, Step(code))
        for path in (
            "/work/hard",
            "/tmp/hard",  # noqa: S108 - the sandbox's own
            stage.words["@CANARY_FOLDER@"] + "/hard",
            stage.words["@CANARY@"],
        ):
            await writes(stage, box, path)


async def swaps(stage: Stage) -> None:
    """B35: code swaps a folder for a link, thousands of times a second, while the host works below it."""
    code = """
os.makedirs("a", exist_ok=True)
open("a/file", "w").write("own")
try: os.symlink("@CANARY_FOLDER@", "b")
except FileExistsError: pass
print("swapping", flush=True)
while True: call(316, -100, b"a", -100, b"b", 2)
"""
    async with stage.box() as box:
        begun = asyncio.Event()
        work = asyncio.ensure_future(
            box.run(PRELUDE + stage.filled(code), timeout=40.0, on_output=lambda *_: begun.set())
        )
        try:
            await asyncio.wait({work, asyncio.ensure_future(begun.wait())}, return_when="FIRST_COMPLETED")
            over = time.monotonic() + _SWAPPING
            for number in itertools.count():
                if stage.harms or (number >= _SWAPS and time.monotonic() > over):
                    break
                try:
                    data = await box.files.read("a/file", limit=1 << 20)
                    stage.saw(data, "a folder that was swapped")
                    if number % 3 == stage.random.randrange(3):
                        await box.files.write("a/file", b"own")
                except InternalError:
                    raise
                except RlmError:
                    continue  # there was nothing at this moment
        finally:
            work.cancel()
            await asyncio.wait({work})


def _ways_out(canary: str) -> list[str]:
    """Twenty ways to write a path that leads out, plain; what a query needs is quoted once more."""
    up = "../" * 12
    return [
        canary, up + canary[1:], "..%2f" * 12 + canary[1:], "%2e%2e/" * 12 + canary[1:], "..%252f" * 12 + canary[1:],
        "..\\" * 12 + canary[1:], "..%5c" * 12 + canary[1:], "%c0%ae%c0%ae/" * 12 + canary[1:], "..%c0%af" * 12 + canary[1:],
        "\u2025/" * 12 + canary[1:], "\uff0e\uff0e/" * 12 + canary[1:], "\u2024\u2024/" * 12 + canary[1:],
        "file://" + canary, "~root" + canary, "~/.." + canary, "./" + canary, "//" + canary, "/work/../.." + canary,
        "/proc/self/root" + canary, "/proc/1/root" + canary, "/work/out" + canary, "out" + canary, f"{canary}/.", f"{canary}\x00.txt",
    ]  # fmt: skip


async def ways_out(stage: Stage) -> None:
    """E01: through the library, and through the daemon, whole and with each byte of the query quoted in turn."""
    canary = stage.words["@CANARY@"]
    async with stage.box() as box:
        await box.sh("ln -s / out")
        for path in _ways_out(canary):
            await reads(stage, box, path)
            await writes(stage, box, path)
        with stage.refusing():
            for info in await box.files.list("/", deep=False):
                stage.saw(info.path, "a listing of /")
    session = await stage.service.session()
    await stage.service.run(session, "import os; os.symlink('/', '/work/out')")
    base = f"/api/sessions/{session}/files"
    for path in _ways_out(canary):
        plain = (
            quote(path.encode("utf-8", "surrogateescape"), safe="/%.\\~:") if path.isascii() else quote(path)
        )
        plain = plain.replace("\x00", "%00")
        for asked in (plain, quote(path, safe="")):
            for way in (
                f"{base}/content?path={asked}",
                f"{base}?path={asked}",
                f"{base}/{asked.lstrip('/')}",
            ):
                answer = await stage.service.call("GET", way)
                stage.saw(answer.body, f"GET {way}")
                stage.expect(answer.status < 500, f"GET {way} was answered with {answer.status}")
        answer = await stage.service.call("PUT", f"{base}/content?path={quote(path, safe='')}", b"changed")
        stage.expect(answer.status < 500, f"PUT {path!r} was answered with {answer.status}")


async def linked_folder(stage: Stage) -> None:
    """E03: an upload below a folder that is a link."""
    folder = stage.words["@CANARY_FOLDER@"]
    async with stage.box() as box:
        await box.sh(f"ln -s {folder} x; ln -s /etc etc; mkdir -p deep; ln -s {folder} deep/er")
        for path in ("x/file", "x/new", "deep/er/file", "deep/er/new", "etc/passwd", "x/../file"):
            await writes(stage, box, path)
            await reads(stage, box, path)
        found = await box.sh("cat /etc/passwd")
        stage.expect("changed" not in found.stdout, "the sandbox's own system files were changed")


async def odd_folders(stage: Stage) -> None:
    """E05: folders to run in that are none, one by one; each is an ordinary failure."""
    async with stage.box() as box:
        await box.sh("touch file; mkdir -m 0 closed; ln -s loop loop; mkfifo pipe")
        for cwd in (
            "none",
            "file",
            "closed",
            "loop",
            "pipe",
            "/proc/1/fd",
            "x" * 5000,
            "a/" * 2000,
            "\x00",
            "",
            "\udcff",
            " ",
        ):
            for language in ("python", "bash", "sh"):
                with stage.refusing():
                    work = box.sh("pwd", cwd=cwd) if language == "sh" else box.run("1", language, cwd=cwd)
                    found = await work
                    stage.expect(found.status != "internal_error", f"{cwd!r} for {language}: {found.status}")
        again = await box.run("print(40 + 2)")
        stage.expect(again.stdout == "42\n", "the sandbox did not go on working")


ROWS = (
    Row("B10", "P0", "starts in a folder that leads elsewhere", act=starts_elsewhere, off=("own-files",)),
    Row("B33", "P0", "puts links and pipes where the host will read and write", act=links_for_the_host, off=("files-from-inside",)),
    Row("B34", "P0", "links hard to a file it may not change", act=links_hard, off=("read-only-input",), binds=True),
    Row("B35", "P0", "swaps folders for links while the host reads and writes below them", act=swaps, off=("files-from-inside",)),
    Row("E01", "P0", "names files by twenty ways out of a folder", act=ways_out, off=("files-from-inside",), needs=("service",)),
    Row("E03", "P0", "lets the host write through a linked folder", act=linked_folder, off=("files-from-inside",)),
    Row("E05", "P1", "names a folder to run in that is none", act=odd_folders),
)  # fmt: skip
