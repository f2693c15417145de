"""Finds the passages of an input that hold the concepts of a question. Runs inside a sandbox.

Standard library only, no import of the host. Two steps: byte scans at C speed mark the windows of
256 bytes that hold most of the question's concepts (weighted by how rare they are in this input);
then only the best windows are cut into sentences and scored exactly.
"""

from __future__ import annotations

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

_SUFFIXES = tuple(
    (ending, len(ending))
    for ending in (
        "ements", "ement", "ingly", "ments", "edly", "ment", "ings", "ions", "ing", "ies", "ied",
        "ion", "ers", "ors", "est", "ed", "es", "er", "or", "ly", "s", "e", "y",
    )
)  # fmt: skip
_UNDOUBLE = frozenset("bdgmnpt")


def stem(word: str) -> str:
    """The part of an English word that its inflections share; numbers and identifiers stay as they are.

    Every step only cuts at the end, so a word always begins with its stem: the byte scan needs that.
    """
    word = word.lower()
    if len(word) < 4 or not word.isalpha():
        return word
    for ending, size in _SUFFIXES:
        if word.endswith(ending) and len(word) - size >= 3:
            word = word[:-size]
            break
    if len(word) > 3 and word[-1] in "ey" and word[-2] != word[-1]:
        word = word[:-1]
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
    if hasattr(context, "spans"):  # a folder: its files lie one after another in one block of bytes
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
        `{"passages": [{"path", "start", "end", "line", "text", "score"}, ..], "rarity": [..], "size": n}`:
        byte offsets, best first; `rarity` is the inverse document frequency of each concept, 0 when the
        input holds it nowhere.
    """
    concepts = [[(str(form), float(weight)) for form, weight in c["forms"]] for c in plan["concepts"]]
    sources = [(path, raw) for path, raw in documents(context)]
    masks, spread, windows = _scan(sources, concepts)
    rarity = [math.log1p(windows / (count + 0.5)) if count else 0.0 for count in spread]
    best = _best_windows(masks, rarity, 60 + 20 * int(plan["limit"]))
    passages = _refine(sources, best, concepts, rarity)
    return {
        "passages": passages[: int(plan["limit"])],
        "rarity": [round(value, 4) for value in rarity],
        "size": sum(len(raw) for _, raw in sources),
    }


def _scan(
    sources: list[tuple[str, Any]], concepts: list[list[tuple[str, float]]]
) -> tuple[dict[tuple[int, int], int], list[int], int]:
    """Which concepts each window may hold, in how many windows each may be, and how many windows there are."""
    patterns = [[re.compile(re.escape(form.encode())) for form, _ in forms] for forms in concepts]
    hits: list[list[tuple[int, int]]] = [[] for _ in concepts]
    windows = 0
    for number, (_, raw) in enumerate(sources):
        windows += len(raw) // WINDOW + 1
        for offset, low in _blocks(raw):
            for index, forms in enumerate(patterns):
                seen = {(offset + m.start()) // WINDOW for form in forms for m in form.finditer(low)}
                hits[index].extend((number, window) for window in seen)
    masks: dict[tuple[int, int], int] = {}
    for index in sorted(range(len(concepts)), key=lambda i: len(hits[i])):
        bit, may_nominate = 1 << index, len(hits[index]) <= COMMON
        for key in hits[index]:
            if may_nominate or key in masks or (key[0], key[1] - 1) in masks:
                masks[key] = masks.get(key, 0) | bit
    return masks, [len(found) for found in hits], windows


def _blocks(raw: Any) -> Iterator[tuple[int, bytes]]:
    start = 0
    while start < len(raw):
        yield start, bytes(raw[start : start + BLOCK + 64]).lower()
        start += BLOCK


def _best_windows(
    masks: dict[tuple[int, int], int], rarity: list[float], limit: int
) -> list[tuple[int, int]]:
    worth: dict[int, float] = {}
    ranked = []
    for key, own in masks.items():
        mask = own | masks.get((key[0], key[1] + 1), 0)
        if mask not in worth:
            worth[mask] = sum(value for index, value in enumerate(rarity) if mask >> index & 1)
        ranked.append((-worth[mask], key))
    ranked.sort()
    return [key for _, key in ranked[:limit]]


def _refine(
    sources: list[tuple[str, Any]],
    windows: list[tuple[int, int]],
    concepts: list[list[tuple[str, float]]],
    rarity: list[float],
) -> list[dict[str, Any]]:
    units: dict[tuple[int, int], tuple[int, float]] = {}
    for number, window in windows:
        raw = sources[number][1]
        centre = window * WINDOW
        begin, finish = max(0, centre - REGION), min(len(raw), centre + 2 * WINDOW + REGION)
        region = bytes(raw[begin:finish])
        before = 0.0
        for start, end in sentences(region):
            held = stems(region[start:end])
            score = _score(held, concepts, rarity) / (1 + max(0, end - start - 250) / 1000)
            inside = begin + start <= centre + 2 * WINDOW and begin + end >= centre
            if inside and score:
                key = (number, begin + start)
                units[key] = max(units.get(key, (0, 0.0)), (begin + end, score + 0.15 * min(before, score)))
            before = score
    ranked = sorted(units.items(), key=lambda item: (-item[1][1], item[0]))
    return _without_overlap(sources, ranked)


def _score(held: set[str], concepts: list[list[tuple[str, float]]], rarity: list[float]) -> float:
    total = 0.0
    for forms, value in zip(concepts, rarity):
        total += value * max((weight for form, weight in forms if form in held), default=0.0)
    return total


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
