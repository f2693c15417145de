"""OOLONG-like and OOLONG-Pairs-like tasks: lines of date, user and question, each of a kind that no line names.

Every line must be judged by itself and all of them counted. Two lines of three have a word that gives their kind away, so that
code alone comes some way; the others need a reader, which the oracle is. Four of five lines come from a fifth of the users.
"""

from __future__ import annotations

import datetime
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from terraphim_rlm.testing.bench.yardsticks.instances import Instance, Reader, exact, f1, near

LABELS = ("number", "place", "person", "abbreviation", "thing", "explanation")
_CUES = {
    "number": "How many", "place": "Where", "person": "Who", "abbreviation": "stand for", "thing": "Which object",
    "explanation": "Why",
}  # fmt: skip
_OPEN = {
    "number": ("How many boats does the {a} of {b} own?", "How many years did the {a} last at {b}?"),
    "place": ("Where was the {a} of {b} built?", "Where does the {a} meet the {b}?"),
    "person": ("Who painted the {a} of {b}?", "Who first crossed the {a} to {b}?"),
    "abbreviation": ("What do the letters {c} stand for at the {a}?", "What does {c} stand for in {b}?"),
    "thing": ("Which object hangs above the {a} in {b}?", "Which object was lost between the {a} and {b}?"),
    "explanation": ("Why is the {a} of {b} closed in winter?", "Why did the {a} turn red at {b}?"),
}
_HIDDEN = {
    "number": "Give the height of the {a} at {b} in feet.",
    "place": "Name the town whose {a} looks upon {b}.",
    "person": "Name the mason behind the {a} of {b}.",
    "abbreviation": "Write out {c}, as the {a} of {b} uses it.",
    "thing": "Name what the {a} of {b} is made with.",
    "explanation": "Tell how the {a} of {b} came to lean.",
}
_NOUNS = [
    "tower",
    "bridge",
    "mill",
    "garden",
    "chapel",
    "market",
    "cellar",
    "harbour",
    "clock",
    "well",
    "gate",
    "barn",
]
_TOWNS = [
    "Alder",
    "Brook",
    "Carden",
    "Dunmore",
    "Elmsby",
    "Fenwick",
    "Garth",
    "Holt",
    "Ivel",
    "Kirby",
    "Lorne",
    "Marlow",
]
_START = datetime.date(2023, 1, 1)
_TOKENS_A_LINE = 90
"""Characters of a line, about; how many lines there are follows from it."""


@dataclass(frozen=True, slots=True)
class Line:
    """One entry; its label stands nowhere in the text."""

    date: str
    user: str
    text: str
    label: str

    def __str__(self) -> str:
        return f"{self.date} || user {self.user} || {self.text}"


def lines_of(seed: int, size: int) -> list[Line]:
    """Lines of about `size` characters; labels are uneven, so that none can be guessed."""
    rng = random.Random(f"oolong {seed} {size}")  # noqa: S311 -- reproducible, not secret
    weights = [rng.choice((1, 2, 3, 5)) for _ in LABELS]
    users = [str(number) for number in rng.sample(range(10_000, 99_999), min(40, max(size // 2_000, 8)))]
    often = users[: max(len(users) // 5, 1)]
    found: list[Line] = []
    seen: set[str] = set()
    while len(found) < size // _TOKENS_A_LINE:
        label = rng.choices(LABELS, weights)[0]
        form = rng.choice(_OPEN[label]) if rng.random() < 2 / 3 else _HIDDEN[label]
        town = f"{rng.choice(_TOWNS)}-{rng.randint(1, 999)}"
        text = form.format(a=rng.choice(_NOUNS), b=town, c="".join(rng.sample("BCDFGHKLMNPRSTVW", 3)))
        if text in seen:
            continue
        seen.add(text)
        date = _START + datetime.timedelta(days=rng.randrange(365))
        found.append(Line(date.isoformat(), rng.choice(often if rng.random() < 0.8 else users), text, label))
    return found


_CODE = """
import collections, itertools
SIZE = 1
CUES = {cues!r}
def parsed(line):
    date, user, text = line.split(' || ', 2)
    return date, user[5:], text
def direct(text):
    found = []
    for line in text.splitlines():
        date, user, said = parsed(line)
        found += [[date, user, label] for label, cue in CUES.items() if cue in said][:1]
    return found
def gather(pieces, answers):
    return [[*parsed(line)[:2], label] for line, label in zip(pieces, answers) if label in CUES]
def most(counts):
    return min(counts, key=lambda name: (-counts[name], name)) if counts else None
def answer(found):
    {answer}
"""


def _instance(
    task: str, kind: str, lines: list[Line], asked: str, solve: str, score: Callable[..., float]
) -> Instance:
    """`solve` is code over `found`, a list of [date, user, label]; the right answer is what it gives for the true labels."""
    code = _CODE.format(cues=_CUES, answer=solve)
    labels = {str(line): line.label for line in lines}
    return Instance(
        task, kind, "".join(f"{line}\n" for line in lines), asked, _solved(code, lines), score,
        instruction=f"Which kind of question is this? Answer with one of: {', '.join(LABELS)}.",
        reader=_reader(labels),
        code=code,
    )  # fmt: skip


def _reader(labels: dict[str, str]) -> Reader:
    return lambda piece: labels[piece.strip()]


def _solved(code: str, lines: list[Line]) -> Any:
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 -- our own text, from the lines below
    return json.loads(json.dumps(names["answer"]([[line.date, line.user, line.label] for line in lines])))


def oolong(seed: int, size: int) -> list[Instance]:
    """Counts, the most common label, the same of one user, the most active user of a label, before and after a date."""
    lines = lines_of(seed, size)
    rng = random.Random(f"oolong questions {seed} {size}")  # noqa: S311
    label, other = rng.sample(sorted({line.label for line in lines}), 2)
    user = Counter(line.user for line in lines).most_common(2)[-1][0]
    day = "2023-07-01"
    questions: list[tuple[str, str, str, Callable[..., float]]] = [
        ("count", f"How many lines ask for a {label}?", f"return sum(l == {label!r} for d, u, l in found)", near),
        ("most common", "Which kind is the most common?", "return most(collections.Counter(l for d, u, l in found))", exact),
        ("count of a user", f"How many lines of user {user} ask for a {other}?",
         f"return sum((u, l) == ({user!r}, {other!r}) for d, u, l in found)", near),
        ("most common of a user", f"Which kind is the most common of user {user}?",
         f"return most(collections.Counter(l for d, u, l in found if u == {user!r}))", exact),
        ("most active user", f"Which user asks most often for a {label}?",
         f"return most(collections.Counter(u for d, u, l in found if l == {label!r}))", exact),
        ("before and after", f"Is {label} more or less common before {day} than from then on? Answer more, less or same.",
         f"n = sum((1 if d < {day!r} else -1) for d, u, l in found if l == {label!r})\n"
         "    return 'more' if n > 0 else 'less' if n < 0 else 'same'", exact),
    ]  # fmt: skip
    return [_instance("oolong", kind, lines, asked, solve, score) for kind, asked, solve, score in questions]


_PAIRS = """by = collections.defaultdict(collections.Counter)
    for d, u, l in found:
        by[u][l] += 1
    return [[a, b] for a, b in itertools.combinations(sorted(by), 2) if fits(by[a], by[b])]
def fits(a, b):
    return {rule}
"""


def oolong_pairs(seed: int, size: int) -> list[Instance]:
    """Pairs of users: both have one of two labels, each has one, one alone has it, both have it twice, as many of each."""
    lines = lines_of(seed, size)
    rng = random.Random(f"oolong-pairs questions {seed} {size}")  # noqa: S311
    one, two = rng.sample(sorted({line.label for line in lines}), 2)
    rules = {
        "either, both": (f"both have a line for a {one} or a {two}", f"(a[{one!r}] or a[{two!r}]) and (b[{one!r}] or b[{two!r}])"),
        "one each": (f"one has a line for a {one} and the other for a {two}", f"(a[{one!r}] and b[{two!r}]) or (a[{two!r}] and b[{one!r}])"),
        "only one": (f"exactly one has a line for a {one}", f"bool(a[{one!r}]) != bool(b[{one!r}])"),
        "twice, both": (f"both have at least two lines for a {two}", f"a[{two!r}] >= 2 and b[{two!r}] >= 2"),
        "as many": (f"both have equally many lines for a {one}", f"a[{one!r}] == b[{one!r}]"),
    }  # fmt: skip
    return [
        _instance(
            "oolong-pairs",
            kind,
            lines,
            f"List all pairs of users of whom {said}.",
            _PAIRS.format(rule=rule),
            f1,
        )
        for kind, (said, rule) in rules.items()
    ]
