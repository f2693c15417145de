"""Runs where `terraphim-automata` can be imported: `terraphim_work.py FILE`. Standard library and the peer only.

FILE holds {"thesaurus", "texts", "seconds"}: a thesaurus as JSON text, texts to search, and for how long to repeat the
first. Prints {"version", "samples", "matches"}: milliseconds of each search of the first text, and for each text
[[start, end, term], ..] in characters.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module, metadata
from typing import Any


def main(path: str) -> dict[str, Any]:
    peer = import_module("terraphim_automata")
    with open(path, encoding="utf-8") as file:
        asked = json.load(file)
    thesaurus, texts = asked["thesaurus"], asked["texts"]
    samples: list[float] = []
    end = time.perf_counter() + asked["seconds"]
    while asked["seconds"] and (not samples or time.perf_counter() < end):
        started = time.perf_counter()
        peer.find_all_matches(texts[0], thesaurus)
        samples.append((time.perf_counter() - started) * 1000)
    found = [places(text, peer.find_all_matches(text, thesaurus)) for text in texts]
    return {"version": metadata.version("terraphim-automata"), "samples": samples, "matches": found}


def places(text: str, matches: list[Any]) -> list[tuple[int, int, str]]:
    """Its places count bytes of UTF-8; ours count characters."""
    at = {0: 0}
    count = 0
    for number, sign in enumerate(text, 1):
        count += len(sign.encode("utf-8", "surrogatepass"))
        at[count] = number
    return [(at[match.pos[0]], at[match.pos[1]], match.term) for match in matches]


if __name__ == "__main__":
    json.dump(main(sys.argv[1]), sys.stdout)
