"""`terraphim-automata` beside our matcher: its time for the same search, and where the two find something else.

It lives in an environment of its own, like every peer, or wherever it is installed already.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from terraphim_rlm.core import process
from terraphim_rlm.guard.kg.matcher import key
from terraphim_rlm.guard.kg.thesaurus import Thesaurus
from terraphim_rlm.testing.bench import terraphim_work
from terraphim_rlm.testing.bench.peers import Peer, python_of

PEER = Peer("terraphim-automata", "terraphim-automata==1.0.0")
_SCRIPT = Path(__file__).with_name("terraphim_work.py")
_SECONDS = 300.0
Place = tuple[int, int, str]
"""First character, last character + 1, term."""


def python() -> str:
    """An interpreter that has it; it is installed if there is none.

    Raises:
        OSError: it cannot be had; why.
    """
    return sys.executable if is_here() else python_of(PEER)


def is_here() -> bool:
    """Whether this interpreter has it."""
    return importlib.util.find_spec("terraphim_automata") is not None


def worked(
    interpreter: str, thesaurus: Thesaurus, texts: Sequence[str], seconds: float = 0.0
) -> dict[str, Any]:
    """What it found in each text, and how long it took for the first; see `terraphim_work`.

    Raises:
        OSError: it failed; why.
    """
    asked = {"thesaurus": json.dumps(thesaurus.to_json()), "texts": list(texts), "seconds": seconds}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "asked.json")
        file.write_text(json.dumps(asked), encoding="utf-8")
        told = (
            terraphim_work.main(str(file))
            if interpreter == sys.executable
            else _elsewhere(interpreter, file, seconds)
        )
    told["matches"] = [[(start, end, term) for start, end, term in each] for each in told["matches"]]
    return dict(told)


def _elsewhere(interpreter: str, file: Path, seconds: float) -> dict[str, Any]:
    try:
        ended = process.run([interpreter, "-I", str(_SCRIPT), str(file)], timeout=_SECONDS + seconds)
    except subprocess.TimeoutExpired:
        raise OSError("it was not done in time") from None
    if ended.returncode:
        raise OSError(ended.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2] or "it failed")
    return dict(json.loads(ended.stdout))


def differences(thesaurus: Thesaurus, text: str, theirs: Sequence[Place]) -> Counter[str]:
    """How many matches only one of the two has, by why.

    What is found at one place decides only over what overlaps it. So the matches of both are put into groups that
    overlap, and a difference is explained by a match of its group that only one of the two can have.
    """
    ours = {(found.start, found.end) for found in thesaurus.find(text)}
    other = {(start, end) for start, end, _ in theirs}
    counted: Counter[str] = Counter()
    for group in _overlapping(ours | other):
        unlike = [place for place in group if (place in ours) != (place in other)]
        whys = {place: _why(thesaurus, text, *place, ours=place in ours) for place in unlike}
        caused = {why for why in whys.values() if why is not None}
        for place in unlike:
            counted[whys[place] or (f"beside one {min(caused)}" if caused else "unexplained")] += 1
    return counted


def _overlapping(places: Iterable[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    groups: list[list[tuple[int, int]]] = []
    reach = -1
    for start, end in sorted(places):
        if start >= reach:
            groups.append([])
        groups[-1].append((start, end))
        reach = max(reach, end)
    return groups


def _why(thesaurus: Thesaurus, text: str, start: int, end: int, *, ours: bool) -> str | None:
    """Why only one of the two can have a match; None when both could."""
    if not ours:
        return "inside a word" if _is_inside(text, start, end) else None
    found = text[start:end]
    if found.lower() in {term.lower() for term in thesaurus.terms if key(term) == key(found)}:
        return None if found.isascii() else "with case beyond ASCII"
    return "with other white space" if found.isascii() else "with case beyond ASCII"


def _is_inside(text: str, start: int, end: int) -> bool:
    """Whether a place begins or ends in the middle of a word."""
    return any(0 < at < len(text) and _is_word(text[at - 1]) and _is_word(text[at]) for at in (start, end))


def _is_word(sign: str) -> bool:
    return sign.isalnum() or sign == "_"
