"""How concepts hang together."""

from __future__ import annotations

import json
import time
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kg_kit import graph, graph_file

from terraphim_rlm.core.errors import InputUnreadable
from terraphim_rlm.guard.kg.graph import RoleGraph
from terraphim_rlm.guard.kg.library import read, written
from terraphim_rlm.guard.kg.thesaurus import Concept, Writer


def concept(made: RoleGraph, term: str) -> Concept:
    found = made.thesaurus.concept(term)
    assert found is not None
    return found


def test_what_follows_one_another_in_a_paragraph_is_joined_and_ranked() -> None:
    made = graph()
    assert made.node(concept(made, "routing")).rank == 3
    assert made.node(concept(made, "background tasks")).documents == 2
    assert [(other.name, count) for other, count in made.related(concept(made, "session"), 9)] == [
        ("middleware", 1),
        ("websocket", 1),
    ]
    assert made.related(concept(made, "routing"), 9) == [(concept(made, "middleware"), 1)]
    assert made.components() == [5, 2]
    assert made.top(1)[0].name == "routing"


def test_terms_are_connected_by_any_of_their_names_and_an_unknown_one_with_nothing() -> None:
    made = graph()
    assert made.is_connected(["BackgroundTasks", "routes", "Web Socket"])
    assert made.is_connected(["lighthouse", "harbor"])
    assert not made.is_connected(["routing", "lighthouse"])
    assert made.is_connected(["routing"])
    assert made.is_connected(["router", "routes"])
    assert not made.is_connected(["routing", "submarine"])
    assert made.is_connected([])


def test_concepts_that_no_document_names_are_connected_with_nothing() -> None:
    writer = Writer("bare")
    for name in ("one thing", "another thing"):
        writer.add(name, writer.concept(name))
    bare = RoleGraph(writer.thesaurus())
    assert not bare.is_connected(["one thing", "another thing"])
    assert bare.components() == []
    assert [each.name for each in bare.top(5)] == ["one thing", "another thing"]


def test_a_path_is_a_shortest_one() -> None:
    made = graph()
    path = made.path(concept(made, "websocket"), concept(made, "routing"))
    assert [each.name for each in path] == ["websocket", "session", "middleware", "routing"]
    assert made.path(concept(made, "websocket"), concept(made, "harbour")) == []
    assert made.path(concept(made, "session"), concept(made, "session")) == [concept(made, "session")]


def test_a_search_ranks_documents_that_name_more_of_its_concepts_first() -> None:
    hits = graph().search("middleware for background tasks")
    assert [(hit.path, hit.concepts) for hit in hits] == [
        ("sockets.md", ("middleware", "background tasks")),
        ("tasks.md", ("middleware", "background tasks")),
    ]
    assert graph().search("nothing known") == []


joins = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=16)


@settings(database=None, deadline=None)
@given(joins)
def test_connectivity_is_what_a_walk_through_the_graph_finds(pairs: list[tuple[int, int]]) -> None:
    writer = Writer("numbers")
    names = [f"term{letter}" for letter in "abcdefghijkl"]
    for name in names:
        writer.add(name, writer.concept(name))
    made = RoleGraph(writer.thesaurus())
    for number, (one, other) in enumerate(pairs):
        made.add(str(number), f"{names[one]} {names[other]}")
    for one, other in combinations(names, 2):
        there = made.path(concept(made, one), concept(made, other))
        assert made.is_connected([one, other]) is bool(there)


def test_a_graph_that_was_written_is_read_as_it_was(tmp_path: Path) -> None:
    made = graph()
    again = read(graph_file(tmp_path)).graph
    assert again.to_json() == made.to_json()
    assert written(again) == written(made)
    assert again.components() == made.components()
    assert again.search("session") == made.search("session")


@pytest.mark.parametrize(
    "broken",
    [
        5,
        {"documents": 5, "edges": []},
        {"documents": [], "edges": [[1, 2, 3]]},
        {"documents": [{"path": "a", "concepts": {"1": 1}}], "edges": [[2, 1, 1]]},
        {"documents": [{"path": "a", "concepts": {"1": 1}}], "edges": [[1, 99, 1]]},
        {"documents": [{"path": "a", "concepts": {"1": -1}}], "edges": []},
        {"documents": [{"path": 5, "concepts": {"1": 1}}], "edges": []},
        {"documents": [{"path": "a", "concepts": {"1e9": 1}}], "edges": []},
        {"documents": [{"concepts": {}}], "edges": [[True, 2, 1]]},
    ],
)
def test_a_graph_that_names_what_is_not_there_is_refused(tmp_path: Path, broken: object) -> None:
    path = tmp_path / "g.json"
    path.write_text(json.dumps({**graph().thesaurus.to_json(), "graph": broken}))
    with pytest.raises(InputUnreadable, match="not as `trlm kg build` writes it"):
        read(path)


def _seconds_to_ask(count: int) -> float:
    """For connectivity of so many terms in a chain of as many."""
    writer = Writer("chain")
    names = [f"x{number}y" for number in range(count)]
    for name in names:
        writer.add(name, writer.concept(name))
    made = RoleGraph(writer.thesaurus())
    made.add("chain", " ".join(names))
    ids = [each.id for each in made.thesaurus.concepts]
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        assert made.are_connected(ids)
        best = min(best, time.process_time() - started)
    return best


def test_asking_for_connectivity_takes_time_linear_in_the_terms() -> None:
    few, many = _seconds_to_ask(2_000), _seconds_to_ask(32_000)
    assert many < few * 16 * 6, (few, many)
