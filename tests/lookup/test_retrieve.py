"""Retrieval inside the sandbox: what it finds, where, and how it reads a context."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from terraphim_rlm.engine.lookup import analyse, program
from terraphim_rlm.guest import retrieve, views

TEXT = (
    b"The harbour was rebuilt.\r\n\r\nThe pilot of Stennick keeps\r\nnine parrots in his cabin. He is deaf.\n\n"
    b"- The first item\n- The second item\n\nSee e.g. Dr. Who for more. Version 3.11 is out.\n"
)


def find(question: str, context: Any, limit: int = 4) -> list[dict[str, Any]]:
    return retrieve.search(context, analyse(question).to_guest(limit))["passages"]


@pytest.mark.parametrize(
    "words",
    [
        "discover discovers discovered",
        "retire retired retires retiring retirement",
        "stop stopped stops stopping",
        "carry carried carries carrying",
        "ferry ferries",
        "paint painted painter painters painting",
        "house houses housed",
        "travel travelled traveller travelling",
    ],
)
def test_the_inflections_of_a_word_share_one_stem(words: str) -> None:
    assert len({retrieve.stem(word) for word in words.split()}) == 1


@pytest.mark.parametrize(
    "word", ["running", "classes", "Timeouts", "bus", "agreed", "sses", "eee", "yyyy", "12345", "x_y"]
)
def test_a_word_always_begins_with_its_stem(word: str) -> None:
    assert word.lower().startswith(retrieve.stem(word))


def test_a_sentence_is_found_at_its_exact_bytes_and_line() -> None:
    best = find("How many parrots does the pilot of Stennick keep?", {"a.txt": b"nothing\n", "b.txt": TEXT})[
        0
    ]
    assert best["path"] == "b.txt"
    assert TEXT[best["start"] : best["end"]] == b"The pilot of Stennick keeps\r\nnine parrots in his cabin."
    assert best["line"] == 3


def test_wrapped_lines_are_one_sentence_and_items_of_a_list_are_several() -> None:
    units = [TEXT[start:end] for start, end in retrieve.sentences(TEXT)]
    assert b"He is deaf." in units
    assert b"- The first item" in units
    assert b"See e.g. Dr. Who for more." in units
    assert b"Version 3.11 is out." in units


def test_a_line_that_begins_with_a_year_goes_on_with_the_sentence_before() -> None:
    text = b"The very long railway bridge of Skarholm was painted in\n1788. Then it fell."
    assert next(text[a:b] for a, b in retrieve.sentences(text)).endswith(b"1788.")


def test_a_concept_is_found_across_the_seam_of_two_windows_and_two_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retrieve, "BLOCK", 512)
    for shift in range(0, 600, 37):
        raw = b"x" * shift + b"\n\nThe walrus sings in Ullesby every evening.\n\n" + b"y " * 400
        best = find("When does the walrus of Ullesby sing?", raw)[0]
        assert b"walrus" in raw[best["start"] : best["end"]]


def test_a_word_that_the_input_never_holds_finds_nothing() -> None:
    found = retrieve.search(TEXT, analyse("Where is the zeppelin?", likeness=False).to_guest())
    assert found["passages"] == []


def test_bytes_text_views_folders_and_json_values_are_all_searched() -> None:
    question = "How many parrots does the pilot keep?"
    view = views.text_view(memoryview(TEXT), "v.txt", 0, len(TEXT), True)
    folder = views.Folder(
        memoryview(TEXT + TEXT), [("one", 0, len(TEXT), True), ("two", len(TEXT), 2 * len(TEXT), True)]
    )
    assert find(question, TEXT)[0]["path"] == "input"
    assert find(question, TEXT.decode())[0]["path"] == "input"
    assert find(question, view)[0]["path"] == "v.txt"
    assert {p["path"] for p in find(question, folder)} >= {"one", "two"}
    assert find(question, [{"note": "The pilot keeps nine parrots."}])[0]["path"] == "input.json"


def test_offsets_of_a_json_value_are_those_of_the_host_s_own_json() -> None:
    value = {"notes": ["The pilot of Skårholm keeps nine parrots."]}
    raw = json.dumps(value, allow_nan=False).encode()
    best = find("How many parrots does the pilot keep?", value)[0]
    assert b"nine parrots" in raw[best["start"] : best["end"]]


def test_ten_megabytes_without_a_line_end_are_searched_and_quotes_stay_short() -> None:
    raw = b"lorem ipsum " * 200_000 + b"the pilot keeps nine parrots " + b"dolor sit " * 100_000
    best = find("How many parrots does the pilot keep?", raw)[0]
    assert best["end"] - best["start"] <= 2 * retrieve.UNIT_MAX


def test_the_program_of_a_plan_runs_in_a_cell_and_leaves_json(monkeypatch: pytest.MonkeyPatch) -> None:
    from terraphim_rlm import guest

    monkeypatch.setitem(sys.modules, "guest", guest)
    monkeypatch.setitem(sys.modules, "guest.retrieve", retrieve)
    cell: dict[str, Any] = {"context": TEXT}
    exec(program(analyse('How many "parrots" does the pilot\'s \\ mate keep?\n')), cell)
    assert json.loads(json.dumps(cell["found"]))["passages"]


def test_the_guest_s_retrieval_imports_only_the_standard_library() -> None:
    tree = ast.parse(Path(retrieve.__file__).read_text())
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names
