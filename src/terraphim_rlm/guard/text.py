"""Text that a model will read: role prompts, questions. Says what hides in it, and never changes a letter of it.

What is looked for: characters that turn, hide or imitate others; tokens of chat formats; and instructions to leave the
instructions, in plain words or behind look-alike letters, spacing, numbers for letters, and encodings.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator

from terraphim_rlm.core.values import Finding, Verdict
from terraphim_rlm.guard import text_views
from terraphim_rlm.guard.text_views import View

MOST_CHARACTERS = 200_000
"""Of a text that are looked at; the rest is told to be unread."""
_MOST_OF_ONE = 20
"""Findings of one kind."""
_LAYERS = 3
"""Encodings within encodings."""
_CHARACTERS: tuple[tuple[str, str, re.Pattern[str], str], ...] = (
    ("text.direction", "high", re.compile("[\u202a-\u202e\u2066-\u2069]"), "A character turns the direction of what follows."),
    ("text.invisible", "medium", re.compile("[\u00ad\u180e\u200b\u2060-\u2064\ufeff]|[\U000e0000-\U000e007f]+|(?<![\U0001f000-\U0001faff\u2600-\u27bf\ufe0f\u0900-\u0dff\u0600-\u06ff])[\u200c\u200d]|[\u200e\u200f]"), "A character that nobody sees."),
    ("text.control", "medium", re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]"), "A control character."),
    ("text.surrogate", "medium", re.compile("[\ud800-\udfff]"), "Half of a character, which no text has."),
    ("text.combining", "medium", re.compile("(?:[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]){4,}"), "A heap of marks on one letter."),
    ("text.lookalike", "medium", re.compile("\\b\\w*(?:[A-Za-z][\u0400-\u04ff]|[\u0400-\u04ff][A-Za-z]|[A-Za-z]{2}[\u0370-\u03ff][A-Za-z]|[A-Za-z][\u0370-\u03ff][A-Za-z]{2})\\w*\\b"), "A word mixes letters of two alphabets that look alike."),
    ("text.chat-token", "high", re.compile(r"<\|[a-z_]{2,30}\|>|\[/?INST\]|<</?SYS>>|</?s>(?=\s*\[)|<(?:start|end)_of_turn>|<\uff5c[^\uff5c]{1,40}\uff5c>|^\s*#{2,}\s*(?:system|assistant)\s*:", re.IGNORECASE | re.MULTILINE), "A token by which chat formats begin or end a message."),
)  # fmt: skip
_VERBS = r"(?:ignore|disregard|forget|override|bypass|neglect|discard|skip|drop)"
_OBJECTS = r"(?:instructions?|prompts?|rules?|messages?|directions?|guidelines?|commands?|orders|context|training|restrictions)"
_BEFORE = r"(?:previous|prior|above|earlier|preceding|former|existing|initial|system|original|current|safety)"
_FILLERS = r"(?:(?:all|any|the|your|of|my|these|those|everything|and|every|each|that|was|were)\s+){0,5}"
_INSTRUCTIONS = re.compile(
    rf"\b{_VERBS}\s+{_FILLERS}(?:{_BEFORE}\s+{_FILLERS}(?:{_BEFORE}\s+)?{_OBJECTS}|{_OBJECTS}\s+(?:above|before|given)|{_BEFORE}\b(?=\s+(?:and|then)\b))"
    r"|\byou\s+are\s+now\s+(?:(?:in|a|an|the|my)\s+)?(?:dan\b|developer\s+mode|unrestricted|jailbroken|free\s+(?:of|from)|not\s+bound)"
    rf"|\b(?:reveal|print|show|repeat|output|leak|tell\s+me)\s+{_FILLERS}(?:system|hidden|initial|secret)\s+(?:prompts?|instructions?|messages?)"
    rf"|\b(?:new|updated|real)\s+(?:system\s+)?instructions?\s*:|\bsystem\s*(?:prompt|override|message)\s*:|\bact\s+as\s+(?:if\s+)?(?:you\s+have\s+no|an?\s+unrestricted)"
    r"|\bignore[zr]?\s+(?:toutes\s+)?les\s+(?:instructions|consignes)\s+pr[eé]c[eé]dentes|\bignor[ae]\s+(?:todas\s+)?las\s+instrucciones\s+(?:anteriores|previas)"
    r"|\bignorier\w*\s+(?:bitte\s+)?(?:alle\s+)?(?:die\s+)?(?:vorherigen|bisherigen|vorigen)\s+(?:anweisungen|instruktionen)|\bignora\s+(?:tutte\s+)?le\s+istruzioni\s+precedenti"
    r"|\bignore\s+(?:todas\s+)?as\s+instru[cç][oõ]es\s+anteriores|игнорируй\w*\s+(?:все\s+)?предыдущие\s+(?:инструкции|указания)|忽略(?:之前|以上|先前|前面)的?(?:所有)?(?:指令|指示|提示|说明)|以前の指示を(?:すべて)?無視|이전\s*(?:의\s*)?지시(?:를|사항을)?\s*무시"
)  # fmt: skip
"""Instructions to leave the instructions, in a text of small letters whose marks and look-alikes are plain."""
_SQUEEZED = re.compile(
    rf"{_VERBS}(?:all|any|the|your|of|my|these)*{_BEFORE}(?:and)?{_BEFORE}?{_OBJECTS}|reveal(?:the|your)*(?:system|hidden)prompt"
)


def judge_text(text: str) -> Verdict:
    """What hides in `text`. The verdict never alters it; whoever shows it to a model decides.

    Returns:
        `block` where something is hidden or imitates a chat format, `warn` where it is only odd, else `allow`.
    """
    looked, findings = text[:MOST_CHARACTERS], []
    for rule, severity, pattern, message in _CHARACTERS:
        for count, found in enumerate(pattern.finditer(looked)):
            if count == _MOST_OF_ONE:
                break
            findings.append(Finding(rule, severity, *found.span(), message, "Take it out."))  # type: ignore[arg-type]
    findings += _instructions(looked)
    if len(text) > MOST_CHARACTERS:
        findings.append(
            Finding("text.unread", "medium", MOST_CHARACTERS, len(text), "The rest was not looked at.")
        )
    severities = {finding.severity for finding in findings}
    decision = "block" if "high" in severities else "warn" if "medium" in severities else "allow"
    return Verdict(decision, tuple(sorted(findings, key=lambda each: each.start)[:100]))  # type: ignore[arg-type]


def _instructions(text: str) -> list[Finding]:
    """Instructions to leave the instructions, in every view of the text; each place once, the plainest view first."""
    found: dict[tuple[int, int], Finding] = {}
    for how, view in _views(text):
        pattern = _SQUEEZED if how == "spaced" else _INSTRUCTIONS
        for count, match in enumerate(pattern.finditer(view.text)):
            if count == _MOST_OF_ONE:
                break
            place = view.place(*match.span())
            if not any(low < place[1] and place[0] < high for low, high in found):
                found[place] = _finding(how, place)
    return list(found.values())


def _finding(how: str, place: tuple[int, int]) -> Finding:
    if how == "plain":
        return Finding(
            "text.instruction",
            "medium",
            *place,
            "It tells the model to leave its instructions.",
            "Say what you want instead.",
        )
    message = f"It tells the model to leave its instructions, and hides that ({how})."
    return Finding("text.hidden-instruction", "high", *place, message, "Take it out.")


def _views(text: str) -> Iterator[tuple[str, View]]:
    """The text as it reads, by how it was hidden."""
    whole = View.of(text)
    plain = whole.map(str.lower)
    yield "plain", plain
    shown = _readable(whole)
    if shown.text != plain.text:
        yield "letters", shown
    if text_views.is_spaced(shown.text):
        yield "spaced", shown.keep(lambda letter: not letter.isspace() and letter not in "-_.*|/")
    if text_views.HAS_DIGITS.search(shown.text):
        yield "numbers for letters", shown.map(lambda letter: text_views.LEET.get(letter, letter))
    layer = [whole]
    for _ in range(_LAYERS):
        layer = [inner for each in layer for _, decode in _DECODERS for inner in decode(each)]
        for each in layer[:50]:
            yield "encoded", _readable(each)
        layer = layer[:50]


def _readable(view: View) -> View:
    """Small letters, without marks and characters that nobody sees, and with look-alikes made plain."""
    return view.expand(lambda letter: unicodedata.normalize("NFKD", letter)).keep(_is_seen).map(_plain)


def _is_seen(letter: str) -> bool:
    return unicodedata.category(letter) not in ("Mn", "Cf", "Me", "Cs")


def _plain(letter: str) -> str:
    small = letter.lower()
    return text_views.LOOKALIKES.get(small, small[:1] or letter)


_DECODERS: tuple[tuple[str, Callable[[View], list[View]]], ...] = (
    ("url", text_views.unquoted),
    ("html", text_views.unescaped),
    ("escape", text_views.without_escapes),
    ("base64", text_views.from_base64),
    ("hex", text_views.from_hex),
    ("rot13", text_views.rotated),
)
