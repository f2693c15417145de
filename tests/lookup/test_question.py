"""From a question to a plan."""

from __future__ import annotations

import pytest

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.engine.lookup import analyse
from terraphim_rlm.engine.lookup.question import MAX_CONCEPTS, MAX_QUESTION


def words(question: str) -> list[str]:
    return [concept.word for concept in analyse(question).concepts]


def anchors(question: str) -> set[str]:
    return {concept.word for concept in analyse(question).concepts if concept.anchor}


def test_words_without_a_topic_are_left_out() -> None:
    assert words("When does the night ferry leave?") == ["night", "ferr", "leav"]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What did Orla Venn buy?", {"orla", "ven"}),
        ("What does read_text return?", {"read_text"}),
        ("What changed in 3.11?", {"3", "11"}),
        ("What does os.walk yield?", {"os", "walk"}),
        ("How does HTTPServer bind?", {"httpserv"}),
        ("What is a lighthouse?", set()),
    ],
)
def test_names_numbers_and_identifiers_are_anchors(question: str, expected: set[str]) -> None:
    assert expected <= anchors(question)
    assert bool(anchors(question)) == bool(expected)


def test_nothing_but_the_word_itself_stands_for_an_anchor() -> None:
    (concept,) = [c for c in analyse("Who is the captain of the Boat?").concepts if c.anchor]
    assert concept.forms == (("boat", 1.0),)


def test_inflections_weigh_as_much_as_the_word_and_words_of_like_meaning_less() -> None:
    forms = dict(analyse("Who bought it?").concepts[0].forms)
    assert forms["buy"] == forms["bought"] == 1.0
    assert 0 < forms["purchas"] < 1


@pytest.mark.parametrize(
    ("question", "want"),
    [
        ("How many parrots are there?", "number"),
        ("When does the ferry leave?", "time"),
        ("In which year was it closed?", "time"),
        ("Who painted the chapel?", "name"),
        ("Where is the grave?", "place"),
        ("What colour is the flag?", "any"),
    ],
)
def test_a_question_says_what_kind_of_answer_it_wants(question: str, want: str) -> None:
    assert analyse(question).want == want


@pytest.mark.parametrize("question", ["", "   ", "what is it?", "parrot " * MAX_QUESTION])
def test_a_question_without_content_or_measure_is_refused(question: str) -> None:
    with pytest.raises(InvalidArgument):
        analyse(question)


def test_the_number_of_concepts_is_bounded() -> None:
    assert len(analyse(" ".join(f"word{i}" for i in range(99))).concepts) == MAX_CONCEPTS
