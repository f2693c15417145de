"""Rows of `trlm bench guard` on the knowledge graph: matching beside `terraphim-automata`, and how work grows."""

from __future__ import annotations

import asyncio
import random
import sysconfig
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from terraphim_rlm.guard.kg.graph import RoleGraph
from terraphim_rlm.guard.kg.library import Knowledge
from terraphim_rlm.guard.kg.near import Near
from terraphim_rlm.guard.kg.thesaurus import Thesaurus, Writer
from terraphim_rlm.guard.kg.vocabulary import look, verdict
from terraphim_rlm.guard.kg.words import words
from terraphim_rlm.testing.bench import terraphim
from terraphim_rlm.testing.bench.rows import row, summary

Row = dict[str, Any]
SEED = 7
_GOAL_MATCH_MS = 2.0
_GOAL_VERDICT_MS = 5.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    terms: int = 50_000
    characters: int = 10_240
    growing: Sequence[int] = (12_500, 25_000, 50_000, 100_000)
    repeats: int = 50
    builds: int = 3
    peer_seconds: float = 20.0


async def rows(sizes: Sizes, *, with_peers: bool = False) -> AsyncIterator[Row]:
    """Each row as soon as it is measured.

    Raises:
        AssertionError: something came out wrong. No figure of it is worth anything.
    """
    thesaurus = made(sizes.terms)
    thesaurus.matcher  # noqa: B018 - compiled before the first sample
    code, prose = python_text(sizes.characters), prose_text(sizes.characters)
    peer = await asyncio.to_thread(_peer, thesaurus, [code, prose], sizes) if with_peers else None
    yield _matching(f"terms in {sizes.characters // 1024} KB of Python", thesaurus, code, sizes, peer)
    yield _matching(f"terms in {sizes.characters // 1024} KB of prose", thesaurus, prose, sizes, None)
    if peer is not None:
        yield _differing(thesaurus, [code, prose], peer)
    knowledge = Knowledge(RoleGraph(thesaurus))
    knowledge.graph.add("code.md", code)
    yield _verdict(knowledge, code, sizes)
    yield _suggestion(thesaurus, sizes)
    yield _connectivity(knowledge, sizes)
    for count in sizes.growing:
        yield _building(count, sizes)


def _matching(name: str, thesaurus: Thesaurus, text: str, sizes: Sizes, peer: dict[str, Any] | None) -> Row:
    found = thesaurus.find(text)
    if len(found) < 50:
        raise AssertionError(f"{len(found)} terms were found in {len(text):,} characters")
    why = f"{len(thesaurus.terms):,} terms, {len(found):,} found"
    samples = timed(lambda: thesaurus.find(text), sizes.repeats)
    return row(name, "ms", samples, _GOAL_MATCH_MS, peers=_beside(peer), why=why)


def _beside(peer: dict[str, Any] | None) -> dict[str, Any]:
    if peer is None:
        return {}
    told = peer if "error" in peer else {"version": peer["version"], **summary(peer["samples"])}
    return {terraphim.PEER.name: told}


def _peer(thesaurus: Thesaurus, texts: Sequence[str], sizes: Sizes) -> dict[str, Any]:
    try:
        return terraphim.worked(terraphim.python(), thesaurus, texts, sizes.peer_seconds)
    except OSError as error:
        return {"error": str(error)}


def _differing(thesaurus: Thesaurus, texts: Sequence[str], peer: dict[str, Any]) -> Row:
    name = "matches unlike the peer's, unexplained"
    if "error" in peer:
        return row(name, "", [], 0, why=f"{terraphim.PEER.name}: {peer['error']}")
    counted: Counter[str] = Counter()
    for text, theirs in zip(texts, peer["matches"], strict=True):
        counted += terraphim.differences(thesaurus, text, theirs)
    told = "; ".join(f"{count} {why}" for why, count in sorted(counted.items()))
    both = sum(map(len, peer["matches"]))
    return row(name, "", [counted["unexplained"]], 0, why=f"of {both:,} of its; {told or 'none differs'}")


def _verdict(knowledge: Knowledge, code: str, sizes: Sizes) -> Row:
    def judge() -> object:
        return verdict(knowledge, look(knowledge, code, "python"))

    judge()
    why = "what it says, share of known words, connectivity"
    return row("vocabulary of 10 KB of Python", "ms", timed(judge, sizes.repeats), _GOAL_VERDICT_MS, why=why)


def _suggestion(thesaurus: Thesaurus, sizes: Sizes) -> Row:
    near = Near(thesaurus)
    draw = random.Random(SEED)  # noqa: S311 - a seeded draw, not a secret
    terms = [term for term in thesaurus.terms if len(term) > 6]
    asked = [_mistyped(term, draw) for term in draw.sample(terms, sizes.repeats)]
    right = 0
    samples = []
    for word, term in asked:
        samples += timed(partial(near.terms, word), 1)
        right += term in near.terms(word)
    why = f"among {len(thesaurus.terms):,} terms; {right} of {len(asked)} mistyped ones are named again"
    return row("suggestions for an unknown word", "ms", samples, None, why=why)


def _mistyped(term: str, draw: random.Random) -> tuple[str, str]:
    at = draw.randrange(1, len(term) - 1)
    return term[:at] + term[at + 1 :], term


def _connectivity(knowledge: Knowledge, sizes: Sizes) -> Row:
    ids = [concept.id for concept in knowledge.thesaurus.concepts[:10_000]]
    samples = timed(lambda: knowledge.graph.are_connected(ids), sizes.repeats)
    return row("connectivity of 10,000 concepts", "ms", samples, None)


def _building(count: int, sizes: Sizes) -> Row:
    terms = list(made(count).terms.values())
    named = list(made(count).terms)

    def build() -> object:
        return Thesaurus("grown", dict(zip(named, terms, strict=True))).matcher

    return row(f"growth: compiling {count:,} terms", "ms", timed(build, sizes.builds), None)


def timed(work: Callable[[], object], repeats: int) -> list[float]:
    """Milliseconds of each repeat."""
    samples = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        samples.append((time.perf_counter() - started) * 1000)
    return samples


def made(count: int) -> Thesaurus:
    """A thesaurus of so many terms: phrases of one to three words as they stand in this Python's library."""
    writer = Writer("library")
    for name in _library():
        text = name.read_text("utf-8", "replace")
        said = [word.text for word in words(text)]
        for width in (1, 2, 3):
            for at in range(len(said) - width + 1):
                phrase = " ".join(said[at : at + width])
                writer.add(phrase, writer.concept(phrase))
                if len(writer.terms) >= count:
                    return writer.thesaurus()
    raise AssertionError(f"the library has only {len(writer.terms):,} phrases")


def _library() -> list[Path]:
    """Modules of the standard library, in a seeded order, those searched below left out."""
    folder = Path(sysconfig.get_path("stdlib"))
    found = sorted(path for path in folder.glob("*.py") if path.name not in _SEARCHED)
    found += sorted(path for path in folder.glob("*/*.py") if "site-packages" not in path.parts)
    random.Random(SEED).shuffle(found)  # noqa: S311
    return found


_SEARCHED = ("difflib.py", "this.py", "argparse.py")


def python_text(characters: int) -> str:
    """Real code."""
    return Path(sysconfig.get_path("stdlib"), "argparse.py").read_text("utf-8")[:characters]


def prose_text(characters: int) -> str:
    """Real sentences: what documentation strings say."""
    import difflib

    text = "\n\n".join(str(each.__doc__) for each in (difflib, difflib.SequenceMatcher, difflib.Differ, *vars(difflib.SequenceMatcher).values()))  # fmt: skip
    return (text * (characters // len(text) + 1))[:characters]
