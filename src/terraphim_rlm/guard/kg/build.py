"""A knowledge graph from a folder of Markdown documents: what they set apart are the terms, what they name together is joined.

Three passes over the files, each linear in their size; none is held in memory longer than it takes to read it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from terraphim_rlm.core.errors import InputEmpty, InputUnreadable
from terraphim_rlm.guard.kg.graph import RoleGraph
from terraphim_rlm.guard.kg.matcher import Matcher, key
from terraphim_rlm.guard.kg.pages import named, one_and_many, prose, same_as, spelled_out, synonyms
from terraphim_rlm.guard.kg.reading import MOST_PAGE, as_text, pages, read_bytes
from terraphim_rlm.guard.kg.thesaurus import MOST_TERM, Writer, unusable

MOST_CONCEPTS = 20_000
OnStep = Callable[[str, int, int], None]
"""(phase, documents done, of how many)."""


@dataclass(frozen=True, slots=True)
class Built:
    """What became of a folder."""

    graph: RoleGraph
    left_out: tuple[str, ...]
    """Documents that could not be read, and why."""


@dataclass
class _Name:
    """The ways in which one name is written, with how often."""

    forms: Counter[str] = field(default_factory=Counter)
    page: str = ""
    """The first document that sets it apart."""
    documents: int = 0
    title: str = ""
    """Of the page whose `synonyms::` line gives it: it counts however seldom it occurs."""


def build(
    folder: Path,
    *,
    name: str | None = None,
    least_documents: int = 2,
    most_concepts: int = MOST_CONCEPTS,
    on_step: OnStep = lambda *_: None,
) -> Built:
    """Builds one.

    Args:
        name: of the thesaurus; the folder's when None.
        least_documents: in which a name must occur to be a concept, those of `synonyms::` lines excepted.
        most_concepts: those that occur in most documents are kept.

    Raises:
        PathNotFound, InputUnreadable, InputEmpty: the folder holds no documents to build from.
    """
    paths = dict(pages(folder))
    if not paths:
        raise InputEmpty(f"There is no Markdown file (.md, .markdown) below {folder}.", path=str(folder))
    documents = _Documents(paths, on_step)
    names = _names(documents)
    _count(names, documents)
    kept = sorted(
        (each for each in names.values() if each.title or each.documents >= least_documents),
        key=lambda each: (not each.title, -each.documents, -each.forms.total(), min(each.forms)),
    )[:most_concepts]
    if not kept:
        raise InputEmpty(
            f"No heading, bold text or name in code below {folder} occurs in {least_documents} documents.",
            fix="Name a larger folder, or let fewer do: --least 1.",
            path=str(folder),
        )
    writer = Writer((name or folder.resolve().name)[:MOST_TERM])
    for each in kept:
        concept = writer.concept(each.title or each.forms.most_common(1)[0][0], url=each.page)
        writer.add_all(each.forms, concept)
    graph = RoleGraph(writer.thesaurus())
    for page, text in documents.read("joining"):
        graph.add(page, prose(text))
    return Built(graph, tuple(documents.left_out))


class _Documents:
    """The texts of a folder, as often as they are asked for."""

    def __init__(self, paths: dict[str, Path], on_step: OnStep) -> None:
        self._paths = paths
        self._on_step = on_step
        self.left_out: list[str] = []

    def read(self, phase: str) -> Iterator[tuple[str, str]]:
        """(name, text) of each that can be read; what cannot be is left out from then on."""
        for done, (name, path) in enumerate(list(self._paths.items())):
            self._on_step(phase, done, len(self._paths))
            try:
                yield name, as_text(read_bytes(path, MOST_PAGE), path)
            except InputUnreadable as error:
                self.left_out.append(error.message)
                del self._paths[name]
        self._on_step(phase, len(self._paths), len(self._paths))


def _names(documents: _Documents) -> dict[str, _Name]:
    """All that the documents set apart, by what its ways of writing have in common."""
    names: dict[str, _Name] = {}
    for page, text in documents.read("reading"):
        for form in named(text):
            same = same_as(form)
            if same and unusable(form) is None:
                _noted(names, same, form, page)
        listed = synonyms(text)
        if listed:
            title = " ".join(Path(page).stem.replace("_", " ").replace("-", " ").split())
            for form in [title, *listed]:
                if unusable(form) is None:
                    _noted(names, same_as(title), form, page).title = title
    return names


def _noted(names: dict[str, _Name], same: str, form: str, page: str) -> _Name:
    """Counts one way to write a name, without its case where that is only a heading's."""
    found = names.setdefault(same, _Name(page=page))
    form = form.lower() if form.istitle() or " " in form else form
    found.forms[form] += 1
    spelled = spelled_out(form)
    for other in (*([spelled] if spelled else []), *one_and_many(spelled or form)):
        found.forms[other] += 0
    return found


def _count(names: dict[str, _Name], documents: _Documents) -> None:
    """Counts the documents in which each name occurs, in any of its ways."""
    for same, each in list(names.items()):
        each.forms = _by_key(each.forms)
        if not each.forms:
            del names[same]
    owners = [each for each in names.values() for _ in each.forms]
    matcher = Matcher(form for each in names.values() for form in each.forms)
    for _, text in documents.read("counting"):
        for owner in {
            id(owner): owner for owner in (owners[hit.index] for hit in matcher.find(prose(text)))
        }.values():
            owner.documents += 1


def _by_key(forms: Counter[str]) -> Counter[str]:
    """The same without those that differ only by case; the most frequent of them stays."""
    kept: dict[str, str] = {}
    merged: Counter[str] = Counter()
    for form, count in sorted(forms.items(), key=lambda each: (-each[1], each[0])):
        merged[kept.setdefault(key(form), form)] += count
    return merged
