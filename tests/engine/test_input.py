"""Every kind of input as a cell and a child node see it: the same bytes, shared and never copied."""

from __future__ import annotations

import gzip
import io
import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from terraphim_rlm import Limits
from terraphim_rlm.core.errors import InputUnreadable, InvalidArgument
from terraphim_rlm.engine.context import make_context

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]

INODE = "{line.split()[4] for line in open('/proc/self/maps') if 'memfd:context' in line}"


def database(path: Path, *, wal: bool = False) -> sqlite3.Connection:
    made = sqlite3.connect(path)
    if wal:
        made.execute("PRAGMA journal_mode=WAL")
    made.execute('CREATE TABLE "my people" (name TEXT, age INT)')
    made.executemany('INSERT INTO "my people" VALUES (?, ?)', [("Ada", 36), ("Alan", 41)])
    made.commit()
    return made


@pytest.mark.parametrize("wal", [False, True])
async def test_a_database_is_a_connection_that_can_only_read(ask: Any, tmp_path: Path, wal: bool) -> None:
    held = database(tmp_path / "people.db", wal=wal)  # stays open: what is in its log is read, too
    code = (
        "```python\nimport sqlite3\nsaid = []\n"
        "for sql in ('DELETE FROM \"my people\"', 'CREATE TABLE x (y)', \"PRAGMA user_version = 3\"):\n"
        "    try: context.execute(sql)\n    except sqlite3.Error as e: said.append(type(e).__name__)\n"
        "FINAL([context.tables(), context.execute('SELECT name FROM \"my people\" WHERE age > 40').fetchall(), said])\n```"
    )
    asked = await ask([code], tmp_path / "people.db")
    held.close()

    tables, rows, said = asked.answer.value
    assert (tables, rows) == ({"my people": ["name", "age"]}, [["Alan"]])
    assert said[:2] == ["OperationalError"] * 2
    assert "context.tables()" in asked.said(1)


async def test_a_database_that_is_damaged_is_an_error_that_names_the_fix(tmp_path: Path) -> None:
    database(tmp_path / "x.db").close()
    data = bytearray((tmp_path / "x.db").read_bytes())
    data[16:100] = b"\xff" * 84
    (tmp_path / "x.db").write_bytes(data)
    with pytest.raises(InputUnreadable) as caught:
        make_context(tmp_path / "x.db")
    assert "backup" in caught.value.fix


async def test_a_child_is_given_a_database_by_its_parent(ask: Any, tmp_path: Path) -> None:
    database(tmp_path / "people.db").close()
    child = "```python\nFINAL(context.execute('SELECT max(age) FROM \"my people\"').fetchone()[0])\n```"
    asked = await ask(["```python\nFINAL(rlm_query('oldest?', context))\n```", child], tmp_path / "people.db")

    assert asked.answer.value == 41


LARGE = "data line\r\n" * 2_000_000  # above what is decoded at once


@pytest.mark.parametrize(
    "value", [LARGE, "small \r\n text", LARGE.encode()], ids=["large text", "text", "large bytes"]
)
async def test_a_child_shares_its_parents_input_and_copies_nothing(ask: Any, value: Any) -> None:
    root = f"```python\nown = {INODE}\nFINAL([list(own), rlm_query('same?', context)])\n```"
    child = f"```python\nFINAL([list({INODE}), len(context), type(context).__name__])\n```"
    asked = await ask([root, child], value)
    own, (its, length, _) = asked.answer.value

    assert length == len(value)
    assert len(own) == 1
    assert own == its, "both map one memory file"


async def test_a_child_may_be_given_some_files_of_a_folder_and_sees_no_other(
    ask: Any, tmp_path: Path
) -> None:
    for name in "abcd":
        (tmp_path / f"{name}.txt").write_text(f"this is {name}\r\n")
    root = (
        "```python\npaths = sorted(context)\nsome = {p: context[p] for p in paths[1:3]}\n"
        f"FINAL([list({INODE}), rlm_query('some?', some), rlm_query('one?', context[paths[3]]), rlm_query('all?', context)])\n```"
    )
    some = f"```python\nFINAL([list({INODE}), list(context.values()), len(context.bytes), [h.text for h in grep('this')]])\n```"
    one = f"```python\nFINAL([list({INODE}), str(context), quote('this is')])\n```"
    every = f"```python\nFINAL([list({INODE}), len(context)])\n```"
    asked = await ask([root, some, one, every], tmp_path)
    own, of_some, of_one, of_all = asked.answer.value

    assert of_some == [own, ["this is b\r\n", "this is c\r\n"], 22, ["this is b\r", "this is c\r"]]
    assert of_one == [own, "this is d\r\n", "this is"]
    assert of_all == [own, 4]


@pytest.mark.parametrize(
    "forged",
    [
        {"paths": ["/etc/passwd"]},
        {"paths": []},
        {"paths": ["../a.txt"], "one": True},
        {"paths": [1]},
        {"paths": "a.txt"},
        {"paths": {"a": 1}},
    ],
)
async def test_a_child_cannot_be_given_what_is_not_in_its_parents_input(
    ask: Any, tmp_path: Path, forged: Any
) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")
    code = (
        "```python\nimport gc\ncalls = llm_query.__self__\n"
        f"try: FINAL(calls.ask('rlm_query', question='q', context={{'input': {forged!r}}}))\n"
        "except ModelCallError as e: FINAL(e.type)\n```"
    )
    asked = await ask([code], tmp_path)

    assert asked.answer.value == "InvalidArgument"


async def test_what_a_parent_changed_reaches_its_child_changed(ask: Any) -> None:
    root = "```python\ncontext.append(4)\nFINAL(rlm_query('sum?', context))\n```"
    asked = await ask([root, "```python\nFINAL(sum(context))\n```"], [1, 2, 3])

    assert asked.answer.value == 10


async def test_children_of_a_batch_work_side_by_side_and_answer_in_order(ask: Any) -> None:
    root = "```python\nr = rlm_query_batched([f'q{n}' for n in range(5)], [str(n) for n in range(1, 6)], on_error='return')\nFINAL([x if not isinstance(x, Exception) else x.type for x in r])\n```"  # fmt: skip
    child = "```python\nif context == '3': llm_query('z' * 3_000_000)\nFINAL(context * 2)\n```"
    asked = await ask([root, *[child] * 5], limits=Limits(turns=1))

    assert asked.answer.value == ["11", "22", "TurnLimitExceeded", "44", "55"]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda p: "a\r\nb\rc\u2028\0", "a\r\nb\rc\u2028\0"),
        (lambda p: "lone \ud800 and \udc80", "lone \ud800 and \udc80"),
        (lambda p: b"\xff\xfe\r\n\0", b"\xff\xfe\r\n\0"),
        (
            lambda p: {"k": ["\r\n", None, 1.5, {"\ud83d": True}]},
            {"k": ["\r\n", None, 1.5, {"\ud83d": True}]},
        ),
        (lambda p: ["ab" * 10, 3], ["ab" * 10, 3]),
        (lambda p: written(p / "crlf.txt", b"x\r\ny\xff"), "x\r\ny\udcff"),
        (lambda p: written(p / "z.txt.gz", gzip.compress(b"x\r\n\xfe")), "x\r\n\udcfe"),
        (lambda p: io.BufferedReader(io.BytesIO(b"in\r\n\xfd")), "in\r\n\udcfd"),  # type: ignore[arg-type]
    ],
    ids=["separators", "surrogates", "bytes", "dict", "list", "file", "gz", "stream"],
)
async def test_every_kind_of_input_is_exact(
    ask: Any, tmp_path: Path, make: Callable[[Path], Any], expected: Any
) -> None:
    code = f"```python\nseen = context.plain() if hasattr(context, 'plain') else context\nFINAL([seen == {expected!r}, ascii(seen)])\n```"
    asked = await ask([code], make(tmp_path))

    assert asked.answer.value == [True, ascii(expected)]


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


async def test_json_lines_are_read_lazily_and_blank_ones_are_none(ask: Any, tmp_path: Path) -> None:
    rows = [json.dumps({"n": n, "pad": "p" * (n % 90)}) for n in range(60_000)]
    rows[10] += "\n\r\n  \t"
    text = "\n" + "\n".join(rows)  # and no newline at the end
    code = (
        "```python\nimport random\n"
        "places = [0, 9, 10, 11, 31_234, -1, -60_000]\n"
        "FINAL([len(context), [context[p]['n'] for p in places], [r['n'] for r in context[59_998:]],\n"
        " sum(r['n'] for r in context), type(context).__name__, context[-1] in context])\n```"
    )
    asked = await ask([code], written(tmp_path / "r.jsonl", text.encode()))

    assert asked.answer.value == [
        60_000, [0, 9, 10, 11, 31_234, 59_999, 0], [59_998, 59_999], sum(range(60_000)), "Records", True,
    ]  # fmt: skip


async def test_a_glob_and_a_list_of_paths_are_mappings(ask: Any, tmp_path: Path) -> None:
    for name in ("a.log", "b.log", "c.txt"):
        (tmp_path / name).write_text(name)
    code = "```python\nFINAL(sorted(context.values()))\n```"

    assert (await ask([code], tmp_path / "*.log")).answer.value == ["a.log", "b.log"]
    both = [tmp_path / "a.log", tmp_path / "c.txt"]
    assert (await ask([code], both)).answer.value == ["a.log", "c.txt"]


async def test_what_a_folder_leaves_out_is_counted(ask: Any, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.bin").write_bytes(b"\0")
    for folder in (".git", "node_modules"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x").write_text("x")
    (tmp_path / "out").symlink_to("/etc")
    (tmp_path / "file").symlink_to("/etc/hostname")
    asked = await ask(["```python\nFINAL(len(context))\n```"], tmp_path)

    assert asked.answer.value == 1
    assert (
        asked.of("run.started")[0]["context"]["skipped"] == "1 binary files, 1 links, 3 folders such as .git"
    )


async def test_a_context_that_cannot_be_one_is_refused_by_name() -> None:
    with pytest.raises(InvalidArgument, match="cannot be a set"):
        make_context({1})


async def test_bytes_too_many_to_copy_are_searched_in_place(ask: Any) -> None:
    code = (
        "```python\nFINAL([type(context).__name__, context.find(b'needle'), context.count(b'\\n'), b'needle' in context,\n"
        " context[3], list(context[-3:]), context.count(b'xx')])\n```"
    )
    data = b"xxx\n" * 5_000_000 + b"needle\xff"
    asked = await ask([code], data)

    assert asked.answer.value == [
        "LazyBytes", 20_000_000, 5_000_000, True, 10, list(b"le\xff"), 5_000_000,
    ]  # fmt: skip


async def test_looking_into_a_large_input_costs_no_time_for_what_is_not_looked_at(ask: Any) -> None:
    """Opening 64 MB must not decode, copy or index it: three times that is opened in about the same time."""
    code = "```python\nimport time\nt = time.perf_counter()\n_ = context[:100]\nFINAL(time.perf_counter() - t)\n```"
    best = min([(await ask([code], "x" * 64_000_000)).answer.value for _ in range(3)])
    started = time.perf_counter()
    _ = ("x" * 64_000_000).encode().decode()
    decoding = time.perf_counter() - started

    assert best < decoding
