"""The guard: judges that look at code before it runs, and what their verdicts come to.

It is advice on top of isolation: the sandbox is the boundary, and what no judge knows runs in it all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol, Self, get_args

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.core.values import ExecutionResult, Finding, Verdict
from terraphim_rlm.guard.asking import Asking
from terraphim_rlm.guard.hooks import Hooks

if TYPE_CHECKING:
    from terraphim_rlm.guard.kg.library import Library

GuardMode = Literal["block", "warn", "off"]
"""`block`: what a judge would not let run does not run. `warn`: it runs, and the findings are told. `off`: nobody looks."""
_RANKS = {"allow": 0, "warn": 1, "ask": 2, "block": 3}
RETRIES = 3
"""In a row that a model has to write code in known words."""
VOCABULARY = "kg."
"""How the rules of a knowledge graph begin."""
MOST_FINDINGS = 100
"""Of one verdict; the gravest are kept."""
_SEVERITIES = {"info": 0, "low": 1, "medium": 2, "high": 3, "critical": 4}
_NOTHING = Verdict("allow")


class Judge(Protocol):
    """Says one thing about code: whether it does harm, or whether it speaks the domain's language."""

    async def judge(self, code: str, language: str) -> Verdict:
        """Its verdict; it never runs, imports or compiles `code`.

        Args:
            language: canonical name of one (`sandbox.languages`), or `sh`.
        """
        ...

    def warm(self) -> None:
        """Gets ready ahead of the first verdict; returns at once."""
        ...

    async def close(self) -> None:
        """Lets go of what it holds. It may be asked again afterwards."""
        ...


def joined(verdicts: Sequence[Verdict]) -> Verdict:
    """Several verdicts as one: the worst decision, and all findings, the gravest first where there are too many."""
    worst = max(verdicts, key=lambda verdict: _RANKS[verdict.decision], default=_NOTHING)
    findings = [finding for verdict in verdicts for finding in verdict.findings]
    if len(findings) > MOST_FINDINGS:
        findings.sort(key=lambda finding: -_SEVERITIES[finding.severity])
    return Verdict(worst.decision, tuple(findings[:MOST_FINDINGS]))


def check_mode(mode: str) -> GuardMode:
    """Raises:
    InvalidArgument: it is none.
    """
    for known in get_args(GuardMode):
        if mode == known:
            return known  # type: ignore[no-any-return]
    raise InvalidArgument(
        f"The guard has no mode {str(mode)[:40]!r}.",
        fix=f"Use one of: {', '.join(get_args(GuardMode))}.",
        name="guard",
    )


class Guard:
    """A chain of judges, all of which are heard; the worst decision wins. Entered, it warms up; left, it closes.

    Args:
        judges: shared with every other guard made of this one by `in_mode`.
        mode: see `GuardMode`.
        asking: whom to ask where a verdict or a hook asks; None = nobody, and so no.
        retries: in a row that a model has after code in unknown words, before a person is asked.
        hooks: heard before the judges, and at three more points; see `guard.hooks`.
    """

    def __init__(
        self,
        judges: Sequence[Judge],
        mode: GuardMode = "block",
        *,
        asking: Asking | None = None,
        retries: int = RETRIES,
        hooks: Hooks | None = None,
    ) -> None:
        if type(retries) is not int or not 0 <= retries <= 1_000:
            raise InvalidArgument(
                f"retries must be a whole number from 0 to 1,000, not {retries!r}.", name="retries"
            )
        self._judges = tuple(judges)
        self.mode = check_mode(mode)
        self.asking = asking
        self.retries = retries
        self.hooks = Hooks() if hooks is None else hooks

    def in_mode(self, mode: GuardMode) -> Guard:
        """The same judges and hooks, heard in another mode."""
        if mode == self.mode:
            return self
        return Guard(self._judges, mode, asking=self.asking, retries=self.retries, hooks=self.hooks)

    @property
    def library(self) -> Library | None:
        """The knowledge graph that code is held to, if there is one."""
        libraries = (getattr(judge, "library", None) for judge in self._judges)
        return next((library for library in libraries if library is not None), None)

    @property
    def strictness(self) -> str | None:
        """How strictly code is held to that graph."""
        stricts = (getattr(judge, "strict", None) for judge in self._judges)
        return next((strict.strictness for strict in stricts if strict is not None), None)

    async def verdict(self, code: str, language: str) -> Verdict:
        """What becomes of `code`: in mode `warn`, what would be blocked or asked about is let run with its findings."""
        if self.mode == "off":
            return _NOTHING
        found = joined([await judge.judge(code, language) for judge in self._judges])
        if self.mode == "warn" and _RANKS[found.decision] > _RANKS["warn"]:
            return Verdict("warn", found.findings)
        return found

    def warm(self) -> None:
        """Gets the judges ready ahead of the first verdict; returns at once."""
        if self.mode != "off":
            for judge in self._judges:
                judge.warm()

    async def __aenter__(self) -> Self:
        self.warm()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends what the judges hold, such as their processes."""
        for judge in self._judges:
            await judge.close()


def is_of_vocabulary(verdict: Verdict) -> bool:
    """Whether nothing but unknown words speaks against code: what writing it in other words, or a person, can mend."""
    rules = [each for each in verdict.findings if each.rule.startswith(VOCABULARY)]
    graver = any(_SEVERITIES[each.severity] > _SEVERITIES["medium"] for each in verdict.findings)
    return verdict.decision == "block" and bool(rules) and not graver


def runs(verdict: Verdict) -> bool:
    """Whether the code may run. Nobody is asked here: a verdict of `ask` that reaches this point is a no."""
    return verdict.decision in ("allow", "warn")


def blocked(code: str, verdict: Verdict | None, backend: str) -> ExecutionResult | None:
    """None when the code may run, else the result that says why not."""
    if verdict is None or runs(verdict):
        return None
    return ExecutionResult("", "blocked", stderr=refusal(code, verdict), backend=backend, verdict=verdict)


def refusal(code: str, verdict: Verdict) -> str:
    """Why code was not run, for whoever wrote it: rule, line, what stands there, what is wrong and what to do."""
    lines = ["Blocked before it ran; nothing of it was executed."]
    graver = sorted(verdict.findings, key=lambda each: -_SEVERITIES[each.severity])
    lines += [_told(code, finding) for finding in graver[:5]]
    if len(graver) > 5:
        lines.append(f"- and {len(graver) - 5} more")
    if not verdict.findings:
        lines.append("A rule of this run forbids it.")
    return "\n".join(lines) + "\n"


def _told(code: str, finding: Finding) -> str:
    line = code.count("\n", 0, finding.start) + 1
    there = " ".join(code[finding.start : finding.end].split())
    shown = there if len(there) <= 80 else f"{there[:77]}..."
    advice = f" {finding.suggestion}" if finding.suggestion else ""
    return f"- line {line}, `{shown}`: {finding.message} [{finding.rule}]{advice}"
