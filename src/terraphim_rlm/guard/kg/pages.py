"""What a Markdown page names: its headings, what it sets in bold or as code, and its `synonyms::` lines."""

from __future__ import annotations

import re
from collections.abc import Iterator

from terraphim_rlm.guard.kg.thesaurus import MOST_TERM
from terraphim_rlm.guard.kg.words import FUNCTION_WORDS

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_SYNONYMS = re.compile(r"^[ \t]{0,3}synonyms::(.*)$", re.IGNORECASE)
_HEADING = re.compile(r"^ {0,3}#{1,4}[ \t]+(.+?)[ \t#]*$")
_BOLD = re.compile(r"\*\*([^*\n]{2,80})\*\*")
_CODE = re.compile(r"`([^`\n]{2,60})`")
_LINK = re.compile(r"!?\[([^\[\]\n]*)\]\([^()\n]*\)")
_ADDRESS = re.compile(r"\b[a-z]{2,10}://[^\s<>\"']+")
_MARKUP = re.compile(r"<[^<>\n]*>|\{[^{}\n]*\}|[*`]|^\W*\d+[.)][ \t]+")
_ARTICLE = re.compile(r"(?:an?|the)\s+", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z_@][\w.@/-]*\w")
_WORDS = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)?")
_HUMPS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_MOST_WORDS = 4

GENERIC = frozenset({
    "about", "abstract", "advanced", "appendix", "background", "basics", "changelog", "conclusion",
    "contents", "contributing", "credits", "demo", "description", "details", "example", "examples",
    "faq", "features", "help", "home", "important", "index", "info", "information", "install",
    "installation", "introduction", "license", "links", "more", "next", "note", "notes", "options",
    "other", "overview", "parameters", "prerequisites", "quickstart", "readme", "recap", "reference",
    "references", "requirements", "resources", "result", "results", "returns", "section", "setup",
    "start", "step", "steps", "summary", "syntax", "tip", "tips", "todo", "true", "false", "none",
    "null", "troubleshooting", "tutorial", "usage", "version", "warning"
})  # fmt: skip
"""Headings of any documentation; alone they are no concept."""


def unfenced(text: str) -> Iterator[str]:
    """The lines that are not within fenced code blocks, nor in what stands before a page between `---` lines."""
    fence = ""
    lines = iter(text.splitlines())
    for number, line in enumerate(lines):
        if number == 0 and line.strip() == "---":
            fence = "---"
            continue
        if fence == "---":
            fence = "" if line.strip() == "---" else fence
            continue
        match = _FENCE.match(line)
        if match is not None:
            if not fence:
                fence = match.group(1)
            elif match.group(1).startswith(fence):
                fence = ""
        elif not fence:
            yield line


def prose(text: str) -> str:
    """What a page says in sentences: neither code blocks nor the targets of links."""
    return _ADDRESS.sub(" ", _LINK.sub(r"\1", "\n".join(unfenced(text))))


def synonyms(text: str) -> list[str]:
    """What the page's `synonyms::` lines list."""
    found: list[str] = []
    for line in unfenced(text):
        if (match := _SYNONYMS.match(line)) is not None:
            found.extend(part for part in map(str.strip, match.group(1).split(",")) if part)
    return found


def named(text: str) -> Iterator[str]:
    """The names that a page sets apart, as they are written there, each as often as it does."""
    for line in unfenced(text):
        heading = _HEADING.match(line)
        if heading is not None:
            yield from _phrase(heading.group(1))
        for match in _BOLD.finditer(line):
            yield from _phrase(match.group(1))
        for match in _CODE.finditer(line):
            name = match.group(1).removesuffix("()")
            if _NAME.fullmatch(name) and not _is_empty(name):
                yield name


def _phrase(text: str) -> Iterator[str]:
    """A heading or a bold text, if it is short enough to name something."""
    plain = _MARKUP.sub(" ", _LINK.sub(r"\1", text))
    for part in re.split(r"[:,;!?()/\"\u2013\u2014]|\s-\s|\sand\s|\sor\s", plain):
        phrase = " ".join(part.split()).strip(" .'*_-")
        phrase = phrase[match.end() :] if (match := _ARTICLE.match(phrase)) else phrase
        if 0 < len(phrase) <= MOST_TERM and len(phrase.split()) <= _MOST_WORDS and not _is_empty(phrase):
            yield phrase


def _is_empty(name: str) -> bool:
    """Whether it names nothing in particular."""
    said = [word.casefold() for word in _WORDS.findall(name)]
    return not any(
        len(word) > 2 and not word.isdigit() and word not in FUNCTION_WORDS and word not in GENERIC
        for word in said
    )


def same_as(name: str) -> str:
    """What the ways to write one name have in common: spaces, hyphens, humps and a plural s do not tell apart."""
    said = [word.casefold() for word in _WORDS.findall(_HUMPS.sub(" ", name))]
    if said and said[-1].isalpha() and len(said[-1]) > 3:
        said[-1] = _singular(said[-1])
    return " ".join(said)


def spelled_out(name: str) -> str | None:
    """An identifier of several words (`BackgroundTasks`, `status_code`) as one would say it; None for other names."""
    if not re.fullmatch(r"[A-Za-z]\w+", name):
        return None
    said = _WORDS.findall(_HUMPS.sub(" ", name))
    return " ".join(said).lower() if len(said) > 1 else None


def one_and_many(phrase: str) -> tuple[str, ...]:
    """A phrase of plain words in the singular and in the plural; nothing for other names."""
    if not re.fullmatch(r"[a-z]+(?: [a-z]+)*", phrase):
        return ()
    one = _singular(phrase) if len(phrase.rsplit(" ", 1)[-1]) > 3 else phrase
    if one.endswith(("s", "x", "ch", "sh")):
        return (one,)
    return one, f"{one[:-1]}ies" if one.endswith("y") and one[-2:-1] not in "aeiou" else f"{one}s"


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) else word
