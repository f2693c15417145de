"""Which terms an unknown word may have meant."""

from __future__ import annotations

from collections.abc import Sequence

from terraphim_rlm.guard.kg.matcher import key
from terraphim_rlm.guard.kg.thesaurus import Thesaurus

MOST = 3
"""Terms that are suggested for one word."""
_MOST_WORD = 64
"""Characters of a word that are looked at."""
_MOST_TERMS = 100_000
"""Terms that one word is compared with; of larger thesauri those nearest in length."""
_LIKE = 72.0
"""Least likeness, in percent of the characters of both: a letter too many, missing or swapped in a word of five."""


class Near:
    """Finds the terms of a thesaurus that look like a word, or hold one that does. The work for one word is bounded."""

    def __init__(self, thesaurus: Thesaurus) -> None:
        self._by_length: dict[int, tuple[list[str], list[str]]] = {}
        for term in thesaurus.terms:
            folded = key(term)
            parts = folded.split(" ")
            for part in (folded, *(parts if len(parts) > 1 else ())):
                keys, terms = self._by_length.setdefault(len(part), ([], []))
                keys.append(part)
                terms.append(term)

    def terms(self, word: str, most: int = MOST) -> list[str]:
        """Those most like it, best first; none when nothing is."""
        from rapidfuzz import fuzz, process

        folded = key(word)[:_MOST_WORD]
        found: list[tuple[float, str]] = []
        for length in self._lengths(len(folded)):
            keys, terms = self._by_length[length]
            hits = process.extract(folded, keys, scorer=fuzz.ratio, limit=most, score_cutoff=_LIKE)
            found.extend((score, terms[index]) for _, score, index in hits)
        found.sort(key=lambda each: (-each[0], each[1]))
        return list(dict.fromkeys(term for _, term in found))[:most]

    def _lengths(self, length: int) -> Sequence[int]:
        """The lengths that a term like a word of this one can have, nearest first."""
        chosen: list[int] = []
        left = _MOST_TERMS
        for other in sorted(self._by_length, key=lambda each: abs(each - length)):
            least = 200 * min(length, other) / max(length + other, 1)  # the likeness cannot be more
            if least < _LIKE or left <= 0:
                break
            chosen.append(other)
            left -= len(self._by_length[other][0])
        return chosen
