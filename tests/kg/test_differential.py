"""Our matches against those of `terraphim-automata`: each difference has a reason that is ours to choose."""

from __future__ import annotations

import random
import sys
from collections import Counter

import pytest

from terraphim_rlm.guard.kg.thesaurus import Thesaurus, Writer
from terraphim_rlm.testing.bench import knowledge, terraphim

pytestmark = pytest.mark.skipif(
    not terraphim.is_here(), reason="terraphim-automata is not installed: scripts/setup --dev has it"
)


def counted(thesaurus: Thesaurus, texts: list[str]) -> Counter[str]:
    told = terraphim.worked(sys.executable, thesaurus, texts)
    assert len(told["matches"]) == len(texts)
    found: Counter[str] = Counter()
    for text, theirs in zip(texts, told["matches"], strict=True):
        found += terraphim.differences(thesaurus, text, theirs)
        found["both"] += len(theirs)
    return found


def thesaurus(*terms: str) -> Thesaurus:
    writer = Writer("t")
    for term in terms:
        writer.add(term, writer.concept(term))
    return writer.thesaurus()


def test_known_differences_are_found_and_named() -> None:
    texts = ["format a function", "the rm -rf", "él rm ÉL", "knowledge  graph", "knowledge graph", "rm RM nc"]
    found = counted(thesaurus("rm", "rm -r", "nc", "él", "knowledge graph"), texts)
    assert found["unexplained"] == 0
    assert found["inside a word"] == 3, "rm in format, nc in function, rm -r in rm -rf"
    assert found["beside one inside a word"] == 1, "rm, where theirs is rm -r"
    assert found["with other white space"] == 1
    assert found["with case beyond ASCII"] == 1


def test_on_real_code_and_prose_every_difference_is_one_of_word_boundaries_white_space_or_case() -> None:
    found = counted(knowledge.made(5_000), [knowledge.python_text(20_000), knowledge.prose_text(20_000)])
    assert found["both"] > 500
    assert found["unexplained"] == 0, found


def test_on_seeded_texts_of_few_letters_every_difference_has_a_reason() -> None:
    draw = random.Random(3)
    pieces = ["ab", "a", "b", "abc", " ", " ", "-", "c", "\n"]

    def drawn(count: int) -> str:
        return "".join(draw.choice(pieces) for _ in range(count))

    terms = {term for term in (drawn(draw.randint(1, 4)).strip() for _ in range(200)) if len(term) > 1}
    terms = {" ".join(term.split()) for term in terms if any(sign.isalnum() for sign in term)}
    found = counted(thesaurus(*sorted(terms)), [drawn(200) for _ in range(50)])
    assert found["both"] > 500
    assert found["unexplained"] == 0, found
