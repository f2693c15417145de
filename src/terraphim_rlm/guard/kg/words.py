"""What of a piece of code is language: the words that its author chose to say something with.

In programs these are the words of strings and comments; names, keywords and calls are the programming language's and not
the domain's. In a shell command all words count but options. Found by regular expressions that read each character once;
nothing is parsed, so that hostile text cannot take long.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_BLANK = "\x01"
"""In place of what is not looked at: neither a letter nor white space, so that no term reaches across it."""
_STRING = r"\"(?:[^\"\\\n]|\\.)*\"?|'(?:[^'\\\n]|\\.)*'?"
_PYTHON = re.compile(
    rf'"""(?:[^\\]|\\.)*?(?:"""|\Z)|\'\'\'(?:[^\\]|\\.)*?(?:\'\'\'|\Z)|{_STRING}|\#[^\n]*', re.DOTALL
)
_BRACES = re.compile(
    r"\"(?:[^\"\\]|\\.)*\"?|'(?:[^'\\\n]|\\.)'|`(?:[^`\\]|\\.)*`?|//[^\n]*|/\*.*?(?:\*/|\Z)", re.DOTALL
)
_JAVASCRIPT = re.compile(rf"{_STRING}|`(?:[^`\\]|\\.)*`?|//[^\n]*|/\*.*?(?:\*/|\Z)", re.DOTALL)
_SAID = {"python": _PYTHON, "javascript": _JAVASCRIPT, "rust": _BRACES, "go": _BRACES}
_ESCAPES = re.compile(r"\\(?:x[0-9a-fA-F]{1,2}|u[0-9a-fA-F]{1,4}|.)|\{[^{}\n]{0,200}\}", re.DOTALL)
"""Of a string: what its escapes name, and the places that a value is put into."""
_OPTIONS = re.compile(r"(?<![\w-])--?\w[\w-]*|\$\{?\w+\}?")
"""Of a shell command: options, and variables."""
_WORD = re.compile(r"[^\W_](?:[\w-]*\w)?")
_LEAST = 3
"""Characters of a word that counts."""

FUNCTION_WORDS = frozenset({
    "about", "above", "after", "again", "all", "also", "and", "any", "are", "because", "been", "before",
    "being", "below", "between", "both", "but", "can", "cannot", "could", "did", "does", "doing",
    "done", "down", "during", "each", "either", "else", "every", "few", "for", "from", "further", "had",
    "has", "have", "having", "her", "here", "hers", "him", "his", "how", "into", "its", "itself",
    "just", "less", "like", "many", "may", "might", "more", "most", "much", "must", "neither", "nor",
    "not", "now", "off", "once", "one", "only", "other", "our", "ours", "out", "over", "own", "per",
    "same", "shall", "she", "should", "since", "some", "such", "than", "that", "the", "their", "theirs",
    "them", "then", "there", "these", "they", "this", "those", "through", "too", "two", "under",
    "until", "upon", "use", "used", "using", "very", "was", "way", "were", "what", "when", "where",
    "whether", "which", "while", "who", "whom", "whose", "why", "will", "with", "within", "without",
    "would", "yes", "yet", "you", "your", "yours"
})  # fmt: skip
"""English words that say nothing of a subject."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word that counts; `start` and `end` count characters of the code."""

    text: str
    start: int
    end: int


def said(code: str, language: str) -> str:
    """The code with everything blanked out that is no language, character by character, so that places stay."""
    if language in ("bash", "sh"):
        return _OPTIONS.sub(_blanked, code)
    expression = _SAID.get(language)
    if expression is None:
        return code
    parts: list[str] = []
    done = 0
    for match in expression.finditer(code):
        parts.append(_BLANK * (match.start() - done))
        parts.append(_ESCAPES.sub(_blanked, match.group()))
        done = match.end()
    parts.append(_BLANK * (len(code) - done))
    return "".join(parts)


def words(text: str) -> Iterator[Word]:
    """The words of what `said` left that say something of a subject."""
    for match in _WORD.finditer(text):
        word = match.group()
        if len(word) >= _LEAST and not word[0].isdigit() and word.casefold() not in FUNCTION_WORDS:
            yield Word(word, *match.span())


def _blanked(match: re.Match[str]) -> str:
    return _BLANK * len(match.group())
