"""The context in a cell: the same bytes, the same characters, whatever they are."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

import pytest

from terraphim_rlm import Sandbox
from terraphim_rlm.engine.context import make_context

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]


async def seen(box: Sandbox, value: object, code: str) -> str:
    """What `code` prints with `value` as its context."""
    context = make_context(value)
    try:
        box.python.give(context.handover())
        result = await box.run(code)
    finally:
        context.close()
    assert result.error is None, result.error
    return result.stdout


@pytest.mark.parametrize(
    "text", ["plain", "a\r\nb\rc\n", "ünïcode 😀", "lone \udc80 surrogate \ud800", "nul \0 byte"]
)
async def test_text_arrives_character_for_character(box: Sandbox, text: str) -> None:
    out = await seen(box, text, "print(ascii(str(context)), len(context), isinstance(context, str))")

    assert f"{text!a} {len(text)} True\n" == out


async def test_any_bytes_of_a_file_survive(box: Sandbox, tmp_path: Path) -> None:
    data = bytes(range(1, 256)) * 3
    (tmp_path / "any").write_bytes(data)
    out = await seen(
        box, tmp_path / "any", "print(bytes(context.bytes) == bytes(range(1, 256)) * 3, len(context))"
    )

    assert f"True {len(data.decode('utf-8', 'surrogateescape'))}\n" == out


async def test_a_folder_is_a_mapping_and_skips_what_is_not_text(box: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"two"))
    (tmp_path / "c.bin").write_bytes(b"\0\1")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("no")
    (tmp_path / "link").symlink_to("/etc/hostname")
    out = await seen(box, tmp_path, "print({k.rsplit('/')[-1]: str(v) for k, v in context.items()})")

    assert out == "{'a.txt': 'one', 'b.txt.gz': 'two'}\n"


async def test_json_and_json_lines_arrive_parsed(box: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"n": 1}\n\n{"n": 2}\n')

    assert await seen(box, [1, {"b": None}], "print(context)") == "[1, {'b': None}]\n"
    assert await seen(box, tmp_path / "x.jsonl", "print(len(context), context[-1])") == "2 {'n': 2}\n"


async def test_the_sandbox_cannot_change_the_input(box: Sandbox) -> None:
    code = (
        "import os\n"
        "failed = 0\n"
        "for fd in range(3, 20):\n"
        "    for act in (lambda: os.write(fd, b'x'), lambda: os.ftruncate(fd, 0), lambda: os.pwrite(fd, b'x', 0)):\n"
        "        try: act()\n"
        "        except OSError: failed += 1\n"
        "try: context.bytes[0] = 1\n"
        "except TypeError: print('read only')\n"
        "print(str(context))"
    )

    assert await seen(box, "secret", code.replace("range(3, 20)", "range(4, 20)")) == "read only\nsecret\n"


async def test_grep_finds_lines_with_their_places(box: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("one\ntwo ERROR a\nthree\nERROR b ERROR\n")
    out = await seen(box, tmp_path / "log", "for h in grep('ERROR'): print(h.line, h.start, h.end, h.text)")

    assert out == "2 4 15 two ERROR a\n4 22 35 ERROR b ERROR\n"


async def test_a_lazy_text_counts_characters_like_a_str(box: Sandbox) -> None:
    text = "aé😀\n" * 700_000
    code = (
        "from guest import views\n"
        "view = views.LazyText(context.bytes, '', False, 'surrogateescape')\n"
        "whole = str(context)\n"
        "cuts = [(0, 5), (1_000_003, 1_000_010), (len(whole) - 3, len(whole)), (-4, None), (262143, 262150)]\n"
        "print(len(view) == len(whole), all(view[a:b] == whole[a:b] for a, b in cuts), view[-2], '😀' in view,\n"
        "      view.find('é'), view.find('zz'), view.count('é'))"
    )
    code = "import sys; sys.path.insert(0, '/trlm')\n" + code

    assert await seen(box, text, code) == "True True 😀 True 1 -1 700000\n"


async def test_the_context_comes_back_after_the_interpreter_died(box: Sandbox) -> None:
    context = make_context("still here")
    box.python.give(context.handover())
    await box.run("import os; os._exit(1)")
    result = await box.run("print(context)")
    context.close()

    assert result.stdout == "still here\n"


async def test_a_loaded_context_does_not_block_the_loop(box: Sandbox) -> None:
    context = await asyncio.to_thread(make_context, "x" * 1_000_000)

    assert context.size == 1_000_000
    context.close()
