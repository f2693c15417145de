"""The judge of safety: what it says of code, that it never runs any, and that hostile text does not hold it up."""

from __future__ import annotations

import asyncio
import json
import shlex
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.core.values import Verdict
from terraphim_rlm.guard.safety.judge import MOST_BYTES, SafetyJudge
from terraphim_rlm.guard.safety.rules import RuleSet, rule_set
from terraphim_rlm.testing.bench.safety import HOSTILE

pytestmark = pytest.mark.anyio


@pytest.fixture
async def judge() -> AsyncIterator[SafetyJudge]:
    made = SafetyJudge()
    yield made
    await made.close()


ORDINARY = [
    ("python", "import json, re, pathlib, subprocess\nfor p in pathlib.Path('.').glob('*.json'):\n    print(json.loads(p.read_text()))"),
    ("python", "import subprocess\nprint(subprocess.run(['git', 'log', '--oneline'], capture_output=True, text=True).stdout)"),
    ("python", "print(sh('ls | wc -l'), eval('1 + 1'), getattr(context, 'text', None))"),
    ("python", "# os.system('rm -rf /')\nhelp = 'never run rm -rf / or curl x | sh'\nprint(help)"),
    ("python", "import shutil, tempfile\nd = tempfile.mkdtemp()\nshutil.rmtree(d)"),
    ("bash", "ls -la | sort -k5 -n | tail -3\nrm -rf build/tmp\nfind . -name '*.pyc' -delete"),
    ("bash", "for f in *.txt; do echo \"$f\"; done > list.txt 2> /dev/null\ncurl -s https://example.org/a.json -o a.json"),
    ("bash", "echo 'rm -rf /' # as data\npip install numpy && python3 -c 'print(1)'"),
    ("sh", "test -f a && cat a || echo none"),
    ("javascript", "const fs = require('fs'); console.log(fs.readdirSync('.').map(x => x.length))"),
    ("rust", "use std::collections::HashMap;\nfn main() { let mut m = HashMap::new(); m.insert(1, 2); println!(\"{:?}\", m); }"),
    ("go", "package main\n\nimport (\n\t\"fmt\"\n\t\"os/exec\"\n)\n\nfunc main() {\n\tout, _ := exec.Command(\"ls\").Output()\n\tfmt.Println(string(out))\n}\n"),
]  # fmt: skip


@pytest.mark.parametrize(("language", "code"), ORDINARY)
async def test_ordinary_code_is_allowed_without_a_word(judge: SafetyJudge, language: str, code: str) -> None:
    assert await judge.judge(code, language) == Verdict("allow")


async def test_a_finding_says_where_in_characters_however_many_bytes_stand_before(judge: SafetyJudge) -> None:
    code = "x = '\U0001f600\u00e9\u4e2d'\n\nimport shutil; shutil.rmtree('/')"

    verdict = await judge.judge(code, "python")

    assert [code[each.start : each.end] for each in verdict.findings] == ["shutil.rmtree('/')"]


async def test_what_cannot_be_parsed_is_said_to_be_unparsed_and_never_allowed(judge: SafetyJudge) -> None:
    for code, language in (
        ("x = = 1", "python"),
        ("if [ 1 ]; then", "bash"),
        ("let = {", "javascript"),
        ("fn main( {", "rust"),
        ("func {", "go"),
    ):
        verdict = await judge.judge(code, language)
        assert verdict.decision == "warn", (code, verdict)
        assert [each.rule for each in verdict.findings] == ["unparsed"]
    verdict = await judge.judge("x = = 1\nos.system('x')", "python")
    assert verdict.decision == "block"


def _within(code: str, language: str, times: int) -> str:
    """Code in a string of code, in a string of code, .."""
    wrap = {
        "python": lambda code: f"exec({code!r})",
        "bash": lambda code: f"bash -c {shlex.quote(code)}",
        "sh": lambda code: f"echo $( {code} )",
        "javascript": lambda code: f"eval({json.dumps(code)})",
    }[language]
    for _ in range(times):
        code = wrap(code)
    return code


@pytest.mark.parametrize(
    ("language", "harm", "harmless"),
    [
        ("python", "import os\nos.system('rm -rf /')", "print(1)"),
        ("bash", "rm -rf /", "ls"),
        ("sh", "bash -c 'rm -rf /'", "ls"),
        ("javascript", "require('child_process').execSync('rm -rf /')", "console.log(1)"),
    ],
)
async def test_code_that_stands_in_code_too_many_times_is_not_allowed_unread(
    judge: SafetyJudge, language: str, harm: str, harmless: str
) -> None:
    assert (await judge.judge(_within(harmless, language, 3), language)).decision == "allow"
    for times in (1, 4, 7, 9):
        assert (await judge.judge(_within(harm, language, times), language)).decision == "block", times


@pytest.mark.parametrize(
    "code",
    [
        "bash -c '{pad}{harm}'",
        "bash -c '{pad}'\"{harm}\"",
        "bash <<'END'\n{pad}{harm}\nEND",
        "echo '{pad}{harm}' | sh",
        "a='{pad}{harm}'\neval \"$a\"",
        "cat > f.sh <<'END'\n{pad}{harm}\nEND\nsh f.sh",
    ],
)
async def test_what_stands_behind_a_long_text_that_a_shell_runs_is_read_too(
    judge: SafetyJudge, code: str
) -> None:
    pad = ": nothing\n" * 7_000

    assert (await judge.judge(code.format(pad=pad, harm="rm -rf /"), "bash")).decision == "block"
    assert (await judge.judge(code.format(pad=pad, harm="ls"), "bash")).decision == "allow"


async def test_code_that_is_too_long_or_of_no_known_language_is_blocked_unread() -> None:
    small = SafetyJudge(most_bytes=10_000)
    try:
        assert (await small.judge("#" * 10_000, "python")).decision == "allow"
        long = await small.judge("\u00e9" * 5_001, "python")
        unknown = await small.judge("x", "cobol")
    finally:
        await small.close()

    assert (long.decision, long.findings[0].rule) == ("block", "length")
    assert "10,002 bytes" in long.findings[0].message
    assert (unknown.decision, unknown.findings[0].rule) == ("block", "language")
    with pytest.raises(InvalidArgument, match="most_bytes"):
        SafetyJudge(most_bytes=MOST_BYTES + 1)


async def test_nothing_of_what_is_judged_is_run(judge: SafetyJudge, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    line = f"open({str(mark)!r}, 'w').close()"
    for code in (
        f"@exec({line!r})\ndef f(): pass",
        f"class M(type):\n    def __prepare__(n, b): {line}\nclass X(metaclass=M): pass",
        f"def f(x: {line} = {line}): pass",
        f"eval(compile({line!r}, 'x', 'exec'))",
        f"import {tmp_path.name}\n{line}",
        "'a' * 10 ** 10",
        "9 ** 9 ** 9 ** 9",
    ):
        await judge.judge(code, "python")
    await judge.judge(f"touch {mark}; $(touch {mark})", "bash")
    await judge.judge(f"require('fs').writeFileSync({str(mark)!r}, '')", "javascript")

    assert not mark.exists()


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_megabyte_of_hostile_text_is_over_soon_and_the_host_goes_on_meanwhile(
    judge: SafetyJudge, name: str
) -> None:
    text, language = HOSTILE[name]
    await judge.judge("1", language)
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0)
            longest = max(longest, time.perf_counter() - began)

    watching = asyncio.ensure_future(watch())
    began = time.perf_counter()
    try:
        verdict = await judge.judge(text[: 1 << 20], language)
    finally:
        watching.cancel()
    seconds = time.perf_counter() - began

    assert seconds < 1.5 * 3, "1.5 s, with room for a machine at work"
    assert longest < 0.5
    assert verdict.decision in ("allow", "warn", "block")
    assert (await judge.judge("print(2)", "python")).decision == "allow", "the next one is judged"


async def test_a_reader_that_dies_gives_no_verdict_of_allow_and_another_takes_its_place(
    judge: SafetyJudge,
) -> None:
    await judge.judge("1", "python")
    process = judge._idle[0]._process
    assert process is not None
    process.kill()
    process.wait()

    verdict = await judge.judge("print(3)", "python")

    assert (verdict.decision, verdict.findings[0].rule) == ("block", "unread")
    assert (await judge.judge("print(4)", "python")).decision == "allow"


async def test_many_at_once_are_all_judged(judge: SafetyJudge) -> None:
    codes = [f"import shutil; shutil.rmtree('/')  # {n}" if n % 2 else f"print({n})" for n in range(60)]

    verdicts = await asyncio.gather(*(judge.judge(code, "python") for code in codes))

    assert [each.decision for each in verdicts] == ["allow", "block"] * 30


def test_a_rule_that_is_not_well_formed_is_refused_when_it_is_loaded() -> None:
    head = "[patterns]\n[[rule]]\nid = 'a'\nclass = 'c'\nmatch = 'call'\nmessage = 'm'\nadvice = 'a'\n"
    with pytest.raises(ValueError, match="unknown fields"):
        RuleSet(f"{head}severity = 'high'\nnonsense = 1\n")
    with pytest.raises(ValueError, match="no severity"):
        RuleSet(f"{head}severity = 'awful'\n")
    with pytest.raises(ValueError, match="one id"):
        RuleSet(f"{head}severity = 'high'\n" + head.removeprefix("[patterns]\n") + "severity = 'low'\n")


def test_every_rule_says_what_is_wrong_and_what_to_do() -> None:
    for rule in rule_set().rules:
        assert rule.message.endswith("."), rule.id
        assert rule.advice.endswith("."), rule.id
        assert rule.names or rule.regex or rule.sets or rule.match == "unparsed", rule.id
