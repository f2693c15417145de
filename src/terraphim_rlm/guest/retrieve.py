"""Finds the passages of an input that hold the concepts of a question. Runs inside a sandbox.

Standard library only, no import of the host. Two steps: byte scans at C speed mark the windows of
256 bytes that hold most of the question's concepts (weighted by how rare they are in this input);
then only the best windows are cut into sentences and scored exactly.
"""

from __future__ import annotations

import heapq
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

WINDOW = 256
"""Bytes of a window of the first step; a concept may also lie in the window after."""
BLOCK = 8 << 20
"""Bytes that are lower-cased at once, so that a large file is never copied whole."""
REGION = 700
"""Bytes on either side of a window that are cut into sentences."""
UNIT_MAX = 600
"""Longest sentence in bytes; longer ones are cut at a line's end."""
COMMON = 20_000
"""A concept in more windows than this cannot nominate a window, only add to one."""
WORD = re.compile(rb"[A-Za-z0-9_\x80-\xff]+")

_ENDINGS = (
    ("ingly", "edly", "ings", "ing", "ies", "ied", "ed", "es", "s"),
    ("ement", "ment", "ion", "er", "or", "ly", "e", "y"),
)
"""Cut one after the other, at most one of each row: first the inflection, then what made the word."""
_UNDOUBLE = frozenset("bdgmnpt")


def stem(word: str) -> str:
    """The part of an English word that its inflections share; numbers and identifiers stay as they are.

    Every step only cuts at the end, so a word always begins with its stem: the byte scan needs that.
    """
    word = word.lower()
    if len(word) < 4 or not word.isalpha():
        return word
    for row in _ENDINGS:
        for ending in row:
            if word.endswith(ending) and len(word) - len(ending) >= 3:
                word = word[: -len(ending)]
                break
    if len(word) > 3 and word[-1] == word[-2] and (word[-1] in _UNDOUBLE or len(word) > 5):
        word = word[:-1]
    return word


def stems(text: bytes) -> set[str]:
    """The stems of all words of `text`; an identifier such as `read_text` also gives its parts."""
    found = set()
    for match in WORD.finditer(text):
        word = match.group().decode("utf-8", "replace")
        found.add(stem(word))
        if "_" in word:
            found.update(stem(part) for part in word.split("_") if part)
    return found


_BYTES = (bytes, bytearray, memoryview)


def documents(context: Any) -> Iterator[tuple[str, Any]]:
    """`(path, bytes-like)` of whatever a context can be: a folder, text, bytes, a lazy view or a JSON value."""
    if hasattr(type(context), "spans"):  # a folder: its files lie one after another in one block of bytes
        for path, start, end in context.spans():
            yield path, memoryview(context.bytes)[start:end]
    elif isinstance(context, Mapping) and all(isinstance(item, _BYTES) for item in context.values()):
        yield from ((str(path), memoryview(raw)) for path, raw in context.items())
    elif isinstance(raw := getattr(context, "bytes", context), _BYTES):
        yield str(getattr(context, "path", "") or "input"), memoryview(raw)
    elif isinstance(context, str):
        yield "input", memoryview(context.encode("utf-8", "surrogatepass"))
    else:  # a JSON value, written the way the host wrote it, so that offsets agree
        yield "input.json", memoryview(json.dumps(context).encode("utf-8", "surrogatepass"))


def search(context: Any, plan: Mapping[str, Any]) -> dict[str, Any]:
    """The best sentences for a plan.

    Args:
        context: what the question is asked of.
        plan: `{"concepts": [{"forms": [[stem, weight], ..]}, ..], "limit": n}`; the weight is 1 for the
            question's own word and less for a word of like meaning.

    Returns:
        `{"passages": [{"path", "start", "end", "line", "text", "score"}, ..], "size": n}`: byte offsets, best
        first. A sentence scores, for each concept, the weight of a form times how rare the form is here.
    """
    concepts = [{str(form): float(weight) for form, weight in c["forms"]} for c in plan["concepts"]]
    sources = list(documents(context))
    limit = int(plan["limit"])
    worths, best = _scan(sources, concepts, 40 + 6 * limit)
    return {"passages": _refine(sources, best, worths)[:limit], "size": sum(len(raw) for _, raw in sources)}


def _scan(
    sources: list[tuple[str, Any]], concepts: list[dict[str, float]], limit: int
) -> tuple[list[dict[str, float]], list[tuple[int, int]]]:
    """What each form of each concept is worth, and the windows that may hold most."""
    hits: dict[str, list[tuple[int, int]]] = {form: [] for forms in concepts for form in forms}
    needles = {form: (form.encode(), re.compile(re.escape(form.encode()))) for form in hits}
    windows = 0
    for number, (_, raw) in enumerate(sources):
        windows += len(raw) // WINDOW + 1
        for offset, low in _blocks(raw):
            for form, (needle, pattern) in needles.items():
                if needle in low:
                    seen = {(offset + m.start()) // WINDOW for m in pattern.finditer(low)}
                    hits[form].extend((number, window) for window in seen)
    rare = {form: math.log1p(windows / (len(found) + 0.5)) for form, found in hits.items() if found}
    worths = [
        {form: weight * rare[form] for form, weight in forms.items() if form in rare} for forms in concepts
    ]
    total: dict[tuple[int, int], float] = {}
    for worth in sorted(worths, key=lambda worth: sum(len(hits[form]) for form in worth)):
        best: dict[tuple[int, int], float] = {}
        for form, value in worth.items():
            for number, window in hits[form]:
                for key in ((number, window), (number, window - 1)):
                    best[key] = max(best.get(key, 0.0), value)
        nominates = len(best) <= 2 * COMMON
        for key, value in best.items():
            if nominates or key in total:
                total[key] = total.get(key, 0.0) + value
    return worths, heapq.nsmallest(limit, total, key=lambda key: (-total[key], key))


def _blocks(raw: Any) -> Iterator[tuple[int, bytes]]:
    for start in range(0, len(raw), BLOCK):
        yield start, bytes(raw[start : start + BLOCK + 64]).lower()


def _refine(
    sources: list[tuple[str, Any]], windows: list[tuple[int, int]], worths: list[dict[str, float]]
) -> list[dict[str, Any]]:
    units: dict[tuple[int, int], tuple[int, float]] = {}
    for number, window in windows:
        raw, centre = sources[number][1], window * WINDOW
        begin, finish = max(0, centre - REGION), min(len(raw), centre + 2 * WINDOW + REGION)
        region = bytes(raw[begin:finish])
        before = 0.0
        for start, end in sentences(region):
            if begin + start > centre + 2 * WINDOW or begin + end < centre:
                continue
            score = _score(stems(region[start:end]), worths) / (1 + max(0, end - start - 250) / 1000)
            if score:
                key = (number, begin + start)
                units[key] = max(units.get(key, (0, 0.0)), (begin + end, score + 0.15 * min(before, score)))
            before = score
    ranked = sorted(units.items(), key=lambda item: (-item[1][1], item[0]))
    return _without_overlap(sources, ranked)


def _score(held: set[str], worths: list[dict[str, float]]) -> float:
    return sum(max((value for form, value in worth.items() if form in held), default=0.0) for worth in worths)


def _without_overlap(
    sources: list[tuple[str, Any]], ranked: Iterable[tuple[tuple[int, int], tuple[int, float]]]
) -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = []
    taken: list[tuple[int, int, int]] = []
    for (number, start), (end, score) in ranked:
        if len(kept) == 64:
            break
        if any(number == other and start < stop and end > begin for other, begin, stop in taken):
            continue
        taken.append((number, start, end))
        path, raw = sources[number]
        kept.append(
            {
                "path": path,
                "start": start,
                "end": end,
                "line": _line(raw, start),
                "text": bytes(raw[start:end]).decode("utf-8", "replace"),
                "score": round(score, 4),
            }
        )
    return kept


def _line(raw: Any, position: int) -> int:
    count = 1
    for start in range(0, position, BLOCK):
        count += bytes(raw[start : min(start + BLOCK, position)]).count(b"\n")
    return count


_BREAK = re.compile(
    rb"(?P<blank>\n[ \t\r#*|>]*\n\s*)"
    rb"|(?P<full>(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9]))"
    rb"|(?P<line>\r?\n[ \t]*)"
)
_ABBREVIATION = re.compile(
    rb"(?:\b(?:e\.g|i\.e|dr|mr|mrs|ms|st|no|nos|vs|cf|fig|approx|prof|capt)|\b[A-Z])\.$", re.I
)
_FRESH = re.compile(
    rb"[-*+#>@|][ \t>@|\w]|\xe2\x80\xa2|\d{1,2}[.)][ \t]|(?:async )?(?:def|class) \w+ ?[(:]|(?:import|return|raise) \w+[\w.(]*\r?\n|\w+ = "
)


def sentences(text: bytes) -> list[tuple[int, int]]:
    """Spans of the sentences of prose, and of the lines of code or lists, in order, without overlap."""
    spans: list[tuple[int, int]] = []
    start = 0
    for match in _BREAK.finditer(text):
        if not _ends(text, start, match):
            continue
        _add(text, start, match.start(), spans)
        start = match.end()
    _add(text, start, len(text), spans)
    return spans


def _ends(text: bytes, start: int, match: re.Match[bytes]) -> bool:
    if match.lastgroup == "blank":
        return True
    before = text[start : match.start()]
    if match.lastgroup == "full":
        return not _ABBREVIATION.search(before[-8:])
    line = before[before.rfind(b"\n") + 1 :]
    after = text[match.end() : match.end() + 40]
    if _FRESH.match(after) or line.endswith((b":", b";", b"{", b"}")) or match.start() - start > UNIT_MAX:
        return True
    return len(line.strip()) < 40 and not after[:1].islower()


def _add(text: bytes, start: int, end: int, spans: list[tuple[int, int]]) -> None:
    while start < end and text[start : start + 1].isspace():
        start += 1
    while end > start and text[end - 1 : end].isspace():
        end -= 1
    while end - start > 2 * UNIT_MAX:
        cut = max(text.rfind(b"\n", start, start + UNIT_MAX), text.rfind(b" ", start, start + UNIT_MAX))
        cut = cut if cut > start else start + UNIT_MAX
        spans.append((start, cut))
        start = cut
    if end > start:
        spans.append((start, end))
