"""The evasion corpus: every sample really runs, in a sandbox, and the rules find what they are said to find."""

from __future__ import annotations

import shutil
from collections import Counter

import pytest

from terraphim_rlm import open_sandbox
from terraphim_rlm.guard.safety.judge import SafetyJudge
from terraphim_rlm.guard.safety.rules import rule_set
from terraphim_rlm.testing.bench.safety import is_found
from terraphim_rlm.testing.corpora.benign import draw
from terraphim_rlm.testing.corpora.corpus import samples
from terraphim_rlm.testing.corpora.running import RUN_HERE, unrun

pytestmark = pytest.mark.anyio


@pytest.mark.sandbox
@pytest.mark.timeout(600)
@pytest.mark.parametrize("language", RUN_HERE)
async def test_every_sample_does_its_deed_in_a_sandbox_and_the_sandbox_lives_on(language: str) -> None:
    program = {"python": "python3", "bash": "bash", "javascript": "node"}[language]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not here")
    async with open_sandbox() as box:
        failed = await unrun(box, [each for each in samples() if each.language == language])
        after = await box.run("print(40 + 2)")

    # Programs that a small machine may lack.
    lacking = {key: why for key, why in failed.items() if "not found" in why or "No module named" in why}
    assert failed.keys() <= lacking.keys(), failed
    assert len(lacking) <= 10, lacking
    assert after.stdout == "42\n", "what ran is contained"


async def test_nine_of_ten_evasions_are_found_where_they_are_and_by_the_class_of_their_harm() -> None:
    judge = SafetyJudge()
    try:
        found = [is_found(each, await judge.judge(each.code, each.language)) for each in samples()]
    finally:
        await judge.close()

    assert len(found) >= 120
    assert sum(found) / len(found) >= 0.9


async def test_programs_that_do_no_harm_are_let_through() -> None:
    judge = SafetyJudge()
    programs, packages = draw(programs=120)
    try:
        decisions = Counter([(await judge.judge(each.code, "python")).decision for each in programs])
    finally:
        await judge.close()

    assert len(programs) == 120
    assert packages
    assert decisions["allow"] >= 0.95 * len(programs), decisions


def test_every_class_that_a_sample_names_has_rules_and_every_sample_a_payload() -> None:
    classes = {rule.kind for rule in rule_set().rules}

    assert {each.harm for each in samples()} <= classes
    assert all(each.start < each.end <= len(each.code) for each in samples())
    assert len({each.code for each in samples()}) == len(samples())
