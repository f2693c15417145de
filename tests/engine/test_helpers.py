"""The helpers of a cell, called as models call them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rows import named

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]

LINES = "abc def\nghi jkl\nmno"
PASSED = {
    "a-word": ("x = 'Paris'\nFINAL_VAR(x)", "Paris"),
    "the-name-of-another": ("x = 'context'\nFINAL_VAR(x)", "context"),
    "two-words": ("x = 'two words'\nFINAL_VAR(x)", "two words"),
    "in-a-function": ("def give(v):\n    FINAL_VAR(\n        v)\ngive('Rome')", "Rome"),
    "an-item": ("x = {'a': 'Oslo'}\nFINAL_VAR(x['a'])", "Oslo"),
    "by-another-name": ("give = FINAL_VAR\nx = 'Bern'\ngive(x)", "Bern"),
    "named": ("x = 'Paris'\nFINAL_VAR('x')", "Paris"),
    "named-by-an-expression": ("x = 5\nFINAL_VAR(['x'][0])", 5),
    "named-with-another-of-its-value": ("x = 5\ny = 'x'\nFINAL_VAR('x')", 5),
    "missing": ("try: FINAL_VAR('Paris')\nexcept NameError as e: FINAL(str(e))", "FINAL_VAR: there is no variable 'Paris'"),
}  # fmt: skip


@pytest.mark.parametrize(("code", "value"), named(PASSED))
async def test_a_variable_is_given_by_its_name_or_itself_whatever_it_holds(
    ask: Any, code: str, value: object
) -> None:
    assert (await ask([f"```python\n{code}\n```"])).answer.value == value


CHUNKS = {
    "text": (LINES, "chunks(9)", ["abc def\n", "ghi jkl\n", "mno"]),
    "named": (LINES, "chunks(size=9)", ["abc def\n", "ghi jkl\n", "mno"]),
    "other-text": (LINES, "chunks('one\\ntwo', 4)", ["one\n", "two"]),
    "bytes": (b"abc def\nghi", "[str(c) for c in chunks(9)]", ["b'abc def\\n'", "b'ghi'"]),
    "list": ([1, 2, "ab"], "chunks(6)", ["[1, 2,", " 'ab']"]),
    "dict": ({"a": 1}, "''.join(chunks(3))", "{'a': 1}"),
}


@pytest.mark.parametrize(("context", "call", "pieces"), named(CHUNKS))
async def test_chunks_take_their_size_first_or_by_name_over_any_input(
    ask: Any, context: Any, call: str, pieces: object
) -> None:
    assert (await ask([f"```python\nFINAL({call})\n```"], context)).answer.value == pieces


async def test_chunks_of_json_lines_are_lists_of_records(ask: Any, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"n": 1}\n{"n": 2}\n{"n": 3}\n')
    asked = await ask(["```python\nFINAL([len(c) for c in chunks(2)])\n```"], tmp_path / "a.jsonl")
    assert asked.answer.value == [2, 1]


WRONG = {
    "number": ("chunks(1.5)", "a number; leave it out"),
    "no-size": ("chunks(0)", "the size must be larger than the overlap, not 0 and 0"),
    "tokens": ("tokens(5)", "the text to work on is 5, a number"),
    "grep": ("grep('a', 5)", "the text to work on is 5, a number"),
}


@pytest.mark.parametrize(("call", "said"), named(WRONG))
async def test_what_a_helper_cannot_take_is_named(ask: Any, call: str, said: str) -> None:
    asked = await ask([f"```python\ntry: {call}\nexcept Exception as e: FINAL(str(e))\n```"])
    assert said in asked.answer.value


async def test_no_helper_decodes_a_large_input_to_look_at_it(ask: Any) -> None:
    """A lazy text gives every method of a str by decoding itself: asking it for what it has not must not."""
    code = (
        "import builtins\ndef refuse(self): raise MemoryError('decoded')\ntype(context).__str__ = refuse\n"
        "FINAL([grep('needle', count=True), len(grep('x', limit=2)), tokens(), len(chunks(10_000_000)), lines(1, 1)])"
    )
    asked = await ask([f"```python\n{code}\n```"], "x\n" * 10_000_000 + "needle")

    assert asked.answer.value == [1, 2, 5_000_001, 3, "x\n"]
