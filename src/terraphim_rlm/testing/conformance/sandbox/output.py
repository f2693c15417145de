"""What code says: two streams, every byte, in order, and as it comes."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from terraphim_rlm.testing.conformance.checks import Hear, holds, like, refused, same, speaking, within
from terraphim_rlm.testing.conformance.model import Box, Group

OUTPUT = Group("output")
CALLBACK = Group("callback")
_RANDOM = "import os, random\nd = random.Random({seed}).randbytes({size})\n"
_TO = "v = memoryview(d)\nwhile v: v = v[os.write({fd}, v):]\n"


def _keep(said: list[str], _stream: str, text: str) -> None:
    said.append(text)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@OUTPUT.shared()
async def stdout_and_stderr_stay_apart(box: Box) -> None:
    code = "import sys\nfor n in range(100):\n    print('out', n)\n    print('err', n, file=sys.stderr)"
    out = "".join(f"out {n}\n" for n in range(100))
    err = "".join(f"err {n}\n" for n in range(100))
    like(await box.run(code), stdout=out, stderr=err)
    loop = "for ((n = 0; n < 100; n++)); do echo out $n; echo err $n >&2; done"
    like(await box.sh(loop), stdout=out, stderr=err)
    like(await box.run(loop, "bash"), stdout=out, stderr=err)


@OUTPUT.shared()
async def ten_thousand_lines_keep_their_order(box: Box) -> None:
    wanted = "".join(f"{n}\n" for n in range(10_000))
    like(await box.run("for n in range(10_000): print(n)"), stdout=wanted, truncated=False)
    like(await box.sh("seq 0 9999"), stdout=wanted, truncated=False)


@OUTPUT.shared()
async def every_byte_value_comes_back(box: Box) -> None:
    data = bytes(range(256)) * 5
    code = "import os; _ = os.write(1, bytes(range(256)) * 5)"
    like(await box.run(code), stdout_bytes=data, status="ok")
    escapes = "".join(f"\\x{byte:02x}" for byte in data)
    like(await box.sh(f"printf '{escapes}'"), stdout_bytes=data)


@OUTPUT.shared()
async def output_is_utf_8_whatever_wrote_it(box: Box) -> None:
    text = "café résumé €100 中文 😀\n"
    like(await box.run(f"print({text[:-1]!r})"), stdout=text)
    octal = "".join(f"\\{byte:03o}" for byte in text.encode())
    like(await box.sh(f"printf '{octal}'; printf '{octal}' >&2"), stdout=text, stderr=text)


@OUTPUT.shared()
async def bytes_that_are_no_utf_8_are_shown_and_cost_nothing_around_them(box: Box) -> None:
    result = await box.sh("printf 'a\\xc3(b\\xff\\ncd\\n'")
    holds(result.stdout.startswith("a") and result.stdout.endswith("\ncd\n"), f"{result.stdout!r} lost text")
    holds("(b" in result.stdout, f"{result.stdout!r} lost text")
    same(result.stdout_bytes, b"a\xc3(b\xff\ncd\n", "the bytes")


@OUTPUT.shared()
async def line_ends_nul_bytes_and_escapes_pass_unchanged(box: Box) -> None:
    raw = b"one\r\ntwo\rthree\n\0\x1b[31mred\x1b[0m\x08\x07\x1b]0;title\x07\t\n\n\n"
    like(await box.run(f"import sys; _ = sys.stdout.buffer.write({raw!r})"), stdout=raw.decode())
    like(await box.sh("cat", stdin=raw), stdout=raw.decode(), stdout_bytes=raw)


@OUTPUT.shared()
async def nothing_is_added_at_the_end_and_nothing_taken(box: Box) -> None:
    for text in ("", "x", "x\n", "x\n\n", "\n", " x "):
        like(await box.run(f"print({text!r}, end='')"), stdout=text)
        like(await box.sh(f"printf %s '{text}'"), stdout=text)


@OUTPUT.shared(seconds=40)
async def ten_megabytes_come_back_exactly(box: Box) -> None:
    size = 10_000_000
    wanted = _digest(random.Random(7).randbytes(size))
    result = await box.run(_RANDOM.format(seed=7, size=size) + _TO.format(fd=1), timeout=30)
    same((len(result.stdout_bytes), result.truncated), (size, False), "the size")
    same(_digest(result.stdout_bytes), wanted, "the digest of ten megabytes")


@OUTPUT.shared()
async def one_line_of_five_megabytes_is_whole(box: Box) -> None:
    result = await box.run("print('x' * 5_000_000 + 'end')")
    same((len(result.stdout), result.stdout[-4:]), (5_000_004, "end\n"), "the line")


@OUTPUT.shared()
async def both_streams_at_once_come_whole(box: Box) -> None:
    """Whoever reads one to its end before the other waits for ever."""
    code = (
        "import os\nfor n in range(400):\n    a = os.write(1, b'o' * 8000)\n    a = os.write(2, b'e' * 8000)"
    )
    like(await box.run(code), stdout="o" * 3_200_000, stderr="e" * 3_200_000)
    loop = "for n in $(seq 40); do head -c 80000 /dev/zero | tr '\\0' e >&2; printf %80000s; done"
    like(await box.sh(loop), stdout=" " * 3_200_000, stderr="e" * 3_200_000)


@OUTPUT.fresh(output_bytes=1000)
async def output_past_its_bound_is_cut_and_said(box: Box) -> None:
    like(await box.run("print('x' * 300_000, end='')"), truncated=True, status="ok", stdout="x" * 1000)
    like(await box.sh("head -c 300000 /dev/zero | tr '\\0' x"), truncated=True, stdout="x" * 1000)
    like(await box.run("import sys; print('e' * 5000, file=sys.stderr)"), truncated=True, stderr="e" * 1000)
    like(await box.run("print('fine')"), truncated=False, stdout="fine\n")


@OUTPUT.fresh(output_bytes=1000)
async def output_that_just_fits_is_not_called_cut(box: Box) -> None:
    like(await box.run("print('x' * 1000, end='')"), truncated=False, stdout="x" * 1000)
    like(await box.run("print('x' * 1001, end='')"), truncated=True, stdout="x" * 1000)


@OUTPUT.fresh(output_bytes=100_000, seconds=30)
async def a_flood_of_output_is_read_to_its_end(box: Box) -> None:
    result = await box.sh("head -c 200000000 /dev/zero; echo done >&2", timeout=25)
    like(result, status="ok", truncated=True, stderr="done\n")
    same(len(result.stdout_bytes), 100_000, "the length of what is kept")


@OUTPUT.shared()
async def output_of_every_kind_of_writer_comes_in(box: Box) -> None:
    code = (
        "import os, subprocess, sys, threading\n"
        "print('print')\nsys.stdout.flush()\n_ = os.write(1, b'write\\n')\n"
        "_ = subprocess.run(['echo', 'child'])\n"
        "t = threading.Thread(target=lambda: print('thread')); t.start(); t.join()"
    )
    like(await box.run(code), stdout="print\nwrite\nchild\nthread\n")


@OUTPUT.shared()
async def the_last_expression_is_shown_as_at_a_prompt(box: Box) -> None:
    like(await box.run("a = 'q'\na * 2"), stdout="'qq'\n")
    like(await box.run("None"), stdout="")


@OUTPUT.shared()
async def output_before_an_error_is_kept(box: Box) -> None:
    like(await box.run("print('seen', end='')\n1 / 0"), stdout="seen", status="exit_nonzero")


@OUTPUT.shared()
async def what_is_written_after_an_execution_is_not_lost_for_good(box: Box) -> None:
    code = "import threading, time\ngo = threading.Event()\n"
    code += "t = threading.Thread(target=lambda: (go.wait(9), print('late', flush=True))); t.start()"
    like(await box.run(code), stdout="", status="ok")
    like(await box.run("go.set(); t.join()\nprint('own')"), stdout="late\nown\n")


@CALLBACK.shared()
async def the_callback_hears_everything_in_order(box: Box) -> None:
    async def heard(work: Any) -> None:
        said: dict[str, str] = {"stdout": "", "stderr": ""}

        def hear(stream: str, text: str) -> None:
            said[stream] += text

        result = await work(hear)
        same(said["stdout"], result.stdout, "what the callback heard of stdout")
        same(said["stderr"], result.stderr, "what the callback heard of stderr")
        same(len(result.stdout), 48_890 + 10_000, "the length of stdout")

    code = "import sys\nfor n in range(10_000): print(n)\nprint('err' * 1000, file=sys.stderr)\nprint('z' * 9999)"
    await heard(lambda hear: box.run(code, on_output=hear))
    shell = "seq 0 9999; printf 'err%.0s' {1..1000} >&2; printf 'z%.0s' {1..9999}; echo"
    await heard(lambda hear: box.sh(shell, on_output=hear))
    await heard(lambda hear: box.run(shell, "bash", on_output=hear))


@CALLBACK.shared()
async def the_callback_hears_while_the_code_runs(box: Box) -> None:
    """The code goes on only once somebody answers to what it said."""
    starts: tuple[Callable[[Hear], Awaitable[Any]], ...] = (
        lambda hear: box.run(_ANSWERED.format(where="/tmp/heard-a"), on_output=hear, timeout=15),
        lambda hear: box.sh("echo go; until [ -e /tmp/heard-b ]; do sleep 0.01; done", on_output=hear),
    )
    for start in starts:
        running = await speaking(start)
        await box.sh("touch /tmp/heard-a /tmp/heard-b")
        like(await running, status="ok", stdout="go\n")


_ANSWERED = "import os, time\nprint('go')\nwhile not os.path.exists({where!r}): time.sleep(0.01)"


@CALLBACK.shared()
async def a_character_cut_in_two_is_heard_whole(box: Box) -> None:
    said: list[str] = []
    code = "import os, time\nfor b in '😀é'.encode():\n    n = os.write(1, bytes([b]))\n    time.sleep(0.02)"
    result = await box.run(code, on_output=lambda _stream, text: said.append(text))
    same("".join(said), "😀é", "what was heard")
    holds(not any(re.search(r"\\x|�", piece) for piece in said), f"{said} holds halves")
    same(result.stdout, "😀é", "stdout")


@CALLBACK.shared()
async def a_callback_that_raises_reaches_its_caller_and_harms_nothing_else(box: Box) -> None:
    def broken(*_: object) -> None:
        raise LookupError("the callback is broken")

    works: tuple[Callable[[Hear], Awaitable[Any]], ...] = (
        lambda hear: box.run("print('x')", on_output=hear),
        lambda hear: box.run("echo x", "bash", on_output=hear),
        lambda hear: box.sh("echo x", on_output=hear),
    )
    for work in works:
        await within(10, refused(work(broken), LookupError), "an execution with a broken callback")
        said: list[str] = []
        await work(partial(_keep, said))
        same("".join(said), "x\n", "what the next callback hears")


@CALLBACK.shared()
async def a_callback_hears_nothing_of_other_executions(box: Box) -> None:
    mine: list[str] = []
    await box.run("print('mine')", on_output=lambda _stream, text: mine.append(text))
    await box.run("print('other')")
    await box.sh("echo other")
    same(mine, ["mine\n"], "what was heard")
