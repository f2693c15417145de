"""The guard: what a verdict is made of, and what it does to a run, an execution and a session."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.core.values import ExecutionResult, Finding, Verdict
from terraphim_rlm.guard.default import make_guard
from terraphim_rlm.guard.judging import MOST_FINDINGS, Guard, joined, refusal, runs
from terraphim_rlm.guard.safety import process

pytestmark = pytest.mark.anyio
SEVERE = Finding("a", "high", 0, 2, "It is bad.", "Do not.")
MILD = Finding("b", "medium", 1, 2, "It is odd.")


class Says:
    """A judge of one word."""

    def __init__(self, *verdicts: Verdict) -> None:
        self.verdicts = list(verdicts)
        self.asked: list[tuple[str, str]] = []
        self.closed = 0

    async def judge(self, code: str, language: str) -> Verdict:
        self.asked.append((code, language))
        return self.verdicts[0]

    def warm(self) -> None:
        self.asked.append(("warm", ""))

    async def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize(
    ("decisions", "worst"),
    [
        (["allow", "allow"], "allow"),
        (["allow", "warn"], "warn"),
        (["ask", "warn"], "ask"),
        (["block", "ask", "allow"], "block"),
    ],
)
async def test_the_worst_decision_of_all_judges_wins_and_every_finding_is_kept(
    decisions: list[Any], worst: str
) -> None:
    judges = [Says(Verdict(each, (MILD,))) for each in decisions]

    verdict = await Guard(judges).verdict("x", "python")

    assert verdict.decision == worst
    assert len(verdict.findings) == len(decisions)
    assert [judge.asked for judge in judges] == [[("x", "python")]] * len(decisions)


async def test_warn_lets_run_what_block_would_not_and_off_asks_nobody() -> None:
    judge = Says(Verdict("block", (SEVERE,)))
    guard = Guard([judge])

    assert not runs(await guard.verdict("x", "bash"))
    assert await guard.in_mode("warn").verdict("x", "bash") == Verdict("warn", (SEVERE,))
    asked = len(judge.asked)
    assert await guard.in_mode("off").verdict("x", "bash") == Verdict("allow")
    assert len(judge.asked) == asked


def test_a_verdict_of_ask_that_nobody_answered_is_a_no() -> None:
    assert [runs(Verdict(each)) for each in ("allow", "warn", "ask", "block")] == [True, True, False, False]  # type: ignore[arg-type]


def test_the_gravest_findings_are_kept_where_there_are_too_many() -> None:
    many = Verdict("warn", (MILD,) * MOST_FINDINGS)

    found = joined([many, Verdict("block", (SEVERE,))])

    assert len(found.findings) == MOST_FINDINGS
    assert SEVERE in found.findings


def test_a_refusal_names_the_rule_the_line_what_stands_there_and_the_advice() -> None:
    code = "import os\nos.remove('/x')"

    told = refusal(code, Verdict("block", (Finding("r1", "high", 10, 25, "It is bad.", "Do not."),)))

    assert "line 2, `os.remove('/x')`: It is bad. [r1] Do not." in told
    assert "nothing of it was executed" in told


def test_a_mode_that_there_is_not_is_refused_by_name() -> None:
    with pytest.raises(InvalidArgument, match="no mode 'loud'"):
        Guard([], "loud")  # type: ignore[arg-type]


async def test_a_guard_that_is_entered_warms_its_judges_and_closes_them() -> None:
    judge = Says(Verdict("allow"))

    async with Guard([judge]):
        assert judge.asked == [("warm", "")]

    assert judge.closed == 1


def test_a_result_carries_its_verdict_through_json() -> None:
    result = ExecutionResult("exec-1", "blocked", verdict=Verdict("block", (SEVERE,)))

    assert ExecutionResult.from_json(result.to_json()).verdict == result.verdict


async def test_without_room_for_a_process_code_is_blocked_unread_and_read_once_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    guard = make_guard()
    with monkeypatch.context() as patched:
        patched.setattr(process, "start", full)
        guard.warm()
        verdict = await guard.verdict("print(1)", "python")
    assert verdict.decision == "block"
    assert "Too many open files" in verdict.findings[0].message
    assert (await guard.verdict("print(1)", "python")).findings != verdict.findings
    await guard.close()
