"""Thesauri from what lies on disk: Terraphim's JSON, or a folder of Markdown files with `synonyms::` lines.

Whatever is in them is hostile: sizes are bounded before anything is parsed, encodings are checked, and each oddity is
left out by itself and told.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from terraphim_rlm.core.errors import InputEmpty, InputUnreadable, PathNotFound
from terraphim_rlm.guard.kg.pages import synonyms
from terraphim_rlm.guard.kg.thesaurus import MOST_TERM, MOST_TERMS, Concept, Thesaurus, Writer

MOST_JSON = 256 << 20
"""Bytes of a thesaurus in JSON; a million terms have about 100 MB."""
MOST_PAGE = 4 << 20
"""Bytes of one Markdown file."""
MOST_PAGES = 50_000
MOST_URL = 2_000


def read_thesaurus(path: Path) -> Thesaurus:
    """From a JSON file, a Markdown file or a folder of them.

    Raises:
        PathNotFound, InputUnreadable, InputEmpty: there is none to be had from it; why.
    """
    if path.is_dir():
        return from_markdown(path)
    data = read_bytes(path, MOST_JSON)
    if path.suffix.lower() in (".md", ".markdown"):
        writer = Writer(path.stem)
        _read_page(writer, path.stem, "", as_text(data, path))
        return _not_empty(writer.thesaurus(), path)
    return from_json(data, path)


def read_bytes(path: Path, most: int) -> bytes:
    """A regular file's bytes.

    Raises:
        PathNotFound, InputUnreadable: it is missing, no file, unreadable or longer than `most`.
    """
    try:
        # A named pipe must not hold us until somebody writes into it.
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InputUnreadable(f"{path} is no regular file.", fix="Name a file.", path=str(path))
            data = file.read(most + 1)
    except FileNotFoundError:
        raise PathNotFound(f"There is no file {path}.", path=str(path)) from None
    except (OSError, ValueError) as error:
        raise InputUnreadable(f"{path} cannot be read: {error}.", path=str(path)) from error
    if len(data) > most:
        raise InputUnreadable(
            f"{path} has more than {most:,} bytes.", fix="Give a smaller file.", path=str(path)
        )
    return data


def as_text(data: bytes, path: Path) -> str:
    """UTF-8, with or without a byte order mark.

    Raises:
        InputUnreadable: it is not.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputUnreadable(
            f"{path} is not UTF-8: byte {error.start} is {data[error.start]:#04x}.",
            fix="Save it as UTF-8.",
            path=str(path),
        ) from None


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with its keys as often as they are written."""


def parsed(data: bytes, path: Path) -> Mapping[str, Any]:
    """A JSON object whose `data` still has each key as often as it was written.

    Raises:
        InputUnreadable: it is none.
    """
    try:
        value = json.loads(as_text(data, path), object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputUnreadable):
            raise
        raise InputUnreadable(f"{path} is not JSON: {error}.", path=str(path)) from None
    if not isinstance(value, _Pairs):
        raise InputUnreadable(f"{path} is JSON, but no object.", fix=_SHAPE, path=str(path))
    return dict(value)


_SHAPE = 'Write it as {"name": "..", "data": {"a term": {"id": 1, "nterm": "its concept", "url": ".."}}}.'


def from_json(data: bytes, path: Path) -> Thesaurus:
    """A thesaurus in Terraphim's shape. Of a term that is written twice, the first counts.

    Raises:
        InputUnreadable, InputEmpty: it is not of that shape, too large, or holds no usable term.
    """
    return from_parsed(parsed(data, path), path)


def from_parsed(table: Mapping[str, Any], path: Path) -> Thesaurus:
    """As `from_json`, what `parsed` gave."""
    terms, name = table.get("data"), table.get("name")
    if not isinstance(terms, _Pairs):
        raise InputUnreadable(f'{path} has no object "data".', fix=_SHAPE, path=str(path))
    if len(terms) > MOST_TERMS:
        raise InputUnreadable(
            f"{path} has {len(terms):,} terms; {MOST_TERMS:,} are the most.", path=str(path)
        )
    writer = Writer(name[:MOST_TERM] if isinstance(name, str) and name.strip() else path.stem)
    for term, about in terms:
        concept = _concept(writer, term, about)
        if concept is not None:
            writer.add(term, concept)
    return _not_empty(writer.thesaurus(), path)


def _concept(writer: Writer, term: str, about: Any) -> Concept | None:
    fields = dict(about) if isinstance(about, _Pairs) else {}
    name, id, url = fields.get("nterm"), fields.get("id"), fields.get("url")
    if not isinstance(name, str) or not 0 < len(name.strip()) <= MOST_TERM or not _is_text(name):
        writer.odd(f"{term[:60]!r} is left out: it has no nterm of 1 to {MOST_TERM} characters.")
        return None
    if type(id) is not int or not 0 <= id < 1 << 64:
        writer.odd(f"{term[:60]!r} has no id that is a whole number; it gets one.")
        id = None
    if url is not None and not (isinstance(url, str) and len(url) <= MOST_URL and _is_text(url)):
        writer.odd(f"The url of {term[:60]!r} is left out: it is no text of at most {MOST_URL:,} characters.")
        url = None
    return writer.concept(name, id, url or "")


def _is_text(value: str) -> bool:
    return value.isprintable()


def _not_empty(thesaurus: Thesaurus, path: Path) -> Thesaurus:
    if not thesaurus.terms:
        why = f" {thesaurus.oddities[0]}" if thesaurus.oddities else ""
        raise InputEmpty(f"{path} holds no usable term.{why}", fix=_SHAPE, path=str(path))
    return thesaurus


def from_markdown(folder: Path) -> Thesaurus:
    """From a folder of Markdown files: each with a `synonyms::` line is a concept, called like the file.

    Raises:
        PathNotFound, InputUnreadable, InputEmpty: no file of it has such a line.
    """
    writer = Writer(folder.resolve().name)
    for name, text in read_pages(folder, writer.odd):
        _read_page(writer, Path(name).stem, name, text)
    made = writer.thesaurus()
    if not made.terms:
        raise InputEmpty(
            f"No Markdown file below {folder} has a line that begins with `synonyms::`.",
            fix="Write one, as in: synonyms:: first term, second term.",
            path=str(folder),
        )
    return made


def read_pages(folder: Path, odd: Callable[[str], None] = lambda _: None) -> Iterator[tuple[str, str]]:
    """(name, text) of each Markdown file of a folder; `odd` is told of those that cannot be read.

    Raises:
        PathNotFound, InputUnreadable: as `pages`.
    """
    for name, path in pages(folder):
        try:
            yield name, as_text(read_bytes(path, MOST_PAGE), path)
        except (InputUnreadable, PathNotFound) as error:
            odd(error.message)


def pages(folder: Path, endings: tuple[str, ...] = (".md", ".markdown")) -> Iterator[tuple[str, Path]]:
    """(name below the folder, path) of each Markdown file, in order. Links and hidden folders are not followed.

    Raises:
        PathNotFound, InputUnreadable: there is no such folder, or it has too many files.
    """
    if not folder.is_dir():
        raise PathNotFound(f"There is no folder {folder}.", path=str(folder))
    count = 0
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(place, name)
            if not name.lower().endswith(endings) or path.is_symlink() or not path.is_file():
                continue
            count += 1
            if count > MOST_PAGES:
                raise InputUnreadable(
                    f"{folder} has more than {MOST_PAGES:,} documents.",
                    fix="Name a smaller folder.",
                    path=str(folder),
                )
            yield path.relative_to(folder).as_posix().encode("utf-8", "replace").decode(), path


def _read_page(writer: Writer, title: str, name: str, text: str) -> None:
    """Takes the `synonyms::` lines of one page, those in fenced blocks excepted."""
    found = synonyms(text)
    concept_name = " ".join(re.sub(r"[_-]+", " ", title).split())[:MOST_TERM]
    if not found or not concept_name or not _is_text(concept_name):
        return
    concept = writer.concept(concept_name, url=name)
    writer.add_all([concept_name, *found], concept)
