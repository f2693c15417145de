"""The grammars that keep a small model to the point, built from hostile text."""

from __future__ import annotations

import pytest

from terraphim_rlm.engine.lookup import leaves
from terraphim_rlm.llm import gbnf
from terraphim_rlm.llm.client import ModelReply

NASTY = (
    'say "hi" \\ root ::= x',
    "a\nb\tc\x00d\x1b[31m",
    "\u202eright \ud800 to left",
    "x" * 5000,
    "\\",
    "::= | ( ) [^a]",
)


@pytest.mark.parametrize("text", NASTY)
def test_a_grammar_built_from_any_text_is_well_formed(text: str) -> None:
    for request in (leaves.extraction("Who?", text), leaves.likelihood(text, text)):
        assert request.grammar
        gbnf.check(request.grammar)
        assert len(request.messages[0].content) < 1500


def test_the_prompts_of_a_question_share_a_long_prefix_for_the_cache() -> None:
    one, two = (leaves.extraction("Who?", text).messages[0].content for text in ("first text", "second text"))
    shared = next(i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b)
    assert shared > 300


def test_an_extraction_must_stand_in_the_sentence() -> None:
    sentence = "The ferry leaves at 21:40 from the pier."
    assert leaves.read_extraction(ModelReply(" 21:40\n"), sentence) == "21:40"
    assert leaves.read_extraction(ModelReply(" 1:40"), sentence) is None
    assert leaves.read_extraction(ModelReply(" noon"), sentence) is None
    assert leaves.read_extraction(ModelReply(" 60s)."), "It waits (by default 60s).") == "60s"


@pytest.mark.parametrize("value", [None, "x", True, [], float("nan")])
def test_a_log_probability_that_is_none_is_none(value: object) -> None:
    assert leaves.read_likelihood(ModelReply("", details={"logprob": value})) is None
