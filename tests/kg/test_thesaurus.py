"""Thesauri from files that anybody may have written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from terraphim_rlm.core.errors import InputEmpty, InputUnreadable, PathNotFound, RlmError
from terraphim_rlm.guard.kg.reading import from_json, pages, read_thesaurus

HERE = Path("thesaurus.json")


def written(data: object, folder: Path, name: str = "t.json") -> Path:
    path = folder / name
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return path


def term(id: int, nterm: str, url: str | None = None) -> dict[str, object]:
    return {"id": id, "nterm": nterm, "url": url}


def test_a_thesaurus_of_terraphim_is_read_with_its_ids_and_addresses(tmp_path: Path) -> None:
    data = {
        "npm": term(1, "bun", "https://bun.example"),
        "yarn": term(1, "bun"),
        "Knowledge  Graph": term(2, "kg"),
    }
    made = read_thesaurus(written({"name": "Tools", "data": data}, tmp_path))
    assert made.name == "Tools"
    assert [
        (found.concept.id, found.concept.name, found.start) for found in made.find("use NPM or yarn")
    ] == [
        (1, "bun", 4),
        (1, "bun", 11),
    ]
    bun = made.concept("YARN")
    assert bun is not None
    assert bun.url == "https://bun.example"
    assert made.synonyms(bun) == ("npm", "yarn")
    assert made.concept("knowledge graph") is not None
    assert from_json(json.dumps(made.to_json()).encode(), HERE).to_json() == made.to_json()


def test_each_oddity_is_left_out_by_itself_and_told() -> None:
    text = """{"name": "x", "data": {
        "good": {"id": 1, "nterm": "one"}, "good": {"id": 2, "nterm": "two"}, "GOOD ": {"id": 2, "nterm": "two"},
        "a": {"id": 3, "nterm": "short"}, "--": {"id": 3, "nterm": "signs"}, "nul\\u0000l": {"id": 3, "nterm": "nul"},
        "none": {"id": 4}, "listed": [1], "no id": {"id": "7", "nterm": "seven"}, "twice": {"id": 1, "nterm": "other"},
        "link": {"id": 9, "nterm": "nine", "url": 5}, "lone\\ud800": {"id": 10, "nterm": "ten"}
    }}"""
    made = from_json(text.encode(), HERE)
    assert list(made.terms) == ["good", "no id", "twice", "link"]
    assert made.terms["good"].id == 1
    assert len({concept.id for concept in made.concepts}) == 4
    said = "\n".join(made.oddities)
    for part in ("'good' means 'one' already", "fewer than 2", "neither letters", "control characters", "no nterm",
                 "no id", "belongs to another", "The url of 'link'"):  # fmt: skip
        assert part in said


def test_many_oddities_are_counted_and_not_all_told() -> None:
    data = {f"{number:03}": term(number, "") for number in range(100)} | {"fine": term(1, "fine")}
    made = from_json(json.dumps({"name": "x", "data": data}).encode(), HERE)
    assert len(made.oddities) == 21
    assert made.oddities[-1] == "And 80 more like these."


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is not JSON"),
        (b"[1]", "no object"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"data": ' * 20_000, "is not JSON"),
        (b'{"name": "x"}', 'no object "data"'),
        (b'{"data": []}', 'no object "data"'),
        (b"\xff\xfe{", "is not UTF-8"),
        (b'{"data": {"x": 1}}', "holds no usable term"),
        (b'{"data": {"term": {"id": ' + b"9" * 5_000 + b', "nterm": "x"}}}', "is not JSON"),
    ],
)
def test_what_is_no_thesaurus_is_refused_with_the_reason(data: bytes, said: str) -> None:
    with pytest.raises((InputUnreadable, InputEmpty), match=said):
        from_json(data, HERE)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
entries = st.dictionaries(
    st.text(max_size=12),
    st.fixed_dictionaries({}, optional={"id": json_values, "nterm": json_values, "url": json_values})
    | json_values,
    max_size=6,
)


@settings(database=None, deadline=None)
@given(
    st.binary(max_size=60) | st.builds(lambda data: json.dumps({"name": "x", "data": data}).encode(), entries)
)
def test_whatever_is_read_gives_usable_terms_or_an_error_of_ours(data: bytes) -> None:
    try:
        made = from_json(data, HERE)
    except RlmError:
        return
    assert len({concept.id for concept in made.concepts}) == len(made.concepts)
    for written_term, concept in made.terms.items():
        assert made.concept(written_term) is concept
        assert [found.concept for found in made.find(written_term)][:1] == [concept]


def test_markdown_files_with_synonyms_are_concepts_called_like_the_file(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "package_manager.md").write_bytes(
        "\ufeff# Package manager\r\n\r\nsynonyms:: bun, npm install ,, yarn\r\n\r\n```\nsynonyms:: not this\n```\r\n".encode()
    )
    (tmp_path / "plain.md").write_text("no terms here")
    (tmp_path / "bad.md").write_bytes(b"synonyms:: \xff\xfe")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "x.md").write_text("synonyms:: hidden")
    made = read_thesaurus(tmp_path)
    assert list(made.terms) == ["package manager", "bun", "npm install", "yarn"]
    assert made.concepts[0].url == "deep/package_manager.md"
    assert any("is not UTF-8" in said for said in made.oddities)


def test_links_pipes_and_missing_files_are_not_waited_for_or_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.md"
    secret.write_text("synonyms:: secret")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link.md").symlink_to(secret)
    os.mkfifo(folder / "pipe.md")
    assert list(pages(folder)) == []
    with pytest.raises(InputEmpty, match="synonyms::"):
        read_thesaurus(folder)
    with pytest.raises(InputUnreadable, match="no regular file"):
        read_thesaurus(folder / "pipe.md")
    with pytest.raises(PathNotFound):
        read_thesaurus(tmp_path / "none.json")


@settings(database=None, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["synonyms:: ", "a b, c", "```", "~~~", "---", "\n", "\r", "é", "# H", "\x00", "\u2028"]
        ),
        max_size=20,
    )
)
def test_any_page_is_read_without_a_failure_of_ours(parts: list[str]) -> None:
    from terraphim_rlm.guard.kg.pages import named, prose, synonyms

    text = "".join(parts)
    assert all(each == each.strip() and each for each in synonyms(text))
    assert all(named(text))
    assert "```" not in prose(text).splitlines()
