"""A graph from a folder of documents."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from terraphim_rlm.core.errors import InputEmpty
from terraphim_rlm.faces.cli.app import run
from terraphim_rlm.guard.kg.build import build
from terraphim_rlm.guard.kg.pages import named, one_and_many, same_as, spelled_out

OWN = Path(__file__).parents[2] / "docs"
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    folder = tmp_path / "handbook"
    (folder / "deep").mkdir(parents=True)
    (folder / "one.md").write_text(
        "---\ntitle: **Front Matter**\n---\n# Background Tasks\n\nA `BackgroundTasks` runs after the **Response Body**.\n\n"
        "```python\n# Not A Heading\n```\n"
    )
    (folder / "deep" / "two.md").write_text(
        "## Example\n\nEvery background task sees the response\nbody, and [**the router**](http://router.example/rare).\n"
    )
    (folder / "three.md").write_text("synonyms:: RB, response content\n\nThe response bodies.\n\n**Rare**")
    (folder / "bad.md").write_bytes(b"# \xff")
    return folder


def test_names_that_several_documents_use_are_concepts_in_all_their_ways_of_writing(documents: Path) -> None:
    built = build(documents)
    thesaurus = built.graph.thesaurus
    names = {each.name: set(thesaurus.synonyms(each)) for each in thesaurus.concepts}
    [tasks] = [terms for name, terms in names.items() if same_as(name) == "background task"]
    assert len(names) == 3
    assert tasks == {"BackgroundTasks", "background tasks", "background task"}
    assert {"RB", "response content", "three"} <= names["three"]
    assert len(built.left_out) == 1
    assert "bad.md is not UTF-8" in built.left_out[0]
    assert built.graph.is_connected(["background task", "response body"])


def test_with_fewer_documents_asked_for_more_names_are_concepts(documents: Path) -> None:
    few, many = build(documents), build(documents, least_documents=1)
    assert len(few.graph.thesaurus.concepts) < len(many.graph.thesaurus.concepts)
    assert many.graph.thesaurus.concept("rare") is not None
    assert many.graph.thesaurus.concept("front matter") is None, "what stands before a page is no text of it"
    assert many.graph.thesaurus.concept("example") is None, "a heading of any documentation names nothing"
    assert len(build(documents, most_concepts=1).graph.thesaurus.concepts) == 1


def test_ways_to_write_one_name() -> None:
    assert {same_as(each) for each in ("Static Files", "static_files", "StaticFile", "static-file")} == {
        "static file"
    }
    assert same_as("class") != same_as("clas")
    assert spelled_out("BackgroundTasks") == "background tasks"
    assert spelled_out("status_code") == "status code"
    assert spelled_out("middleware") is None
    assert one_and_many("static file") == ("static file", "static files")
    assert one_and_many("queries") == ("query", "queries")
    assert one_and_many("HTTP") == ()
    assert list(named("# The Router & `Thing`\n**x**\n# Usage\n`f()` `a b`")) == ["Router & Thing", "Thing"]


def test_a_folder_without_names_or_documents_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputEmpty, match="no Markdown file"):
        build(tmp_path)
    (tmp_path / "a.md").write_text("# Solitary Thing")
    with pytest.raises(InputEmpty, match="occurs in 2 documents"):
        build(tmp_path)


def test_the_documentation_of_this_project_becomes_a_graph_in_which_its_words_hang_together() -> None:
    graph = build(OWN).graph
    assert len(graph.documents) >= 15
    assert len(graph.thesaurus.concepts) >= 80
    assert graph.is_connected(["sandbox", "snapshot", "keeper"])
    assert graph.search("snapshot")[0].rank > 3


def test_the_work_grows_with_the_documents(tmp_path: Path) -> None:
    def seconds(count: int) -> float:
        folder = tmp_path / str(count)
        folder.mkdir()
        for number in range(count):
            page = (
                f"# Topic {'abcdefghij'[number % 10]}lpha\n\n"
                + f"The `thing_{number}` and `thing_{number + 1}`. " * 20
            )
            (folder / f"{number}.md").write_text(page)
        started = time.process_time()
        build(folder)
        return time.process_time() - started

    seconds(10)
    few, many = seconds(50), seconds(400)
    assert many < few * 8 * 4, (few, many)


def test_kg_build_search_connect_and_check_work_on_one_file(
    documents: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(documents.parent)
    assert run(["kg", "build", str(documents), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert (data["path"], data["name"], data["documents"]) == ("handbook.kg.json", "handbook", 3)
    assert run(["kg", "search", "handbook.kg.json", "Background Task"]) == 0
    assert "one.md" in capsys.readouterr().out
    assert run(["kg", "connect", "handbook.kg.json", "RB", "background tasks", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["connected"] is False
    assert run(["kg", "check", "handbook.kg.json", "the response bodies"]) == 0
    assert capsys.readouterr().out.startswith("allow (normal): 100% of its words are known\n")
    assert run(["kg", "check", "handbook.kg.json", "backgroud tsks", "--json"]) == 10
    said = json.loads(capsys.readouterr().out)
    assert said["data"]["decision"] == "block"
    assert said["errors"][0]["code"] == "E503"
    assert (
        run(["kg", "check", "handbook.kg.json", "--file", "handbook/one.md", "--strictness", "permissive"])
        == 0
    )
    capsys.readouterr()
    assert run(["kg", "connect", "handbook.kg.json", "RB", "backgroud"]) == 2
    assert "Did you mean" in capsys.readouterr().err


def test_kg_build_overwrites_an_older_graph_and_nothing_else(documents: Path, capsys: Captured) -> None:
    out = documents.parent / "out.json"
    assert run(["kg", "build", str(documents), "--out", str(out)]) == 0
    assert run(["kg", "build", str(documents), "--out", str(out), "--name", "again"]) == 0
    assert json.loads(out.read_text())["name"] == "again"
    out.write_text("my own notes")
    assert run(["kg", "build", str(documents), "--out", str(out)]) == 2
    assert out.read_text() == "my own notes"
    assert run(["kg", "build", str(documents), "--out", str(out), "--force"]) == 0
    assert json.loads(out.read_text())["name"] == "handbook"
    assert sorted(each.name for each in documents.parent.iterdir()) == ["handbook", "out.json"]
    capsys.readouterr()
    assert run(["kg", "build", str(documents), "--out", str(documents.parent / "none" / "x.json")]) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["kg", "check", "x"],
        ["kg", "check", "x", "a", "--file", "b"],
        ["kg", "search", "x", "y"],
        ["kg", "build", "x", "--least", "0"],
    ],
)
def test_what_cannot_be_is_refused(words: list[str], capsys: Captured) -> None:
    assert run(words) in (2, 4)
    assert "fix:" in capsys.readouterr().err
