"""What an answer is asked before it counts, and how a node that goes in circles is ended."""

from __future__ import annotations

from typing import Any

import pytest

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.engine.guards import LITERAL, LOOK_FIRST, Checks, Guards, Proposal
from terraphim_rlm.engine.reading import facts, same

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]
ALL = Checks()
LOOK = "```python\nprint(context[:20])\n```"


def cell(code: str) -> str:
    return f"```python\n{code}\n```"


# -- what the code alone tells


@pytest.mark.parametrize(
    "code",
    [
        "print(context[:9])", "grep('x')", "for line in lines(1, 5): pass", "x = slice(0, 9)", "chunks()", "tokens()",
        "quote('a')", "cite(0, 3)", "f = lambda: context", "globals()['context']", "def g():\n    return context",
        "import re\nre.findall('a', context)", "[c for c in chunks(100)]", "x" * 300_000,
    ],
)  # fmt: skip
def test_code_that_names_the_input_or_a_search_reads_it(code: str) -> None:
    assert facts(code).reads


@pytest.mark.parametrize(
    "code",
    ["", "print(1)", "FINAL('x')", "# context", "'the context is long'", "llm_query('what is it?')", "import os",
     "contexts = 1", "x.context", "print('context: none')", "def (", "\0", "(" * 5000],
)  # fmt: skip
def test_code_that_only_talks_of_the_input_does_not_read_it(code: str) -> None:
    assert not facts(code).reads


@pytest.mark.parametrize(
    "code",
    [
        "FINAL('Paris')", "FINAL(42)", "FINAL(-1.5)", "FINAL(['a', 'b'])", "FINAL({'a': 1})", "SUBMIT(city='Paris')",
        "a = 'Paris'\nFINAL(a)", "a: str = 'Paris'\nFINAL(a)", "a = 'P'\nb = a\nFINAL(f'{b}aris')", "FINAL('Pa' 'ris')",
        "FINAL('Pa' + 'ris')", "a = 'Paris'\nFINAL_VAR('a')", "a = 'Paris'\nFINAL_VAR(a)",
        "answer['content'] = 'Paris'\nanswer['ready'] = True", "answer = {'content': 'Paris', 'ready': True}",
        "done = FINAL('Paris')", "print(context)\nFINAL('Paris')",
    ],
)  # fmt: skip
def test_an_answer_that_stands_in_the_code_is_seen_however_it_is_given(code: str) -> None:
    assert facts(code).literal


@pytest.mark.parametrize(
    "code",
    [
        "FINAL(context[:5])", "FINAL(len(context))", "FINAL('yes' if 'x' in context else 'no')", "FINAL(2 + 2)",
        "if 'x' in context:\n    FINAL('yes')\nelse:\n    FINAL('no')", "for h in grep('x'):\n    FINAL('found')",
        "a = 'x'\na = llm_query('?')\nFINAL(a)", "a = 'x'\na += context[:3]\nFINAL(a)", "FINAL(f'{n} lines')",
        "a = 'x'\nfor a in grep('y'): pass\nFINAL(a)", "FINAL(str(7))", "FINAL_VAR('elsewhere')", "print('FINAL')",
        "a, b = 'x', 'y'\nFINAL(a)", "try:\n    FINAL('x')\nexcept Exception: pass", "FINAL({**found})", "",
    ],
)  # fmt: skip
def test_an_answer_that_is_computed_chosen_or_set_elsewhere_is_none_that_stands_in_the_code(
    code: str,
) -> None:
    assert not facts(code).literal


def test_the_same_code_is_known_by_what_it_does() -> None:
    assert same("x = 1  # one\n\nprint( x )") == same("x = 1\nprint(x)")
    assert same("x = 1") != same("x = 2")
    assert same("not python (") == "not python ("


# -- asked once, in a run


@pytest.mark.parametrize(
    "finish",
    ["FINAL(guess)", "FINAL guess", cell("FINAL('guess')"), cell("x = 'guess'\nFINAL(x)"), cell("print(1)") + "\n" + cell("FINAL('guess')"),
     cell("SUBMIT(a=1)"), cell("answer['content'] = 'guess'\nanswer['ready'] = True"), cell("g = 'guess'\nFINAL_VAR('g')"),
     cell("FINAL(llm_query('guess'))")],
)  # fmt: skip
async def test_an_answer_before_the_input_was_read_is_asked_once_and_may_be_insisted_on(
    ask: Any, finish: str
) -> None:
    asked = await ask([finish, finish], checks=ALL, sub_reply="guess")

    assert asked.answer.termination in ("final", "final_var")
    assert LOOK_FIRST in asked.said(2)
    assert len(asked.turns) == 2


@pytest.mark.parametrize("finish", ["FINAL(guess)", cell("FINAL('guess')")])
async def test_looking_first_can_be_switched_off(ask: Any, finish: str) -> None:
    assert len((await ask([finish], checks=Checks(look_first=False))).turns) == 1


@pytest.mark.parametrize(
    "code",
    ["print(context)\nFINAL('Paris')", "hits = grep('x')\nFINAL('Paris')", "print(llm_query('x'))\nFINAL('Paris')",
     "print(context)\na = 'Paris'\nFINAL_VAR('a')", "chunks(size=9)\nanswer['content'] = 'Paris'\nanswer['ready'] = True"],
)  # fmt: skip
async def test_an_answer_written_out_in_the_cell_that_looks_is_asked_once(ask: Any, code: str) -> None:
    asked = await ask([LOOK, cell(code), cell("FINAL('London')")], checks=ALL, sub_reply="no")

    assert asked.answer.text == "London"
    assert LITERAL in asked.said(3)


async def test_an_answer_written_out_in_a_later_block_of_the_same_reply_is_asked_too(ask: Any) -> None:
    asked = await ask([cell("print(context)") + "\n" + cell("FINAL('Paris')"), "FINAL(London)"], checks=ALL)

    assert asked.answer.text == "London"
    assert "some input" in asked.said(2)
    assert LITERAL in asked.said(2)


@pytest.mark.parametrize(
    ("code", "checks"),
    [
        ("FINAL('Paris')", ALL),
        ("if 'some' in context: FINAL('yes')", ALL),
        ("quote('some input')\nFINAL('some input')", ALL),
        ("print(context)\nFINAL('Paris')", Checks(literal=False)),
        ("print('done')\nFINAL('Paris')", ALL),
    ],
)
async def test_an_answer_after_seeing_that_is_chosen_by_code_or_quoted_is_not_asked(
    ask: Any, code: str, checks: Checks
) -> None:
    assert len((await ask([LOOK, cell(code)], checks=checks)).turns) == 2


@pytest.mark.parametrize(("printed", "asked_back"), [(399, False), (400, True), (50_000, True), (0, False)])
async def test_an_answer_with_an_unread_print_out_is_asked_once(
    ask: Any, printed: int, asked_back: bool
) -> None:
    code = cell(f"print('y' * {printed})\nFINAL(len(context))")
    asked = await ask([code, code] if asked_back else [code], checks=ALL)

    assert asked.answer.value == 10
    assert len(asked.turns) == 1 + asked_back
    if asked_back:
        assert f"printed {printed:,} characters" in asked.said(2)


async def test_an_unread_print_out_can_be_let_pass(ask: Any) -> None:
    code = cell("print('y' * 900)\nFINAL(len(context))")
    assert len((await ask([code], checks=Checks(unread=False))).turns) == 1


async def test_a_guard_asks_a_child_too(ask: Any) -> None:
    asked = await ask(
        [cell("print(context)\nFINAL(rlm_query('who?', context))"), "FINAL(guess)", "FINAL(guess)"],
        checks=ALL,
    )

    assert asked.answer.text == "guess"
    assert LOOK_FIRST in asked.said(3)


# -- circles


@pytest.mark.row("G20")
@pytest.mark.parametrize(
    ("replies", "turns"),
    [
        ([LOOK] * 9, 3),
        ([LOOK, cell("print(context[:20])  # again"), cell("\nprint( context[:20] )\n")] * 3, 3),
        (["```bash\necho a\n```"] * 9, 3),
        ([LOOK, cell("print(2)")] * 9, 6),
        ([LOOK, cell("print(2)"), cell("print(3)")] * 9, 9),
        ([cell("1/0")] * 9, 3),
        (["RUN(echo a)", "```bash\necho a\n```"] * 9, 3),
        (["SNAPSHOT(a b)", "ROLLBACK(nowhere)"] * 9, None),
    ], ids=["one", "written-otherwise", "shell", "two", "three", "failing", "two-ways", "snapshots"])  # fmt: skip
async def test_a_node_that_goes_in_circles_is_told_and_then_ended(
    ask: Any, replies: list[str], turns: int | None
) -> None:
    asked = await ask(replies, checks=ALL)

    assert (asked.answer.termination, asked.answer.partial) == ("stalled", True)
    if turns is not None:
        assert len(asked.turns) == turns
        assert "same code with the same output" in asked.said(turns)


async def test_a_loop_whose_output_changes_is_none(ask: Any) -> None:
    step = cell("n = globals().get('n', 0) + 1\nprint(n)")
    assert (await ask([LOOK, *[step] * 6, "FINAL_VAR(n)"], checks=ALL)).answer.value == 6


async def test_a_stalled_node_gives_its_draft(ask: Any) -> None:
    asked = await ask([cell("answer['content'] = 'half'\nprint(context)")] * 3, checks=ALL)
    assert (asked.answer.termination, asked.answer.text) == ("stalled", "half")


async def test_circles_can_be_allowed_or_cut_sooner(ask: Any) -> None:
    assert (await ask([*[LOOK] * 7, "FINAL(x)"], checks=Checks(repeats=None))).answer.text == "x"
    assert len((await ask([LOOK] * 3, checks=Checks(repeats=2))).turns) == 2
    with pytest.raises(InvalidArgument):
        Checks(repeats=1)


def test_rounds_are_counted_over_three_steps_at_most() -> None:
    guards = Guards(ALL, has_input=True)
    assert [guards.repeated(step) for step in "aabcbcbcxyzxyz"] == [1, 2, 1, 1, 1, 2, 2, 3, 1, 1, 1, 1, 1, 2]


# -- the caller's own check


async def test_a_check_of_the_caller_is_asked_before_an_answer_counts(ask: Any) -> None:
    seen: list[Proposal] = []

    async def verify(proposal: Proposal) -> str | None:
        seen.append(proposal)
        return None if proposal.value == 7 else "It must be seven."

    asked = await ask(
        [LOOK, "FINAL(six)", cell("quote('input')\nFINAL(7)")], checks=Checks(literal=False, verify=verify)
    )

    assert asked.answer.value == 7
    assert "not accepted: It must be seven." in asked.said(3)
    assert [each.text for each in seen] == ["six", "7"]
    assert (seen[1].question, seen[1].evidence[0].quote) == ("What?", "input")


async def test_an_answer_that_is_never_accepted_is_given_marked_as_such(ask: Any) -> None:
    asked = await ask([LOOK, *["FINAL(six)"] * 3], checks=Checks(verify=lambda _: "No."))

    answer = asked.answer
    assert (answer.text, answer.termination, answer.partial, answer.confidence) == (
        "six", "stalled", True, "unverified",
    )  # fmt: skip


async def test_that_nothing_was_found_is_put_to_the_callers_check_and_has_no_schema(ask: Any) -> None:
    texts: list[str] = []
    checks = Checks(verify=lambda p: texts.append(p.text))
    asked = await ask([LOOK, "FINAL(not found)"], checks=checks, schema={"type": "integer"})

    assert (asked.answer.termination, texts) == ("not_found", ["not found"])


async def test_a_child_is_not_put_to_the_callers_check(ask: Any) -> None:
    code = cell("FINAL(rlm_query('who?', context))")
    asked = await ask(
        [LOOK, code, LOOK, "FINAL(she)"],
        checks=Checks(verify=lambda p: None if p.question == "What?" else "a child was asked"),
    )
    assert asked.answer.text == "she"


@pytest.mark.parametrize("wrong", [lambda _: 1 / 0, lambda _: 5, lambda _: {"ok": True}])
async def test_a_check_that_is_broken_is_the_callers_error(ask: Any, wrong: Any) -> None:
    with pytest.raises(InvalidArgument, match="check of answers"):
        await ask([LOOK, "FINAL(x)"], checks=Checks(verify=wrong))
