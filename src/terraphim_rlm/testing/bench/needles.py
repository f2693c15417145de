"""Real text with planted facts, and questions with known answers: deterministic for a seed and a Python version.

The text is what every Python carries: the language reference of `pydoc_data.topics`, then docstrings of the
standard library's modules until the size is reached.
"""

from __future__ import annotations

import ast
import random
import sysconfig
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from terraphim_rlm.engine.lookup.question import analyse
from terraphim_rlm.guest.retrieve import stems
from terraphim_rlm.testing.bench.needles_data import (
    ABSENT,
    COLOURS,
    DAYS,
    MONTHS,
    NAMES,
    PARAPHRASED,
    PLACES,
    PLAIN,
    SURNAMES,
    Fact,
)  # fmt: skip

Kind = Literal["plain", "paraphrased", "unanswerable"]


@dataclass(frozen=True, slots=True)
class Question:
    kind: Kind
    question: str
    answer: str
    """Stands in the fact word for word; empty when there is none."""
    fact: str = ""
    """The planted sentence that holds the answer."""


@dataclass(frozen=True, slots=True)
class Task:
    """A text and what is asked of it."""

    files: dict[str, bytes]
    questions: tuple[Question, ...]
    source: str
    """What the text is made of."""


def make_task(
    seed: int, *, size: int = 1_000_000, counts: tuple[int, int, int] = (25, 15, 10), train: bool = False
) -> Task:
    """`size` bytes of real text, with `counts` plain, paraphrased and unanswerable questions planted in it."""
    rng = random.Random(seed)  # noqa: S311 -- reproducible, not secret
    files = dict(_texts(size))
    pools: dict[str, list[str]] = {name: rng.sample(pool, len(pool)) for name, pool in _POOLS.items()}
    questions: list[Question] = []
    planted: list[str] = []
    for kind, table, count in (("plain", PLAIN, counts[0]), ("paraphrased", PARAPHRASED, counts[1])):
        for template in _draw(rng, [f for f in table if f.train == train], count):
            question = _fill(template, kind, _slots(rng, pools))  # type: ignore[arg-type]
            while "{" in template.question and question.question in {q.question for q in questions}:
                question = _fill(template, kind, _slots(rng, pools))  # type: ignore[arg-type]
            questions.append(question)
            planted.append(question.fact)
    for absent in _draw(rng, [a for a in ABSENT if a.train == train], counts[2]):
        slots = _slots(rng, pools)
        questions.append(Question("unanswerable", absent.question.format(**slots), ""))
        planted += [lure.format(**slots) for lure in absent.lures]
    _plant(rng, files, planted)
    return Task(
        files, tuple(questions), f"pydoc topics and docstrings of Python {sysconfig.get_python_version()}"
    )


def _draw(rng: random.Random, table: Sequence[Any], count: int) -> list[Any]:
    """`count` templates; each once before any comes again (then with other names)."""
    drawn: list[Any] = []
    while len(drawn) < count:
        drawn += rng.sample(table, min(len(table), count - len(drawn)))
    return drawn


_POOLS = {"people": SURNAMES, "places": PLACES, "names": NAMES}


def _slots(rng: random.Random, pools: dict[str, list[str]]) -> dict[str, str]:
    """Values for one template. Proper names rotate, so that lures and facts share them now and then."""

    def take(pool: str) -> str:
        pools[pool].append(pools[pool].pop(0))
        return pools[pool][-1]

    return {
        "N": take("people"), "M": take("people"), "P": take("places"), "Q": take("places"),
        "B": take("names"), "C": take("names"), "n": str(rng.randint(12, 980)), "y": str(rng.randint(1702, 1989)),
        "c": rng.choice(COLOURS), "d": rng.choice(DAYS), "m": rng.choice(MONTHS),
        "t": f"{rng.randint(5, 23)}:{rng.choice(('05', '10', '20', '25', '40', '50'))}",
    }  # fmt: skip


def _fill(template: Fact, kind: Kind, slots: dict[str, str]) -> Question:
    fact, question, answer = (
        part.format(**slots) for part in (template.fact, template.question, template.answer)
    )
    if answer not in fact:
        raise AssertionError(f"The answer {answer!r} is not in {fact!r}.")
    if kind == "paraphrased" and (shared := shared_content(question, fact)):
        raise AssertionError(f"{question!r} shares {sorted(shared)} with {fact!r}.")
    return Question(kind, question, answer, fact)


def shared_content(question: str, fact: str) -> set[str]:
    """The content words, inflections included, that a question has in common with a fact."""
    held = stems(fact.encode())
    return {form for c in analyse(question, likeness=False).concepts for form in c.own if form in held}


def _plant(rng: random.Random, files: dict[str, bytes], facts: list[str]) -> None:
    paths = sorted(path for path, raw in files.items() if raw.count(b"\n\n") >= 2)
    for fact in rng.sample(facts, len(facts)):
        path = rng.choice(paths)
        raw = files[path]
        breaks = [i for i in range(len(raw) - 1) if raw[i : i + 2] == b"\n\n"]
        at = rng.choice(breaks)
        text = textwrap.fill(fact, 60 if rng.random() < 0.5 else 400)
        files[path] = raw[: at + 2] + text.encode() + b"\n\n" + raw[at + 2 :]


def _texts(size: int) -> Iterator[tuple[str, bytes]]:
    from pydoc_data.topics import topics

    total = 0
    for name in sorted(topics):
        raw = topics[name].encode()
        total += len(raw)
        yield f"topics/{name}.txt", raw
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        if total >= size:
            return
        if len(raw := _docstrings(path)) > 2000:
            total += len(raw)
            yield f"docstrings/{path.stem}.txt", raw


def _docstrings(path: Path) -> bytes:
    tree = ast.parse(path.read_bytes())
    nodes = (n for n in ast.walk(tree) if isinstance(n, (ast.Module, ast.ClassDef, ast.FunctionDef)))
    return "\n\n".join(doc for node in nodes if (doc := ast.get_docstring(node))).encode("utf-8", "replace")
