"""S-NIAH, and the part of RULER that asks for more than one thing: needles among lures, chains of variables, counts of words."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable
from uuid import UUID

from terraphim_rlm.testing.bench.yardsticks.instances import Instance, exact, share

_WORDS = [
    "harbour",
    "lantern",
    "meadow",
    "copper",
    "winter",
    "ledger",
    "orchard",
    "signal",
    "canvas",
    "marble",
    "thistle",
    "granite",
    "willow",
    "ferry",
    "beacon",
    "velvet",
    "saddle",
    "quarry",
    "barley",
    "anchor",
    "cinder",
    "prairie",
    "timber",
    "mantle",
    "gallery",
    "furrow",
    "compass",
    "hollow",
    "juniper",
    "kettle",
    "pepper",
    "ripple",
]
_VERBS = [
    "keeps",
    "crosses",
    "follows",
    "carries",
    "borders",
    "answers",
    "shelters",
    "mirrors",
    "gathers",
    "outlasts",
]
_COLOURS = (
    "amber",
    "azure",
    "coral",
    "ebony",
    "indigo",
    "jade",
    "ochre",
    "pearl",
    "russet",
    "scarlet",
    "teal",
    "umber",
)
_PIECE = 8_000


def _sentence(rng: random.Random) -> str:
    first, second, third = rng.sample(_WORDS, 3)
    return f"The {first} {rng.choice(_VERBS)} the {second} and the {third}, as it did the {rng.choice(_WORDS)} before."


def _hay(rng: random.Random, size: int) -> list[str]:
    lines, total = [], 0
    while total < size:
        lines.append(_sentence(rng))
        total += len(lines[-1]) + 1
    return lines


def _planted(rng: random.Random, size: int, needles: list[str]) -> str:
    lines = _hay(rng, size - sum(len(needle) + 1 for needle in needles))
    for needle in needles:
        lines.insert(rng.randrange(len(lines) + 1), needle)
    return "\n".join(lines) + "\n"


def _named(rng: random.Random, count: int) -> list[str]:
    names: set[str] = set()
    while len(names) < count:
        names.add(f"{rng.choice(_WORDS)}-{rng.choice(_WORDS)}-{rng.randint(10, 99)}")
    return sorted(names)


def _number(rng: random.Random) -> str:
    return str(rng.randint(1_000_000, 9_999_999))


def _word(rng: random.Random) -> str:
    return f"{rng.choice(_COLOURS)}{rng.choice(_WORDS)}{rng.choice(_WORDS)}"


def _identifier(rng: random.Random) -> str:
    return str(UUID(int=rng.getrandbits(128), version=4))


_PATTERN = r"The registered code of (\S+) is (\S+)\."


def _fact(name: str, value: str) -> str:
    return f"The registered code of {name} is {value}."


def _reads_codes(names: list[str]) -> Callable[[str], str]:
    def reader(piece: str) -> str:
        return json.dumps([value for name, value in re.findall(_PATTERN, piece) if name in names])

    return reader


_CODES = """
import json, re
SIZE = {piece}
NAMES = {names!r}
def direct(text):
    return [v for n, v in re.findall({pattern!r}, text) if n in NAMES]
def gather(pieces, answers):
    return [v for a in answers if a.startswith('[') for v in json.loads(a)]
def answer(found):
    return {answer}
"""


def _codes(task: str, kind: str, context: str, names: list[str], expected: list[str]) -> Instance:
    one = len(expected) == 1
    asked = (
        f"{'What is the registered code' if one else 'What are the registered codes'} of {', '.join(names)}?"
    )
    return Instance(
        task, kind, context, asked, expected[0] if one else expected, exact if one else share,
        instruction=f"List, as a JSON array, the registered codes that this text gives for {', '.join(names)}.",
        reader=_reads_codes(names),
        code=_CODES.format(
            piece=_PIECE, names=names, pattern=_PATTERN, answer="found[0] if found else 'not known'" if one else "sorted(set(found))"
        ),
    )  # fmt: skip


def s_niah(seed: int, size: int) -> list[Instance]:
    """A single needle: a number, a word, an identifier."""
    found = []
    for kind, make in (("number", _number), ("word", _word), ("identifier", _identifier)):
        rng = random.Random(f"s-niah {kind} {seed} {size}")  # noqa: S311 -- reproducible, not secret
        name, value = _named(rng, 1)[0], make(rng)
        found.append(_codes("s-niah", kind, _planted(rng, size, [_fact(name, value)]), [name], [value]))
    return found


def ruler(seed: int, size: int) -> list[Instance]:
    """A needle among lures, several values, several keys, a chain of variables, common words, frequent codes."""
    makers = (_multikey, _multivalue, _multiquery, _variables, _common_words)
    return [make(random.Random(f"ruler {make.__name__} {seed} {size}"), size) for make in makers]  # noqa: S311


def _multikey(rng: random.Random, size: int) -> Instance:
    names = _named(rng, 24)
    values = [_number(rng) for _ in names]
    context = _planted(rng, size, list(map(_fact, names, values)))
    return _codes("ruler", "multi-key", context, names[:1], values[:1])


def _multivalue(rng: random.Random, size: int) -> Instance:
    name, values = _named(rng, 1)[0], [_number(rng) for _ in range(4)]
    context = _planted(rng, size, [_fact(name, value) for value in values])
    return _codes("ruler", "multi-value", context, [name], values)


def _multiquery(rng: random.Random, size: int) -> Instance:
    names = _named(rng, 12)
    values = [_number(rng) for _ in names]
    context = _planted(rng, size, list(map(_fact, names, values)))
    return _codes("ruler", "multi-query", context, names[:4], values[:4])


_ASSIGNED = r"SET (\w+) = (\w+)"
_CHAINS = """
import json, re
SIZE = {piece}
def direct(text):
    return re.findall({pattern!r}, text)
def gather(pieces, answers):
    return [pair for a in answers if a.startswith('[') for pair in json.loads(a)]
def answer(found):
    held, before = {{{value!r}}}, 0
    while len(held) > before:
        before = len(held)
        held |= {{name for name, source in found if source in held}}
    return sorted(held - {{{value!r}}})
"""


def _variables(rng: random.Random, size: int) -> Instance:
    """Variables that hold a value through one or more assignments; each refers to one that stands before it."""
    names = rng.sample([f"{a}{b}{c}" for a in "BDKMR" for b in "AEIOU" for c in "LNPTX"], 20)
    values = [_number(rng) for _ in range(4)]
    chains = [names[at::4] for at in range(4)]
    steps = []
    for value, chain in zip(values, chains, strict=True):
        steps += [f"SET {name} = {source}" for name, source in zip(chain, [value, *chain], strict=False)]
    lines = _hay(rng, size - sum(map(len, steps)))
    for step, place in zip(
        steps, sorted(rng.sample(range(len(lines)), len(steps)), reverse=True), strict=True
    ):
        lines.insert(place, step)
    return Instance(
        "ruler", "variables", "\n".join(lines) + "\n",
        f"Which variables hold the value {values[0]}, directly or through other variables?", sorted(chains[0]), share,
        instruction="List, as a JSON array of [name, source], the SET lines of this text.",
        reader=lambda piece: json.dumps(re.findall(_ASSIGNED, piece)),
        code=_CHAINS.format(piece=_PIECE, pattern=_ASSIGNED, value=values[0]),
    )  # fmt: skip


_COUNTS = """
import collections, json
SIZE = {piece}
def direct(text):
    return list(collections.Counter(text.split()).items())
def gather(pieces, answers):
    return [pair for a in answers if a.startswith('[') for pair in json.loads(a)]
def answer(found):
    total = collections.Counter()
    for word, count in found:
        total[word] += count
    return [word for word, count in total.most_common(10)]
"""


def _common_words(rng: random.Random, size: int) -> Instance:
    """Ten words that stand there three times as often as all others."""
    vocabulary = [f"{a}{b}" for a in _WORDS for b in _WORDS if a != b]
    rng.shuffle(vocabulary)
    common, rest = vocabulary[:10], vocabulary[10:]
    rounds = max(size // (14 * (len(rest) // 4 + 30)), 1)
    words = common * (3 * rounds) + rest[: len(rest) // 4] * rounds
    rng.shuffle(words)
    lines = [" ".join(words[at : at + 12]) for at in range(0, len(words), 12)]
    return Instance(
        "ruler", "common words", "\n".join(lines) + "\n", "Which ten words are the most common?", common, share,
        instruction="Count, as a JSON array of [word, count], the words of this text.",
        reader=lambda piece: json.dumps(list(Counter(piece.split()).items())),
        code=_COUNTS.format(piece=_PIECE),
    )  # fmt: skip
