"""Rows of the safety rules: what they find, what they stop wrongly, and what a verdict costs."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from terraphim_rlm.core.values import Verdict
from terraphim_rlm.guard.safety.judge import SafetyJudge
from terraphim_rlm.guard.safety.rules import rule_set
from terraphim_rlm.testing.bench.rows import Goal, row
from terraphim_rlm.testing.corpora.benign import SEED, draw
from terraphim_rlm.testing.corpora.corpus import Sample, samples

Row = dict[str, Any]
_MOST_NAMED = 12


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured. The defaults are what the goals are about."""

    programs: int = 1_000
    """Benign ones that are drawn."""
    repeats: int = 60
    characters: int = 10_240
    """Of the code that a verdict is timed on."""


async def rows(sizes: Sizes) -> AsyncIterator[Row]:
    """Each row as soon as it is measured."""
    judge = SafetyJudge()
    try:
        yield await _start(judge)
        for one in await _recall(judge):
            yield one
        for one in await _benign(judge, sizes.programs):
            yield one
        for language, text in (("python", python_text(sizes)), ("bash", bash_text(sizes))):
            yield await _speed(judge, language, text, sizes)
        yield await _hostile(judge)
    finally:
        await judge.close()


async def _start(judge: SafetyJudge) -> Row:
    began = time.perf_counter()
    await judge.judge("print(1)", "python")
    taken = [(time.perf_counter() - began) * 1000]
    return row(
        "start of a reader, and a verdict",
        "ms",
        taken,
        None,
        why="once a run or daemon, beside the start of its sandbox",
    )


def is_found(sample: Sample, verdict: Verdict) -> bool:
    """Whether a finding covers the payload and its rule names the payload's class."""
    by_id = rule_set().by_id
    return any(
        finding.start <= sample.start
        and finding.end >= sample.end
        and finding.rule in by_id
        and by_id[finding.rule].kind == sample.harm
        for finding in verdict.findings
    )


async def _recall(judge: SafetyJudge) -> list[Row]:
    found: dict[str, bool] = {
        each.id: is_found(each, await judge.judge(each.code, each.language)) for each in samples()
    }
    held = {each.id for each in samples() if each.is_held_out}
    whole = Goal(90, least=True)
    return [
        _share("evasions found", found, whole),
        _share("evasions found, of those known", {key: found[key] for key in found if key not in held}, None),
        _share("evasions found, of those held out", {key: found[key] for key in held}, None),
    ]


def _share(name: str, found: dict[str, bool], goal: Goal | None) -> Row:
    missed = [key for key, value in sorted(found.items()) if not value]
    why = f"{len(found) - len(missed)} of {len(found)}; missed: {_named(missed)}"
    return row(name, "%", [100 * (len(found) - len(missed)) / len(found)], goal, why=why)


async def _benign(judge: SafetyJudge, count: int) -> list[Row]:
    programs, packages = draw(SEED, count)
    decisions = {each.name: (await judge.judge(each.code, "python")).decision for each in programs}
    wrong = sorted(name for name, decision in decisions.items() if decision != "allow")
    blocked = [name for name in wrong if decisions[name] == "block"]
    why = f"{len(wrong)} of {len(programs)} by seed {SEED}, from the standard library and {len(packages)} packages: {_named(wrong)}"
    return [
        row("benign programs not simply allowed", "%", [100 * len(wrong) / len(programs)], 2, why=why),
        row("benign programs blocked", "%", [100 * len(blocked) / len(programs)], None, why=_named(blocked)),
    ]


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{', '.join(names[:_MOST_NAMED])}{more}" or "none"


def python_text(sizes: Sizes) -> str:
    """Code that people wrote: whole statements of the standard library's `textwrap` and `shlex`."""
    import shlex
    import textwrap
    from inspect import getsource

    return _of_length(getsource(textwrap) + getsource(shlex), "\n    def ", sizes.characters)


def bash_text(sizes: Sizes) -> str:
    """A script of the ordinary kind."""
    one = (
        'for f in "$DIR"/*.txt; do\n  n=$(wc -l < "$f")\n  if [ "$n" -gt 10 ]; then\n    echo "$f has $n lines" | tee -a log\n'
        "  fi\ndone\nmkdir -p build/{a,b} && cp -r src build/a\ngrep -rn TODO src | sort | uniq -c | head -20 > todo.txt\n"
        'count() {\n  local what=$1\n  find . -name "$what" -print0 | xargs -0 -n 50 wc -c\n}\ncount "*.py"\n'
    )
    return one * (sizes.characters // len(one))


def _of_length(text: str, end: str, most: int) -> str:
    return text[: text.rindex(end, 0, most)]


async def _speed(judge: SafetyJudge, language: str, text: str, sizes: Sizes) -> Row:
    taken = []
    for number in range(sizes.repeats):
        began = time.perf_counter()
        verdict = await judge.judge(f"{text}\n# {number}\n", language)
        taken.append((time.perf_counter() - began) * 1000)
        assert verdict.decision == "allow", verdict
    name = f"verdict on {sizes.characters // 1024} KB of {language}"
    why = f"warm, no two alike; {len(text):,} characters"
    return row(name, "ms", taken[sizes.repeats // 4 :], 5, why=why)


HOSTILE = {
    "brackets": ("(" * (1 << 20), "python"),
    "dots": ("a" + ".b" * 500_000, "python"),
    "sums": ("1" + "+1" * 500_000, "python"),
    "digits": ("9" * (1 << 20), "python"),
    "zero bytes": ("\0" * (1 << 20), "python"),
    "doubling": ("x='a'\n" + "x=x+x\n" * 170_000, "python"),
    "loops": ("for a in range(500):\n  b=a\n" * 37_000, "python"),
    "quotes": ('"' * ((1 << 20) - 1), "bash"),
    "substitutions": ("$(" * 500_000, "bash"),
    "braces": ("{a,b}" * 200_000, "bash"),
    "here-documents": ("".join(f"cat <<E{number}\n" for number in range(80_000)), "bash"),
    "arrays": ("[" * (1 << 20), "javascript"),
    "blocks": ("{" * (1 << 20), "go"),
    "groups": ("(" * (1 << 20), "rust"),
}
"""1 MiB each of what makes parsers slow."""


async def _hostile(judge: SafetyJudge) -> Row:
    taken = {}
    for name, (text, language) in HOSTILE.items():
        began = time.perf_counter()
        await judge.judge(text[: 1 << 20], language)
        taken[name] = time.perf_counter() - began
    slowest = max(taken, key=lambda name: taken[name])
    goal = Goal(1.5, at=1.0)
    return row(
        "1 MiB of hostile text",
        "s",
        list(taken.values()),
        goal,
        why=f"judged or given up; slowest: {slowest}",
    )
