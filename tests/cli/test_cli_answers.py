"""An answer as people and programs get it, and the exit code of one that fell short."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from cli_kit import ANSWER, RUN

from terraphim_rlm.core.values import Answer, Evidence, Termination
from terraphim_rlm.faces.cli import answers


def test_the_answer_comes_first_then_evidence_confidence_and_cost() -> None:
    assert answers.as_text(ANSWER, free=False).splitlines() == [
        "pattern matching",
        '  lib/difflib.py:5  "under the hyperbolic name "gestalt""',
        "verified: the host found the quoted evidence in the input itself",
        "cost $0.0021 · 1,024 tokens (1,000 in, 24 out) · 4 calls · 3.2 s",
    ]


def test_evidence_that_the_host_did_not_find_is_marked() -> None:
    found = replace(ANSWER, evidence=(replace(ANSWER.evidence[0], verified=False),))
    assert "(not found there by the host)" in answers.as_text(found, free=False)


def test_not_found_is_an_answer_and_no_shortfall() -> None:
    answer = Answer(RUN, "not found", confidence="not_found", termination="not_found")
    assert answers.as_text(answer, free=True).splitlines()[0] == "not found"
    assert answers.shortfall(answer) is None


def test_no_escape_sequence_of_a_model_or_a_file_name_reaches_the_terminal() -> None:
    evil = "\x1b]52;c;aGk=\x07\x1b[2Jtext"
    answer = Answer(RUN, evil, evidence=(Evidence(f"{evil}\n/etc/x:1", 0, 1, 1, evil, True),))
    shown = answers.as_text(answer, free=False)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", shown)
    assert len(shown.splitlines()) == 4


def test_only_the_first_twenty_pieces_of_evidence_are_listed() -> None:
    shown = answers.as_text(replace(ANSWER, evidence=ANSWER.evidence * 50), free=False)
    assert shown.count("difflib") == 20
    assert "and 30 more" in shown


@pytest.mark.parametrize(
    ("termination", "exit_code"),
    [
        ("token_budget", 9),
        ("time_budget", 9),
        ("cost_budget", 9),
        ("max_turns", 9),
        ("stalled", 10),
        ("refused", 1),
    ],
)
def test_an_answer_that_fell_short_ends_with_the_code_of_what_cut_it_off(
    termination: Termination, exit_code: int
) -> None:
    error = answers.shortfall(replace(ANSWER, partial=True, termination=termination))
    assert error is not None
    assert error.row.exit_code == exit_code
    assert error.fix


def test_an_unverified_answer_says_whether_it_has_evidence_at_all() -> None:
    unsure = replace(ANSWER, confidence="unverified")
    assert "unverified: the evidence may not answer the question" in answers.as_text(unsure, free=False)
    bare = replace(unsure, evidence=())
    assert "unverified: it rests on no quoted evidence" in answers.as_text(bare, free=False)
