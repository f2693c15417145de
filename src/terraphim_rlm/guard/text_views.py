"""Views of a text: it as decoded or made plain, with the place in the original of each letter."""

from __future__ import annotations

import base64
import binascii
import codecs
import html
import re
import urllib.parse
from collections.abc import Callable, Sequence

HAS_DIGITS = re.compile(r"[a-z][0-9@$!|]|[0-9@$!|][a-z]")
LEET = {
    "0": "o",
    "1": "i",
    "3": "e",
    "4": "a",
    "5": "s",
    "7": "t",
    "@": "a",
    "$": "s",
    "!": "i",
    "|": "l",
    "8": "b",
    "9": "g",
}
LOOKALIKES = dict(
    zip("аеорсухіјѕԁһԛԝкмтвнгпзиοαεινρτυχκωηѵӏ", "aeopcyxijsdhqwkmtbhrn3uoaeivptuxkwnvl", strict=True)
)
"""Letters of other alphabets, and the Latin ones that they pass for."""
_SPACED = re.compile(r"(?:\b\w[\s.\-_*|/]{1,3}){6,}\w\b")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#x[0-9a-fA-F]{1,6}|[A-Za-z]{2,12});")
_PERCENT = re.compile(r"(?:%[0-9a-fA-F]{2})+")
_ESCAPES = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|u\{([0-9a-fA-F]{1,6})\})")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}[\s:]?){10,}")
_MOST_PIECES = 50


class View:
    """A text and, for each of its letters, where in the original that begins and ends."""

    __slots__ = ("ends", "starts", "text")

    def __init__(self, text: str, starts: Sequence[int], ends: Sequence[int]) -> None:
        self.text = text
        self.starts = starts
        self.ends = ends

    @staticmethod
    def of(text: str) -> View:
        """A text as it is."""
        return View(text, range(len(text)), range(1, len(text) + 1))

    def place(self, start: int, end: int) -> tuple[int, int]:
        """Where in the original a piece of the view stands."""
        return self.starts[start], self.ends[end - 1]

    def map(self, change: Callable[[str], str]) -> View:
        """Each letter by another one; what becomes several letters stays as it is."""
        changed = [new if len(new := change(letter)) == 1 else letter for letter in self.text]
        return View("".join(changed), self.starts, self.ends)

    def keep(self, wanted: Callable[[str], bool]) -> View:
        """Only the letters that are wanted."""
        kept = [number for number, letter in enumerate(self.text) if wanted(letter)]
        if len(kept) == len(self.text):
            return self
        return View(
            "".join(self.text[number] for number in kept),
            [self.starts[number] for number in kept],
            [self.ends[number] for number in kept],
        )

    def expand(self, change: Callable[[str], str]) -> View:
        """Each letter by none, one or several."""
        if self.text.isascii():
            return self
        text, starts, ends = [], [], []
        for number, letter in enumerate(self.text):
            for each in change(letter):
                text.append(each)
                starts.append(self.starts[number])
                ends.append(self.ends[number])
        return View("".join(text), starts, ends)

    def replace(self, pattern: re.Pattern[str], change: Callable[[re.Match[str]], str]) -> View | None:
        """Each match by its replacement; None when there is none."""
        pieces: list[View] = []
        done = 0
        for found in pattern.finditer(self.text):
            new = change(found)
            low, high = self.place(*found.span())
            pieces += [self.piece(done, found.start()), View(new, [low] * len(new), [high] * len(new))]
            done = found.end()
        if not pieces:
            return None
        pieces.append(self.piece(done, len(self.text)))
        return View(
            "".join(each.text for each in pieces),
            [place for each in pieces for place in each.starts],
            [place for each in pieces for place in each.ends],
        )

    def piece(self, start: int, end: int) -> View:
        return View(self.text[start:end], self.starts[start:end], self.ends[start:end])


def is_spaced(text: str) -> bool:
    """Whether words are spelled with a gap after each letter."""
    return _SPACED.search(text) is not None


def _listed(view: View | None) -> list[View]:
    return [] if view is None else [view]


def unquoted(view: View) -> list[View]:
    """With `%69` as the letters that they mean."""
    return _listed(view.replace(_PERCENT, lambda found: urllib.parse.unquote(found[0], errors="replace")))


def unescaped(view: View) -> list[View]:
    """With `&#105;` and `&lt;` as the letters that they mean."""
    return _listed(view.replace(_ENTITY, lambda found: html.unescape(found[0])))


def without_escapes(view: View) -> list[View]:
    """With `\\x69` and `\\u0069` as the letters that they mean."""

    def one(found: re.Match[str]) -> str:
        number = int(found[1] or found[2] or found[3], 16)
        return chr(number) if number < 0x110000 else "\ufffd"

    return _listed(view.replace(_ESCAPES, one))


def from_base64(view: View) -> list[View]:
    """Each run of base 64 that is text."""
    return _runs(
        view,
        _BASE64,
        lambda text: base64.b64decode(text.replace("-", "+").replace("_", "/").rstrip("=") + "=="),
    )


def from_hex(view: View) -> list[View]:
    """Each run of hexadecimal digits that is text."""
    return _runs(view, _HEX, lambda text: binascii.unhexlify(re.sub(r"[\s:]", "", text)))


def _runs(view: View, pattern: re.Pattern[str], decode: Callable[[str], bytes]) -> list[View]:
    found = []
    for match in pattern.finditer(view.text):
        try:
            text = decode(match[0]).decode()
        except (ValueError, UnicodeDecodeError):
            continue
        if sum(letter.isprintable() or letter.isspace() for letter in text) == len(text):
            low, high = view.place(*match.span())
            found.append(View(text, [low] * len(text), [high] * len(text)))
        if len(found) == _MOST_PIECES:
            break
    return found


def rotated(view: View) -> list[View]:
    """Letters by those thirteen places on."""
    return (
        [View(codecs.encode(view.text, "rot13"), view.starts, view.ends)]
        if re.search(r"[a-z]", view.text)
        else []
    )
