"""The check that stands before llama.cpp's parser of grammars."""

from __future__ import annotations

import pytest

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.llm import gbnf

GOOD = [
    'root ::= "yes" | "no"',
    'root ::= item{1,5}\nitem ::= [a-z0-9_ ]+ "," # a list\n',
    'root ::= ( "a" | b )*\nb ::= "\\"" [^"\\\\\\n]{0,80} "\\""',
    'root ::= "é" . "\\x41\\u00e9" [^\\]]?\r\n',
    "root ::=\n  x |\n  y\nx ::= [a-z]\ny ::= [0-9]",
    'root ::= "" | a\na ::= "a" {2} "b"{ 1, }',
]
BAD = [
    ("", 1, "starts with a rule"),
    ('"a"', 1, "starts with a rule"),
    ('x ::= "a"', 1, "no rule called root"),
    ("root ::= foo", 1, "foo is not defined"),
    ('root ::= "a"\nx ::= y', 2, "y is not defined"),
    ('root ::= ("a"', 1, "without its )"),
    ('root ::= "a")', 1, "without its ("),
    ("root ::= * ", 1, "nothing to repeat"),
    ('root ::= ("a" | +)', 1, "nothing to repeat"),
    ('root ::= "a', 1, "is not understood"),
    ("root ::= [a-z", 1, "is not understood"),
    ('root ::= "\\q"', 1, "unknown escape"),
    ('root ::= "a"\n"b" ::= "c"', 2, "must follow the name"),
    ("%llguidance {}", 1, "is not understood"),
    ('root ::= "a"{99999999}', 1, "is not understood"),
]


@pytest.mark.parametrize("grammar", GOOD)
def test_a_grammar_that_llama_takes_is_accepted(grammar: str):
    gbnf.check(grammar)


@pytest.mark.parametrize(("grammar", "line", "why"), BAD)
def test_a_malformed_grammar_is_refused_and_the_line_named(grammar: str, line: int, why: str):
    with pytest.raises(InvalidArgument) as caught:
        gbnf.check(grammar)
    assert why in caught.value.message
    assert caught.value.details["line"] == line


def test_a_grammar_without_end_is_refused_unread():
    with pytest.raises(InvalidArgument, match="at most"):
        gbnf.check('root ::= "' + "a" * gbnf.MAX_CHARACTERS + '"')
