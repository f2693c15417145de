"""Whether code speaks a domain's language, and a graph that changes on disk."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kg_kit import graph, graph_file

from terraphim_rlm.core.clock import ManualClock
from terraphim_rlm.core.errors import InvalidArgument, PathNotFound
from terraphim_rlm.core.values import Verdict
from terraphim_rlm.guard.kg.library import Knowledge, Library
from terraphim_rlm.guard.kg.vocabulary import KgJudge, Strict, Strictness, look, verdict
from terraphim_rlm.guard.kg.words import said, words

KNOWLEDGE = Knowledge(graph())


def judged(code: str, language: str, strictness: Strictness) -> Verdict:
    return verdict(KNOWLEDGE, look(KNOWLEDGE, code, language), Strict(strictness))


ROWS = [
    # code, language, permissive, normal, strict
    ("print(len(context))", "python", "allow", "allow", "allow"),
    ("hits = grep('middleware')  # routes", "python", "allow", "allow", "allow"),
    ("hits = grep('frobnicator')", "python", "warn", "block", "block"),
    ("frobnicator = context", "python", "allow", "allow", "allow"),
    ("llm_query('What does the frobnicator do to a session?')", "python", "allow", "allow", "block"),
    ("x = 'session' + 'lighthouse'", "python", "allow", "allow", "block"),
    ("grep -rn --color session .", "bash", "allow", "allow", "block"),
    ("routes $HOME", "bash", "allow", "allow", "allow"),
    ('/* the session */ const a = "router";', "javascript", "allow", "allow", "allow"),
    ("let name = \"middleware\"; // don't ask about lifetimes <'a>", "rust", "allow", "allow", "block"),
    ("s := `a websocket`", "go", "allow", "allow", "allow"),
    ("x = '" + "frob grault garply waldo fred plugh xyzzy thud corge quuxy quuux " * 3 + "session'", "python", "warn", "block", "block"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "language", "permissive", "normal", "strict"), ROWS)
def test_the_three_grades_of_strictness(
    code: str, language: str, permissive: str, normal: str, strict: str
) -> None:
    assert judged(code, language, "permissive").decision == permissive
    assert judged(code, language, "normal").decision == normal
    assert judged(code, language, "strict").decision == strict


def test_a_finding_covers_the_unknown_word_and_says_what_it_may_have_meant() -> None:
    code = "é = grep('backgroud taks')"
    found = judged(code, "python", "normal")
    assert [(each.rule, code[each.start : each.end]) for each in found.findings] == [
        ("kg.unknown-term", "backgroud"),
        ("kg.unknown-term", "taks"),
        ("kg.no-known-term", "backgroud taks"),
    ]
    assert "'background task" in found.findings[0].suggestion
    assert "such as 'routing'" in found.findings[-1].suggestion


def test_concepts_that_do_not_belong_together_are_named_in_strict_mode() -> None:
    [found] = judged("x = 'session lighthouse'", "python", "strict").findings
    assert found.rule == "kg.disconnected"
    assert "session, lighthouse" in found.message


def test_a_term_does_not_reach_from_one_string_into_the_next() -> None:
    assert look(KNOWLEDGE, "'background' 'tasks'", "python").found == ()
    assert look(KNOWLEDGE, r"'web\nsocket web socket'", "python").found[0].start == 13


def test_values_put_into_a_string_and_escapes_are_no_words() -> None:
    text = said(r"f'{frobnicate(x)} of \bsession\x41'", "python")
    assert [word.text for word in words(text)] == ["session"]


SIGNS = [
    "'",
    '"',
    "'''",
    '"""',
    "\\",
    "\n",
    "#",
    "/*",
    "*/",
    "//",
    "`",
    "{",
    "}",
    "word",
    " ",
    "é",
    "$x",
    "--opt",
]


@settings(database=None, deadline=None)
@given(
    st.lists(st.sampled_from(SIGNS), max_size=40).map("".join),
    st.sampled_from(["python", "bash", "javascript", "rust", "go", "text"]),
)
def test_what_is_blanked_out_keeps_its_place(code: str, language: str) -> None:
    text = said(code, language)
    assert len(text) == len(code)
    assert all(kept in (given, "\x01") for kept, given in zip(text, code, strict=True))


@pytest.mark.parametrize("piece", ["'", '"""', "/*", "{", "\\", "$", "-", "word ", "[", "`"])
def test_hostile_text_is_read_in_time_linear_in_its_length(piece: str) -> None:
    def seconds(count: int) -> float:
        code = piece * (count // len(piece))
        best = float("inf")
        for _ in range(2):
            started = time.process_time()
            for language in ("python", "bash", "javascript", "rust"):
                look(KNOWLEDGE, code, language)
            best = min(best, time.process_time() - started)
        return best

    short, long = seconds(8_000), seconds(64_000)
    assert long < max(short, 0.002) * 8 * 5, (short, long)


async def test_a_changed_graph_is_read_again_and_a_bad_one_keeps_the_old_and_says_so(tmp_path: Path) -> None:
    path, clock, told = graph_file(tmp_path), ManualClock(), []
    judge = KgJudge(Library(path, clock=clock, on_change=told.append))
    code = "grep('submarine')"
    assert (await judge.judge(code, "python")).decision == "block"

    path.write_text('{"name": "sea", "data": {"submarine": {"id": 1, "nterm": "submarine"}}}')
    assert (await judge.judge(code, "python")).decision == "block", "it is looked once a second at most"
    clock.advance(2)
    assert (await judge.judge(code, "python")).decision == "allow"

    path.write_text('{"name": "sea", "data": {"subma')
    clock.advance(2)
    found = await judge.judge(code, "python")
    assert found.decision == "warn"
    assert [each.rule for each in found.findings] == ["kg.not-reloaded"]
    assert "is not JSON" in found.findings[0].message

    path.unlink()
    clock.advance(2)
    assert (await judge.judge(code, "python")).decision == "warn"

    path.write_text('{"name": "sea", "data": {"boat": {"id": 1, "nterm": "boat"}}}')
    clock.advance(2)
    assert (await judge.judge(code, "python")).decision == "block"
    assert [message.endswith("was read again.") for message in told] == [True, False, False, True]


async def test_a_graph_that_was_never_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PathNotFound):
        await KgJudge(Library(tmp_path / "none.json")).judge("x", "python")


@pytest.mark.parametrize(
    "wrong",
    [{"strictness": "harsh"}, {"least_ratio": 2}, {"least_ratio": True}, {"least_ratio": float("nan")}],
)
def test_what_strictness_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        Strict(**wrong)  # type: ignore[arg-type]
