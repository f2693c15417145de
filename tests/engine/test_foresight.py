"""Which model calls a block will make, read from its text alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terraphim_rlm.engine.foresight import MOST_FORESEEN, foresee


def prompts(code: str, **known: object) -> list[str]:
    return [each.args["prompt"] for each in foresee(code, dict(known))]


@pytest.mark.parametrize(
    ("code", "asked"),
    [
        ("llm_query('a')", ["a"]),
        ("x = llm_query(prompt='a')[:10]", ["a"]),
        ("print(llm_query('a'), [llm_query('b')])", ["a", "b"]),
        ("await llm_query('a')", ["a"]),
        ("llm_query_batched(['a', 'b'])", ["a", "b"]),
        ("q = 'a' + 'b'\nllm_query(f'{q}, {3} and {1.5}')", ["ab, 3 and 1.5"]),
        ("names = ['a', 'b']\nllm_query_batched([f'Who is {n}?' for n in names])", ["Who is a?", "Who is b?"]),
        ("[llm_query(n) for n in ('a', 'b')]", ["a", "b"]),
        ("for n in ['a', 'b']:\n    found = llm_query('x' + n)\n    print(found)", ["xa", "xb"]),
        ("a = b = 'x'\nllm_query(b)", ["x"]),
        ("q: str = 'x'\nllm_query(q)", ["x"]),
        ("llm_query(context[:10])", []),
        ("llm_query(f'{context}')", []),
        ("llm_query(f'{1:>3}')", []),
        ("if x:\n    llm_query('a')\nllm_query('b')", ["b"]),
        ("q = 'a'\nif x:\n    q = 'b'\nllm_query(q)", []),
        ("q = 'a'\nq += 'b'\nllm_query(q)", []),
        ("try:\n    llm_query('a')\nexcept E:\n    pass", []),
        ("def f():\n    llm_query('a')", []),
        ("f = lambda: llm_query('a')", []),
        ("x and llm_query('a')", []),
        ("llm_query('a') if x else llm_query('b')", []),
        ("for n in ['a', 'b']:\n    if n in found: break\n    llm_query(n)", []),
        ("for n in context:\n    llm_query('a')", []),
        ("raise ValueError\nllm_query('a')", []),
        ("l = ['a']\nl.append('b')\nllm_query_batched(l)", []),
        ("l = ['a']\nshuffle(l)\nllm_query_batched(l)", []),
        ("l = ['a']\nm = l\nm[0] = 'b'\nllm_query_batched(l)", []),
        ("l = ['a']\nprint(l)\nllm_query_batched(l)", ["a"]),
        ("llm_query = print\nllm_query('a')", []),
        ("def llm_query(x): pass\nllm_query('a')", []),
        ("from other import *\nllm_query('a')", []),
        ("llm_query('')", []),
        ("llm_query(1)", []),
        ("llm_query(*['a'])", []),
        ("llm_query('a', **options)", []),
        ("llm_query('a', max_tokens=limit)", []),
        ("llm_query_batched(['a', 1])", []),
        ("other.llm_query('a')", []),
        ("this is not Python", []),
    ],
)  # fmt: skip
def test_what_is_certain_is_foreseen_and_nothing_else(code: str, asked: list[str]) -> None:
    assert prompts(code) == asked


def test_options_are_those_that_the_cell_would_send() -> None:
    (only,) = foresee("llm_query('a', max_tokens=5, temperature=0, memo=True)")
    assert only.args == {"prompt": "a", "model": None, "max_tokens": 5, "temperature": 0, "memo": True}


def test_names_carry_over_from_a_block_to_the_next() -> None:
    known: dict[str, object] = {}
    assert foresee("q = 'a'\nr = context", known) == []
    assert known == {"q": "a"}
    assert [each.args["prompt"] for each in foresee("llm_query(q)", known)] == ["a"]


def test_there_is_an_end_to_what_is_foreseen_and_to_the_work_for_it() -> None:
    assert len(prompts(f"for n in {list(map(str, range(900)))}:\n    llm_query(n)")) == MOST_FORESEEN
    nested = "for a in l:\n" + "".join(f"{'    ' * (depth + 1)}for b{depth} in l:\n" for depth in range(9))
    assert prompts(f"l = {list('abcdefgh')}\n{nested}{'    ' * 10}pass\nllm_query('x')") == []
    assert prompts("(" * 1_000 + "llm_query('a')" + ")" * 1_000) == []


@given(st.text(alphabet="aq='\"[](){}:\n +f.,lmn_uery", max_size=80))
def test_no_text_makes_it_fail(code: str) -> None:
    foresee(code)
